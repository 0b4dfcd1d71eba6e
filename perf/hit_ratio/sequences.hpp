// Sequences of keys for hit ratios. Keys are numbers; popular ones lie scattered over the key space,
// as with gyre-load, whose distributions these are.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace gyre::hit_ratio {

struct Sequence {
  std::string name;
  std::vector<uint32_t> keys;
};

struct SequenceOptions {
  uint32_t keys = 1'000'000;
  size_t requests = 4'000'000;
  uint64_t seed = 1;
};

// Each is made when asked for, so that one at a time is in memory.
//   zipf s         Zipf with exponent s
//   zipf and scans two thirds zipf 0.99; between every 20,000 of them 10,000 keys that never come
//                  again
//   loop n %       n % of the keys in order, again and again
//   uniform        each key as likely as any other
//   shift          zipf 0.99 over the keys, whose order of popularity is another one after every
//                  tenth of the sequence
size_t sequence_count();
Sequence make_sequence(size_t index, const SequenceOptions& options);

}  // namespace gyre::hit_ratio
