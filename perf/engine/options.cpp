#include "engine/options.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <span>

#include "node/config_values.hpp"

namespace gyre::engine {

namespace {

constexpr std::string_view help = R"(usage: gyre-engine-bench [OPTION...] [WORKLOAD...]

Measures gyre's storage engine as a library against RocksDB: same keys and values, cache, filters,
compression, sync and write buffers, on the same CPUs, in turns. Every value read is checked.

Workloads (all of them if none is named)
  fillrandom            random PUTs into an empty store, log not synced
  fillsync              the same, each on the disk before it is answered
  readrandom            random GETs, everything in the cache
  readrandom-quarter    random GETs, the cache a quarter of the data, direct I/O
  seekrandom            seek to a random key and read ten records
  readwhilewriting      random GETs beside PUTs at --write-rate
  overwrite             random PUTs over existing keys in the steady state, then the space they take

Runs
  --engines LIST        gyre, rocksdb or both (default)
  --loops LIST          closed (as fast as it goes) and open (a fixed rate, latency from the
                        intended start); default both
  --pairs N             runs of each engine in turns, ABBA (default 6)
  --seconds S           of a run (default 3)
  --sweep-seconds S     of each trial of a thread count (default 1.5)
  --open-share X        rate of the open loop, as a share of what the slower engine reached
                        (default 0.7)
  --rate N              rate of the open loop
  --write-rate N        PUTs per second of readwhilewriting (default 10000)
  --burst-us N          what a rate brings comes every so often, all at once (default 97)
  --overwrites X        overwrites before the first run of overwrite, times the keys (default 2)

Data
  --keys N              (default 2000000, each of 16 bytes)
  --value-bytes N       from 24 (default 100); half of it is random
  --seed N              (default 1)
  --dir DIR             where a temporary directory is made (default: the system's)

Engines
  --cpus LIST           CPUs to use, such as 0 or 0,1 (default: all); ours pins a core to each
  --lanes N             coroutines of ours, over all cores (default 128)
  --threads LIST        of RocksDB; the best of them is found first (default 1,2,4,16,64,128)
  --routing KIND        any (default): our lanes ask for any key, those of other cores by mailbox;
                        own: only for keys of their own core
  --cache SIZE          block cache (default: all of the data, or a quarter where the workload
                        says so)
  --write-buffer SIZE   memtables, active and immutable together (default 48M)
  --block SIZE          of tables, uncompressed (default 8K)
  --bloom-bits N        per key (default 10)
  --compression KIND    lz4 (default) or none
  --rocksdb-io KIND     direct (default) or buffered; the log is always buffered, as RocksDB knows
  --rocksdb-blobs SIZE  RocksDB keeps values from SIZE on apart from its tables (BlobDB, with garbage
                        collection): to see what separation would bring (default: it doesn't)

  --separate SIZE       gyre keeps values from SIZE on in value files (default 16K, as a node does;
                        0: none)

Output: tables
  --json FILE           everything, in the form of the lab's reports, after every pair
  --quiet               no progress

Exit codes: 0 done; 1 could not start or complete; 2 bad command line; 3 an engine gave wrong
answers; 130 and 143 interrupted, with a report of what ran.
)";

// The text of one flag into its field; the detail of a failure continues `--name TEXT …`.
using Assign = Result<void> (*)(Options&, std::string_view);

std::vector<std::string_view> split(std::string_view text) {
  std::vector<std::string_view> parts;
  for (;;) {
    const size_t comma = text.find(',');
    parts.push_back(text.substr(0, comma));
    if (comma == std::string_view::npos) return parts;
    text.remove_prefix(comma + 1);
  }
}

template <auto field, uint64_t least, uint64_t most>
Result<void> assign_count(Options& options, std::string_view text) {
  const Result<uint64_t> count = parse_count(text);
  if (!count) return fail(count.error());
  if (*count < least || *count > most) {
    return fail(Errc::invalid, fmt::format("must be from {} to {}", least, most));
  }
  options.*field = static_cast<std::remove_reference_t<decltype(options.*field)>>(*count);
  return {};
}

template <auto field, uint64_t least, uint64_t most>
Result<void> assign_size(Options& options, std::string_view text) {
  const Result<uint64_t> size = parse_size(text);
  if (!size) return fail(size.error());
  if (*size < least || *size > most) {
    return fail(Errc::invalid,
                fmt::format("must be from {} to {}", format_size(least), format_size(most)));
  }
  options.*field = *size;
  return {};
}

// More than nothing, unless `zero` is allowed.
template <auto field, uint64_t most, bool zero = false>
Result<void> assign_number(Options& options, std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value) ||
      value < 0 || (value == 0 && !zero) || value > most) {
    return fail(Errc::invalid,
                fmt::format("must be a number {} to {}", zero ? "from 0" : "over 0", most));
  }
  options.*field = value;
  return {};
}

template <auto field>
Result<void> assign_text(Options& options, std::string_view text) {
  if (text.empty()) return fail(Errc::invalid, "must be a name");
  options.*field = text;
  return {};
}

// One of two words.
template <auto field>
Result<void> assign_either(Options& options, std::string_view text, std::string_view yes,
                           std::string_view no) {
  if (text != yes && text != no) {
    return fail(Errc::invalid, fmt::format("is not known: {} or {}", yes, no));
  }
  options.*field = text == yes;
  return {};
}

Result<void> assign_engines(Options& options, std::string_view text) {
  options.engines.clear();
  for (const std::string_view word : split(text)) {
    if (word != "gyre" && word != "rocksdb") {
      return fail(Errc::invalid, "is not known: gyre, rocksdb or gyre,rocksdb");
    }
    options.engines.push_back(word == "gyre" ? Engine::gyre : Engine::rocksdb);
  }
  std::sort(options.engines.begin(), options.engines.end());
  options.engines.erase(std::unique(options.engines.begin(), options.engines.end()),
                        options.engines.end());
  return {};
}

Result<void> assign_loops(Options& options, std::string_view text) {
  options.loops.clear();
  for (const std::string_view word : split(text)) {
    if (word != "closed" && word != "open") {
      return fail(Errc::invalid, "is not known: closed, open or closed,open");
    }
    options.loops.push_back(word == "closed" ? Loop::closed : Loop::open);
  }
  std::sort(options.loops.begin(), options.loops.end());
  options.loops.erase(std::unique(options.loops.begin(), options.loops.end()), options.loops.end());
  return {};
}

template <class Number>
Result<std::vector<Number>> parse_numbers(std::string_view text, uint64_t least, uint64_t most) {
  std::vector<Number> numbers;
  for (const std::string_view word : split(text)) {
    const Result<uint64_t> number = parse_count(word);
    if (!number || *number < least || *number > most) {
      return fail(Errc::invalid,
                  fmt::format("must be numbers from {} to {} with commas between", least, most));
    }
    numbers.push_back(static_cast<Number>(*number));
  }
  std::sort(numbers.begin(), numbers.end());
  numbers.erase(std::unique(numbers.begin(), numbers.end()), numbers.end());
  return numbers;
}

template <auto field, uint64_t least, uint64_t most>
Result<void> assign_numbers(Options& options, std::string_view text) {
  using Number = typename std::remove_reference_t<decltype(options.*field)>::value_type;
  Result<std::vector<Number>> numbers = parse_numbers<Number>(text, least, most);
  if (!numbers) return fail(numbers.error());
  options.*field = std::move(*numbers);
  return {};
}

struct Flag {
  std::string_view name;
  Assign assign;
};

using O = Options;
constexpr Flag flags[] = {
    {"--engines", assign_engines},
    {"--loops", assign_loops},
    {"--pairs", assign_count<&O::pairs, 1, 1000>},
    {"--seconds", assign_number<&O::seconds, 86'400>},
    {"--sweep-seconds", assign_number<&O::sweep_seconds, 3600>},
    {"--open-share", assign_number<&O::open_share, 1>},
    {"--rate", assign_number<&O::rate, 100'000'000>},
    {"--write-rate", assign_number<&O::write_rate, 100'000'000>},
    {"--burst-us", assign_number<&O::burst_us, 1'000'000, true>},
    {"--overwrites", assign_number<&O::overwrites, 1000, true>},
    {"--keys", assign_count<&O::keys, 1000, 10'000'000'000>},
    {"--value-bytes", assign_count<&O::value_bytes, value_header_bytes, 64u << 10>},
    {"--seed", assign_count<&O::seed, 0, UINT32_MAX>},
    {"--dir", assign_text<&O::directory>},
    {"--cpus", assign_numbers<&O::cpus, 0, 255>},
    {"--lanes", assign_count<&O::lanes, 1, 65'536>},
    {"--threads", assign_numbers<&O::threads, 1, 1024>},
    {"--routing",
     [](Options& options, std::string_view text) {
       return assign_either<&O::any_core>(options, text, "any", "own");
     }},
    {"--cache", assign_size<&O::cache_bytes, 1u << 20, uint64_t{1} << 40>},
    {"--write-buffer", assign_size<&O::write_buffer_bytes, 6u << 20, uint64_t{64} << 30>},
    {"--block", assign_size<&O::block_bytes, 1u << 10, 1u << 20>},
    {"--bloom-bits", assign_count<&O::bloom_bits, 0, 20>},
    {"--compression",
     [](Options& options, std::string_view text) {
       return assign_either<&O::compress>(options, text, "lz4", "none");
     }},
    {"--rocksdb-io",
     [](Options& options, std::string_view text) {
       return assign_either<&O::direct_io>(options, text, "direct", "buffered");
     }},
    {"--rocksdb-blobs", assign_size<&O::blob_bytes_min, 24, 1u << 20>},
    {"--separate", assign_size<&O::separate_bytes_min, 0, uint64_t{1} << 40>},
    {"--json", assign_text<&O::json_file>},
};

std::string suggestion(std::string_view word) {
  std::vector<std::string_view> names;
  for (const Flag& flag : flags) names.push_back(flag.name);
  for (const Workload& workload : workloads()) names.push_back(workload.name);
  const std::string_view best = closest(word, names);
  return best.empty() ? std::string() : fmt::format(" Did you mean {}?", best);
}

Result<void> add_workload(Options& options, std::string_view name) {
  const Workload* workload = find_workload(name);
  if (workload == nullptr) {
    return fail(Errc::invalid, fmt::format("{} is no workload.{}", name, suggestion(name)));
  }
  options.workloads.push_back(workload);
  return {};
}

Result<void> check_whole(Options& options) {
  if (options.workloads.empty()) {
    for (const Workload& workload : workloads()) options.workloads.push_back(&workload);
  }
  std::sort(options.workloads.begin(), options.workloads.end());
  options.workloads.erase(std::unique(options.workloads.begin(), options.workloads.end()),
                          options.workloads.end());
  if (options.lanes < options.cpus.size()) {
    return fail(Errc::invalid, fmt::format("--lanes {} is fewer than CPUs", options.lanes));
  }
  return {};
}

}  // namespace

std::string_view to_string(Engine engine) {
  return engine == Engine::gyre ? "gyre" : "rocksdb";
}

std::string help_text() {
  return std::string(help);
}

Result<CommandLine> parse_command_line(const std::vector<std::string>& arguments) {
  CommandLine line;
  for (size_t i = 0; i < arguments.size(); ++i) {
    std::string_view name = arguments[i];
    if (name == "--help" || name == "-h") {
      line.print = help_text();
      return line;
    }
    if (name == "--quiet") {
      line.options.quiet = true;
      continue;
    }
    if (!name.starts_with('-')) {
      if (auto added = add_workload(line.options, name); !added) return fail(added.error());
      continue;
    }
    std::optional<std::string_view> value;
    if (const size_t equals = name.find('='); equals != std::string_view::npos) {
      value = name.substr(equals + 1);
      name = name.substr(0, equals);
    }
    const auto* flag = std::find_if(std::begin(flags), std::end(flags),
                                    [&](const Flag& each) { return each.name == name; });
    if (flag == std::end(flags)) {
      return fail(Errc::invalid, fmt::format("{} is not known.{}", name, suggestion(name)));
    }
    if (!value) {
      if (i + 1 == arguments.size()) {
        return fail(Errc::invalid, fmt::format("{} needs a value", name));
      }
      value = arguments[++i];
    }
    if (auto assigned = flag->assign(line.options, *value); !assigned) {
      return fail(Errc::invalid, fmt::format("{} {} {}", name, *value, assigned.error().detail));
    }
  }
  if (auto checked = check_whole(line.options); !checked) return fail(checked.error());
  return line;
}

}  // namespace gyre::engine
