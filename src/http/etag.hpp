// Entity tags: the version of a value as `"<hlc, 16 hex digits><origin, 16 hex digits>"`, a strong
// validator (RFC 9110 8.8.3).
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

#include <gyre/version.hpp>

namespace gyre::http {

inline constexpr size_t etag_bytes = 34;  // with the quotes

// Writes exactly etag_bytes and returns their end.
char* write_etag(char* out, Version version);

// The opaque part between the quotes.
std::optional<Version> parse_etag(std::string_view opaque);

// Whether an If-None-Match field names `version`, so that GET and HEAD answer 304: a list of tags,
// compared weakly, or `*`, which any stored value matches (RFC 9110 13.1.2). What is no list of
// tags matches nothing: the answer is then the whole value, which is never wrong.
bool if_none_match_matches(std::string_view field, Version version);

}  // namespace gyre::http
