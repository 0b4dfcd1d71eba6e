// How long what the origin says may be served, by how a key begins.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <gyre/backend.hpp>
#include <gyre/result.hpp>

#include "proxy/cache.hpp"

namespace gyre::proxy {

struct Policy {
  std::string prefix;  // of the keys that it is for; "": all others
  bool cached = true;
  Nanos ttl_max = seconds(10);      // whatever the origin says
  Nanos negative_ttl = seconds(1);  // of a key that the origin hasn't
  Nanos revalidate = 0;             // after that: served while it is fetched anew
  Nanos on_error = 0;               // after ttl_max: served if the origin does not answer
};

// What a Policy says of one answer. Never longer than the origin's own time to live, which was
// asked at `asked_at`: `origin_ttl_ms`, negative for none. Up to a tenth shorter, by `random`, so
// that what came together doesn't go together.
Lifetime lifetime_of(const Policy& policy, bool negative, int64_t origin_ttl_ms, Nanos asked_at,
                     Nanos now, uint64_t random);

// The longest prefix wins.
class Policies {
 public:
  explicit Policies(Policy others, std::vector<Policy> by_prefix = {});
  const Policy& of(std::string_view key) const;

 private:
  std::vector<Policy> by_prefix_;  // longest first
  Policy others_;
};

// "PREFIX[,ttl-ms=N][,negative-ttl-ms=N][,revalidate-ms=N][,on-error-ms=N][,cache=on|off]", several
// of them with ';' between. What isn't said is as in `others`. A comma or semicolon in a prefix is
// written %2C or %3B, a percent sign %25.
Result<std::vector<Policy>> parse_policies(std::string_view text, const Policy& others);
std::string format_policies(const std::vector<Policy>& policies, const Policy& others);

}  // namespace gyre::proxy
