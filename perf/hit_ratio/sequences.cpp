#include "hit_ratio/sequences.hpp"

#include <fmt/format.h>

#include <functional>
#include <utility>

#include "load/keys.hpp"
#include "sim/prng.hpp"

namespace gyre::hit_ratio {

namespace {

constexpr double skew = 0.99;
constexpr uint32_t scan_interval = 20'000;
constexpr uint32_t scan_keys = 10'000;
constexpr unsigned shifts = 10;

using Next = std::function<uint32_t()>;

std::vector<uint32_t> draw(size_t count, const Next& next) {
  std::vector<uint32_t> keys;
  keys.reserve(count);
  while (keys.size() < count) keys.push_back(next());
  return keys;
}

std::vector<uint32_t> zipf(const SequenceOptions& options, double exponent) {
  sim::Prng random(options.seed, "zipf");
  load::KeyChooser chooser(load::Distribution::zipfian, options.keys, exponent, 0, 1);
  return draw(options.requests, [&] { return static_cast<uint32_t>(chooser.choose(random, 0)); });
}

std::vector<uint32_t> zipf_and_scans(const SequenceOptions& options) {
  sim::Prng random(options.seed, "scans");
  load::KeyChooser chooser(load::Distribution::zipfian, options.keys, skew, 0, 1);
  uint32_t scanned = options.keys;
  uint32_t at = 0;
  return draw(options.requests, [&] {
    at = (at + 1) % (scan_interval + scan_keys);
    return at >= scan_interval ? scanned++ : static_cast<uint32_t>(chooser.choose(random, 0));
  });
}

std::vector<uint32_t> loop(const SequenceOptions& options, uint32_t percent) {
  const auto length = static_cast<uint32_t>(uint64_t{options.keys} * percent / 100);
  uint32_t at = 0;
  return draw(options.requests, [&] { return at++ % length; });
}

std::vector<uint32_t> uniform(const SequenceOptions& options) {
  sim::Prng random(options.seed, "uniform");
  return draw(options.requests, [&] { return static_cast<uint32_t>(random.below(options.keys)); });
}

std::vector<uint32_t> shift(const SequenceOptions& options) {
  sim::Prng random(options.seed, "shift");
  load::KeyChooser chooser(load::Distribution::zipfian, options.keys, skew, 0, 1);
  const size_t stay = options.requests / shifts + 1;
  size_t drawn = 0;
  return draw(options.requests, [&] {
    const uint64_t by = drawn++ / stay * (options.keys / (2 * shifts) + 1);
    return static_cast<uint32_t>((chooser.choose(random, 0) + by) % options.keys);
  });
}

using Make = std::pair<std::string, std::function<std::vector<uint32_t>(const SequenceOptions&)>>;

const std::vector<Make>& makes() {
  static const std::vector<Make> all = [] {
    std::vector<Make> list;
    for (const double exponent : {0.7, 0.9, 0.99, 1.2}) {
      list.emplace_back(fmt::format("zipf {}", exponent),
                        [exponent](const SequenceOptions& of) { return zipf(of, exponent); });
    }
    list.emplace_back("zipf 0.99 and scans", &zipf_and_scans);
    list.emplace_back("zipf 0.99, shifting", &shift);
    list.emplace_back("uniform", &uniform);
    for (const uint32_t percent : {5u, 15u}) {
      list.emplace_back(fmt::format("loop over {} %", percent),
                        [percent](const SequenceOptions& of) { return loop(of, percent); });
    }
    return list;
  }();
  return all;
}

}  // namespace

size_t sequence_count() {
  return makes().size();
}

Sequence make_sequence(size_t index, const SequenceOptions& options) {
  const Make& make = makes().at(index);
  return {make.first, make.second(options)};
}

}  // namespace gyre::hit_ratio
