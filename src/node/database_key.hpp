// How the keys of several databases (RESP's SELECT) lie in one store.
//
//   database 0        the key itself; if it begins with the prefix, prefix 00 key
//   database 1 … 15   prefix 01 … 0f, then the key
//
// So what HTTP shows, database 0, is stored as it is, in its own order, also the few keys that begin
// with the prefix: prefix 00 stands exactly where they would. No key that a client can name is one
// of another database, and those of one lie together.
#pragma once

#include <string>
#include <string_view>

#include "base/limits.hpp"

namespace gyre {

class Scan;

inline constexpr unsigned database_count = 16;
inline constexpr std::string_view database_prefix =
    "\xff"
    "db";
inline constexpr size_t database_head_bytes = 4;  // the prefix and the number
static_assert(limits::stored_key_bytes_max == limits::http_key_bytes_max + database_head_bytes);

inline bool has_database_prefix(std::string_view key) {
  return key.size() >= database_prefix.size() && key.front() == database_prefix.front() &&
         key.substr(0, database_prefix.size()) == database_prefix;
}

// Where `key` of a database is stored: nearly always `key` itself in database 0, else in `room`.
std::string_view stored_key_in(unsigned database, std::string_view key, std::string& room);
inline std::string_view stored_key(std::string_view key, std::string& room) {
  return has_database_prefix(key) ? stored_key_in(0, key, room) : key;
}

// The other way. Of a key with the prefix and no valid number behind it, which nobody stores through
// a node, the number is that of database 0 and the key the whole.
unsigned database_of_stored(std::string_view stored);
inline std::string_view key_of_stored(std::string_view stored) {
  if (!has_database_prefix(stored) || stored.size() < database_head_bytes) return stored;
  return stored.substr(database_head_bytes);
}

// All of a database: [start, end), where an empty end is none. That of database 0 has the others in
// it, which leave_out_databases() takes out.
struct StoredRange {
  std::string start;
  std::string end;
};
StoredRange stored_range_of(unsigned database);

// Before a scan of database 0's keys begins: it jumps over all other databases.
void leave_out_databases(Scan& scan);

}  // namespace gyre
