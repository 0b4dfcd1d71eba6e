#include "node/database_key.hpp"

#include "base/assert.hpp"
#include "store/scan.hpp"

namespace gyre {

namespace {

std::string head_of(unsigned database) {
  std::string head(database_prefix);
  head.push_back(static_cast<char>(database));
  return head;
}

}  // namespace

std::string_view stored_key_in(unsigned database, std::string_view key, std::string& room) {
  GYRE_ASSERT(database < database_count);
  if (database == 0 && !has_database_prefix(key)) return key;
  room.clear();
  room.reserve(database_head_bytes + key.size());
  room.append(database_prefix);
  room.push_back(static_cast<char>(database));
  room.append(key);
  return room;
}

unsigned database_of_stored(std::string_view stored) {
  if (!has_database_prefix(stored) || stored.size() < database_head_bytes) return 0;
  const auto number = static_cast<unsigned char>(stored[database_prefix.size()]);
  return number < database_count ? number : 0;
}

StoredRange stored_range_of(unsigned database) {
  if (database == 0) return {};
  return {head_of(database), head_of(database + 1)};
}

void leave_out_databases(Scan& scan) {
  scan.leave_out(head_of(1), head_of(database_count));
}

}  // namespace gyre
