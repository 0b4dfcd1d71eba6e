// Paths, query parameters and percent-encoding (RFC 3986 2.1), without allocation.
//
// In a query '+' stands for a space, as the reference services' server decodes it (and HTML forms
// encode it); a literal plus is %2B. In a path '+' is a plus. A '%' that two hexadecimal digits
// don't follow is an error everywhere, also in parameters nobody asked for.
//
// A known parameter that is given twice is an error: which one a proxy in front of us looked at is
// anybody's guess. Unknown ones are ignored. Names are compared as they stand, not decoded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace gyre::http {

enum class Plus : uint8_t { is_plus, is_space };

struct Decoded {
  enum class Status : uint8_t { ok, malformed, too_long };
  Status status = Status::ok;
  std::string_view text;
};
// The text is a view of `raw` if there is nothing to decode, else of the front of `scratch`;
// too_long means that it doesn't fit there. It is never longer than `raw`.
Decoded percent_decode(std::string_view raw, std::span<char> scratch, Plus plus);

// Whether every '%' has its two digits.
bool is_well_encoded(std::string_view raw);

// Walks through `a=1&b&c=`; empty pieces (`&&`) are skipped.
class QueryWalk {
 public:
  explicit QueryWalk(std::string_view query) : rest_(query) {}

  // False at the end. Name and value are still encoded; without '=' the value is empty.
  bool next(std::string_view& name, std::string_view& value);

 private:
  std::string_view rest_;
};

// Everything that /v0/entity and /v0/entities take. A parameter that was not given is nullopt; one
// that is given as `id=` is the empty string.
struct Parameters {
  enum class Scope : uint8_t { cluster, node };

  std::optional<std::string_view> id;
  std::optional<std::string_view> start;
  std::optional<std::string_view> end;
  std::optional<uint32_t> ack;
  std::optional<uint32_t> from;
  std::optional<uint64_t> ttl_ms;
  Scope scope = Scope::cluster;
};

// Decoded values are views of `query` or of `scratch`, which must hold them all: the keys (at most
// two, http_key_bytes_max each). An error is one line that says what was wrong.
struct ParametersResult {
  Parameters parameters;
  std::string_view error;
};
ParametersResult parse_parameters(std::string_view query, std::span<char> scratch);

inline constexpr size_t parameters_scratch_bytes = 2 * (64u << 10);

struct Replicas {
  uint32_t ack = 1;
  uint32_t from = 1;
  std::string_view error;
};
// Fills in the defaults (F = min(nodes, replication, 5), A = F/2+1) and checks
// 1 <= A <= F <= min(nodes, 5).
Replicas resolve_replicas(const Parameters& parameters, uint32_t nodes, uint32_t replication);

}  // namespace gyre::http
