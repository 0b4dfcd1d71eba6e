// Keys as clients name them and as they are stored.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/hash.hpp"
#include "base/limits.hpp"
#include "node/database_key.hpp"
#include "node/resp/invocation.hpp"

namespace gyre {

inline constexpr std::string_view empty_key_in_cluster =
    "ERR a cluster does not store the empty key: name it";
inline constexpr std::string_view key_too_long = "ERR the key is longer than 65536 bytes";

// Where a key of the client's database is stored; a view of `key`, or of `room`.
inline std::string_view stored_key_of(const RespClient& client, std::string_view key,
                                      std::string& room) {
  if (client.database == 0) return stored_key(key, room);
  return stored_key_in(client.database, key, room);
}

inline bool is_key(std::string_view key) {
  return key.size() <= limits::http_key_bytes_max;
}

}  // namespace gyre
