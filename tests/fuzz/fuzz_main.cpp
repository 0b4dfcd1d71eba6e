// A plain driver for a fuzz target: mutates the target's seeds, the same way for the same
// numbers. Options are those of libFuzzer that both understand:
//   -runs=N            inputs to try (default 20000)
//   -seed=N            (default 1)
//   -max_total_time=S  seconds after which to stop early (default 0: never)
//   FILE…              instead: try just these inputs
// Before each try the input is kept in memory; when the target aborts, it is written to
// fuzz-crash-<run>.bin in the working directory, to be given back as FILE.
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <string_view>

#include "fuzz.hpp"

namespace {

std::string current_input;
unsigned long current_run = 0;

// Writing a file in a signal handler is not clean; the process is lost already and the input is
// all that matters.
void save_input(int signal_number) {
  std::signal(signal_number, SIG_DFL);
  const std::string name = "fuzz-crash-" + std::to_string(current_run) + ".bin";
  std::ofstream(name, std::ios::binary) << current_input;
  std::fprintf(stderr, "fuzz: the input is in %s\n", name.c_str());
  std::raise(signal_number);
}

void try_input(const std::string& input) {
  current_input = input;
  // An exact-size heap copy, so that a sanitizer sees one byte too far.
  std::vector<uint8_t> bytes(input.begin(), input.end());
  LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
}

class Mutator {
 public:
  explicit Mutator(uint64_t seed) : random_(seed) {}

  std::string next(const std::vector<std::string>& seeds) {
    std::string input = seeds[below(seeds.size())];
    for (size_t steps = 1 + below(8); steps > 0; --steps) step(input, seeds);
    return input;
  }

 private:
  size_t below(size_t limit) { return static_cast<size_t>(random_() % limit); }

  void step(std::string& input, const std::vector<std::string>& seeds) {
    static constexpr uint64_t telling[] = {0,          1,          0x7f,         0x80,
                                           0xff,       0x7fff,     0xffff,       0x7fffffff,
                                           0x80000000, 0xffffffff, ~uint64_t{0}, uint64_t{1} << 63};
    const size_t at = input.empty() ? 0 : below(input.size());
    const size_t size = input.empty() ? 0 : 1 + below(std::min<size_t>(input.size() - at, 64));
    switch (below(8)) {
      case 0:  // flip a bit
        if (!input.empty()) input[at] = static_cast<char>(input[at] ^ (1 << below(8)));
        break;
      case 1:  // another byte
        if (!input.empty()) input[at] = static_cast<char>(random_());
        break;
      case 2: {  // a number that tends to be mishandled
        const uint64_t number = telling[below(std::size(telling))];
        const size_t width = size_t{1} << below(4);
        if (input.size() - at >= width) std::memcpy(input.data() + at, &number, width);
        break;
      }
      case 3:
        input.erase(at, size);
        break;
      case 4:
        input.insert(at, input.substr(at, size));
        break;
      case 5:
        input.insert(at, 1 + below(16), static_cast<char>(random_()));
        break;
      case 6:
        input.resize(at);
        break;
      case 7: {  // the rest of another seed
        const std::string& other = seeds[below(seeds.size())];
        if (!other.empty()) input.replace(at, std::string::npos, other, below(other.size()));
        break;
      }
    }
  }

  std::mt19937_64 random_;
};

}  // namespace

int main(int argc, char** argv) {
  unsigned long runs = 20000;
  unsigned long seed = 1;
  unsigned long seconds_max = 0;  // none
  std::vector<std::string> files;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    const auto number = [&](std::string_view name, unsigned long& out) {
      if (!argument.starts_with(name)) return false;
      out = std::strtoul(argv[i] + name.size(), nullptr, 10);
      return true;
    };
    if (number("-runs=", runs) || number("-seed=", seed) || number("-max_total_time=", seconds_max))
      continue;
    files.emplace_back(argument);
  }
  for (const std::string& name : files) {
    std::ifstream in(name, std::ios::binary);
    if (!in) {
      std::fprintf(stderr, "fuzz: cannot read %s\n", name.c_str());
      return 2;
    }
    try_input({std::istreambuf_iterator<char>(in), {}});
  }
  if (!files.empty()) return 0;

  for (const int fatal : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL}) {
    std::signal(fatal, save_input);
  }
  const std::vector<std::string> seeds = fuzz_seeds();
  for (const std::string& input : seeds) try_input(input);
  Mutator mutator(seed);
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(seconds_max);
  while (current_run < runs && (seconds_max == 0 || std::chrono::steady_clock::now() < end)) {
    ++current_run;
    try_input(mutator.next(seeds));
  }
  std::printf("fuzz: %lu inputs from %zu seeds\n", current_run, seeds.size());
  return 0;
}
