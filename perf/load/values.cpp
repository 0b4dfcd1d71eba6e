#include "load/values.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include "base/hash.hpp"

namespace gyre::load {

namespace {

static_assert(std::endian::native == std::endian::little);
constexpr size_t pool_bytes = 64u << 10;

// Bytes that don't compress, the same in every run.
const std::array<char, pool_bytes>& pool() {
  static const auto bytes = [] {
    std::array<char, pool_bytes> made;
    sim::Prng(42, "filler").fill(made.data(), made.size());
    return made;
  }();
  return bytes;
}

void fill(char* to, uint64_t size_bytes, uint64_t sequence) {
  size_t at = (sequence * 4099) % pool_bytes;
  while (size_bytes > 0) {
    const size_t piece = std::min<uint64_t>(size_bytes, pool_bytes - at);
    std::memcpy(to, pool().data() + at, piece);
    to += piece;
    size_bytes -= piece;
    at = 0;
  }
}

uint64_t check_of(std::string_view key, std::string_view behind_check) {
  return hash64(behind_check, hash64(key));
}

}  // namespace

uint64_t ValueSizes::draw(sim::Prng& random) const {
  switch (kind) {
    case Kind::fixed:
      return low;
    case Kind::uniform:
      return low + random.below(high - low + 1);
    case Kind::exponential: {
      const double unit = static_cast<double>((random.next() >> 11) + 1) * 0x1p-53;
      const double size = -std::log(unit) * static_cast<double>(low);
      return std::clamp(static_cast<uint64_t>(size), value_header_bytes, high);
    }
  }
  return low;
}

void write_value(char* to, uint64_t size_bytes, std::string_view key, uint64_t sequence) {
  if (size_bytes < value_header_bytes) return fill(to, size_bytes, sequence);
  std::memcpy(to + 8, &sequence, sizeof sequence);
  fill(to + value_header_bytes, size_bytes - value_header_bytes, sequence);
  const uint64_t check = check_of(key, {to + 8, size_bytes - 8});
  std::memcpy(to, &check, sizeof check);
}

ValueCheck check_value(std::string_view key, std::string_view value) {
  ValueCheck result;
  if (value.size() < value_header_bytes) return result;
  uint64_t check = 0;
  std::memcpy(&check, value.data(), sizeof check);
  std::memcpy(&result.sequence, value.data() + 8, sizeof result.sequence);
  result.right = check == check_of(key, value.substr(8));
  return result;
}

}  // namespace gyre::load
