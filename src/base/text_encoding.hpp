// Bytes as text: UTF-8 (RFC 3629), base64 (RFC 4648, 4), and strings of JSON documents.
#pragma once

#include <string>
#include <string_view>

namespace gyre {

bool is_utf8(std::string_view bytes) noexcept;

void append_base64(std::string& to, std::string_view bytes);

// With its quotes. `text` is UTF-8.
void append_json_string(std::string& to, std::string_view text);

}  // namespace gyre
