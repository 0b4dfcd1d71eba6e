#include "node/resp/scan_cursor.hpp"

#include <charconv>

#include "base/assert.hpp"

namespace gyre {

namespace {

constexpr uint64_t mark = uint64_t{1} << (ScanCursor::number_bits + ScanCursor::shard_bits);
constexpr uint64_t shards_max = uint64_t{1} << ScanCursor::shard_bits;

}  // namespace

uint64_t ScanCursor::encode() const {
  GYRE_ASSERT(shard < shards_max && number < numbers);
  return mark | uint64_t{shard} << number_bits | number;
}

std::optional<ScanCursor> ScanCursor::decode(uint64_t cursor) {
  if (cursor < mark || cursor >= 2 * mark) return {};
  const uint64_t rest = cursor - mark;
  return ScanCursor{static_cast<uint32_t>(rest >> number_bits), rest & (numbers - 1)};
}

std::optional<uint64_t> parse_cursor(std::string_view text) {
  uint64_t cursor = 0;
  const char* const end = text.data() + text.size();
  const auto [behind, error] = std::from_chars(text.data(), end, cursor);
  if (error != std::errc{} || behind != end) return {};
  return cursor;
}

uint64_t ScanPositions::remember(std::string_view key) {
  const uint64_t number = next_;
  next_ = next_ + 1 == ScanCursor::numbers ? 1 : next_ + 1;
  bytes_ += entry_bytes + key.size();
  keys_.insert_or_assign(number, std::string(key));
  order_.push_back(number);
  while (order_.size() > 1 && (order_.size() > count_max || bytes_ > bytes_max)) {
    const auto oldest = keys_.find(order_.front());
    bytes_ -= entry_bytes + oldest->second.size();
    keys_.erase(oldest);
    order_.pop_front();
  }
  return number;
}

const std::string* ScanPositions::find(uint64_t number) const {
  const auto at = keys_.find(number);
  return at == keys_.end() ? nullptr : &at->second;
}

}  // namespace gyre
