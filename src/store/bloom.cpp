#include "store/bloom.hpp"

#include "base/hash.hpp"

namespace gyre {

namespace {

struct Probe {
  uint64_t line;
  uint64_t bits;  // the next 9 are at the top
};

Probe probe_of(uint64_t hash, uint64_t line_count) {
  return {((hash >> 32) * line_count) >> 32, (hash ^ (hash >> 29)) * 0x9e3779b97f4a7c15};
}

}  // namespace

uint64_t bloom_hash(std::string_view key) noexcept {
  return hash64(key);
}

size_t BloomBuilder::filter_bytes() const {
  const size_t bits = hashes_.size() * bits_per_key_;
  return (bits + bloom_line_bytes * 8 - 1) / (bloom_line_bytes * 8) * bloom_line_bytes;
}

void BloomBuilder::finish(std::string& out) {
  const size_t start = out.size();
  const size_t line_count = filter_bytes() / bloom_line_bytes;
  out.resize(start + line_count * bloom_line_bytes, '\0');
  char* const lines = out.data() + start;
  for (const uint64_t hash : hashes_) {
    Probe probe = probe_of(hash, line_count);
    char* const line = lines + probe.line * bloom_line_bytes;
    for (unsigned i = 0; i < bloom_probe_count; ++i, probe.bits <<= 9) {
      const uint64_t bit = probe.bits >> 55;
      line[bit / 8] = static_cast<char>(line[bit / 8] | (1 << (bit % 8)));
    }
  }
  hashes_.clear();
}

bool bloom_may_contain(std::string_view lines, uint64_t hash) noexcept {
  if (lines.empty()) return true;
  Probe probe = probe_of(hash, lines.size() / bloom_line_bytes);
  const char* const line = lines.data() + probe.line * bloom_line_bytes;
  for (unsigned i = 0; i < bloom_probe_count; ++i, probe.bits <<= 9) {
    const uint64_t bit = probe.bits >> 55;
    if ((line[bit / 8] & (1 << (bit % 8))) == 0) return false;
  }
  return true;
}

}  // namespace gyre
