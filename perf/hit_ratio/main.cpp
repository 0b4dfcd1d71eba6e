// hit_ratio [--keys N] [--requests N] [--seed N]
//
// Prints, as a table, how often the proxy's cache has what is asked for, in percent of requests, with
// S3-FIFO and with LRU, beside the most that any policy could have, for several sequences of keys
// and room for 0.1, 1 and 10 % of the keys.
#include <fmt/format.h>

#include <charconv>
#include <cstdio>
#include <string_view>

#include "hit_ratio/replay.hpp"
#include "hit_ratio/sequences.hpp"

namespace {

using namespace gyre;
using namespace gyre::hit_ratio;

constexpr unsigned rooms_permille[] = {1, 10, 100};

template <class Number>
bool read(std::string_view text, Number& to) {
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), to);
  return parsed.ec == std::errc() && parsed.ptr == text.data() + text.size() && to > 0;
}

bool read_options(int argc, char** argv, SequenceOptions& options) {
  for (int i = 1; i < argc; i += 2) {
    const std::string_view name = argv[i];
    const std::string_view value = i + 1 < argc ? argv[i + 1] : "";
    const bool known = name == "--keys"       ? read(value, options.keys) && options.keys >= 1000
                       : name == "--requests" ? read(value, options.requests)
                       : name == "--seed"     ? read(value, options.seed)
                                              : false;
    if (!known || options.keys > 1'000'000'000) return false;
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  SequenceOptions options;
  if (!read_options(argc, argv, options)) {
    fmt::print(stderr, "usage: hit_ratio [--keys N] [--requests N] [--seed N]\n");
    return 2;
  }
  fmt::print("{} keys, {} requests, of which the second half counts; S3-FIFO · LRU · MIN, %\n\n",
             options.keys, options.requests);
  fmt::print("| keys asked for | room for 0.1 % | 1 % | 10 % |\n|---|---|---|---|\n");
  for (size_t i = 0; i < sequence_count(); ++i) {
    const Sequence sequence = make_sequence(i, options);
    fmt::print("| {} |", sequence.name);
    for (const unsigned permille : rooms_permille) {
      const size_t room = size_t{options.keys} * permille / 1000;
      fmt::print(" {:.1f} · {:.1f} · {:.1f} |",
                 100 * replay(sequence.keys, room, proxy::Eviction::s3_fifo),
                 100 * replay(sequence.keys, room, proxy::Eviction::lru),
                 100 * replay_min(sequence.keys, room));
      std::fflush(stdout);
    }
    fmt::print("\n");
  }
  return 0;
}
