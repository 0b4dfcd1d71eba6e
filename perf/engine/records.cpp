#include "engine/records.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/assert.hpp"
#include "base/hash.hpp"

namespace gyre::engine {

namespace {

constexpr size_t pool_bytes = 1u << 20;

// Bytes that don't compress, the same in every run.
const std::vector<char>& pool() {
  static const auto bytes = [] {
    std::vector<char> made(pool_bytes);
    sim::Prng(42, "engine filler").fill(made.data(), made.size());
    return made;
  }();
  return bytes;
}

void fill(char* to, size_t size_bytes, size_t random_bytes, uint64_t sequence) {
  size_t at = (sequence * 40'961) % pool_bytes;
  random_bytes = std::min(random_bytes, size_bytes);
  for (size_t done = 0; done < random_bytes; at = 0) {
    const size_t piece = std::min(random_bytes - done, pool_bytes - at);
    std::memcpy(to + done, pool().data() + at, piece);
    done += piece;
  }
  for (size_t done = random_bytes; done < size_bytes;) {
    const size_t piece = std::min(size_bytes - done, random_bytes);
    std::memcpy(to + done, to, piece);
    done += piece;
  }
}

}  // namespace

void write_key(char* to, uint64_t number) {
  for (size_t i = key_bytes; i-- > 0; number /= 10) to[i] = static_cast<char>('0' + number % 10);
}

std::optional<uint64_t> read_key(std::string_view key) {
  if (key.size() != key_bytes) return std::nullopt;
  uint64_t number = 0;
  for (const char digit : key) {
    if (digit < '0' || digit > '9') return std::nullopt;
    number = number * 10 + static_cast<uint64_t>(digit - '0');
  }
  return number;
}

void write_value(char* to, size_t size_bytes, uint64_t key_number, uint64_t sequence) {
  GYRE_ASSERT(size_bytes >= value_header_bytes);
  std::memcpy(to + 8, &sequence, sizeof sequence);
  std::memcpy(to + 16, &key_number, sizeof key_number);
  // The check is random too.
  const size_t random_bytes = std::max<size_t>(size_bytes / 2, 16) - 8;
  fill(to + value_header_bytes, size_bytes - value_header_bytes, random_bytes, sequence);
  const uint64_t check = hash64({to + 8, size_bytes - 8});
  std::memcpy(to, &check, sizeof check);
}

bool is_value_of(std::string_view value, size_t size_bytes, uint64_t key_number) {
  if (value.size() != size_bytes || size_bytes < value_header_bytes) return false;
  uint64_t check = 0;
  uint64_t number = 0;
  std::memcpy(&check, value.data(), sizeof check);
  std::memcpy(&number, value.data() + 16, sizeof number);
  return number == key_number && check == hash64(value.substr(8));
}

}  // namespace gyre::engine
