// What background work costs a write (DESIGN D2): the latency of group-committed writes on an idle
// core, beside tasks that only burn CPU, and beside real compactions, with a reactor on every CPU.
//
// The completion of a synced write runs in a kernel thread on the CPU that takes the disk's
// interrupt. A reactor that never sleeps can starve it, so the shard that is measured sits on each
// CPU in turn, while all CPUs do the background work. Rounds go through all kinds before they start
// again, so that what drifts drifts for all of them.
//
//   idle     nothing but the writes
//   spin     background tasks on every core that never wait, and give the core back when asked
//   compact  on every core a second shard that merges its tables, again and again: this also keeps
//            the disk busy, which no scheduling can hide
//
// The latency is that of Shard::put in a closed loop: into the log's frame, through the disk, back
// into the coroutine.
#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <gyre/reactor.hpp>
#include <gyre/scope.hpp>
#include <gyre/sync.hpp>
#include <gyre/time.hpp>

#include "runtime/uring/cores.hpp"
#include "runtime/uring/node.hpp"
#include "store/shard.hpp"

namespace gyre {
namespace {

enum class Background : uint8_t { idle, spin, compact };
constexpr std::string_view background_names[] = {"idle", "spin", "compact"};
constexpr size_t compacted_value_bytes = 1000;
constexpr unsigned lanes = 64;  // writes at a time where only the result matters

struct Options {
  std::string directory = std::filesystem::temp_directory_path();
  unsigned rounds = 3;
  double seconds = 2;
  size_t value_bytes = 100;
  uint64_t compact_bytes = 32u << 20;  // of each core's second shard
  std::vector<Background> backgrounds = {Background::idle, Background::spin, Background::compact};
};

// One line of the table, over all rounds.
struct Case {
  unsigned cpu = 0;
  Background background = Background::idle;
  unsigned at_a_time = 1;
  std::vector<Nanos> samples;
  uint64_t records = 0;
  uint64_t frames = 0;
  uint64_t work = 0;  // spins of 64 steps, or bytes merged, on all cores
};

// What the cores share while one case is measured for one round.
struct Round {
  const Options& options;
  Case& now;
  std::string directory;
  unsigned cores;
  std::atomic<unsigned> working{0};  // cores whose background work is under way
  std::atomic<bool> done{false};
  std::atomic<uint64_t> work{0};

  bool is_done() const { return done.load(std::memory_order_relaxed); }
};

[[noreturn]] void fail_with(const std::string& text) {
  std::fprintf(stderr, "log_latency: %s\n", text.c_str());
  std::_Exit(1);
}

template <class T>
T must(Result<T> result, const char* what) {
  if (!result) fail_with(fmt::format("{}: {}", what, result.error().message()));
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

std::string incompressible(uint64_t seed, size_t size_bytes) {
  std::string bytes(size_bytes, '\0');
  for (char& byte : bytes) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    byte = static_cast<char>(seed >> 56);
  }
  return bytes;
}

// A shard with what a core would give it.
struct Store {
  Semaphore memory{64u << 20};
  HybridClock clock{1, 0};
  std::unique_ptr<Shard> shard;
};

Task<void> open(Store* store, ShardOptions options) {
  store->shard = must(co_await Shard::open(std::move(options),
                                           {.write_memory = store->memory, .clock = store->clock}),
                      "opening a shard");
}

Task<void> close(Store* store) {
  must(co_await store->shard->close(true), "closing a shard");
}

// --- background work -----------------------------------------------------------------------------

Task<void> spin(Round* round) {
  uint64_t value = 1;
  while (!round->is_done()) {
    for (int step = 0; step < 64; ++step) {
      value = value * 6364136223846793005u + 1442695040888963407u;
      asm volatile("" : "+r"(value));
    }
    round->work.fetch_add(1, std::memory_order_relaxed);
    co_await maybe_yield();
  }
}

ShardOptions compacted_shard(const std::string& directory, unsigned core) {
  ShardOptions options;
  options.directory = fmt::format("{}/compact-{}", directory, core);
  options.compaction.table_bytes_target = 4u << 20;
  return options;
}

uint64_t compacted_keys(const Options& options) {
  return std::max<uint64_t>(options.compact_bytes / compacted_value_bytes, lanes);
}

std::string compacted_key(uint64_t number) {
  return fmt::format("key-{:08}", number);
}

Task<void> put_some(Shard* shard, uint64_t first, uint64_t step, uint64_t end) {
  for (uint64_t key = first; key < end; key += step) {
    must(co_await shard->put(compacted_key(key),
                             ValueBuffer(incompressible(key, compacted_value_bytes))),
         "writing");
  }
}

Task<void> remove_one(Shard* shard, uint64_t key) {
  must(co_await shard->remove(compacted_key(key)), "removing");
}

Task<void> fill(Shard* shard, uint64_t keys) {
  Scope writers;
  for (unsigned lane = 0; lane < lanes; ++lane) {
    writers.spawn(put_some(shard, lane, lanes, keys));
  }
  co_await writers.join();
  must(co_await shard->compact(), "compacting");
}

// Merges everything, again and again: a few tombstones all over the shard make every table of the
// deepest level take part.
Task<void> compact(Round* round, Shard* shard, uint64_t keys) {
  for (uint64_t offset = 0; !round->is_done(); ++offset) {
    const uint64_t before = shard->stats().compacted_bytes_read;
    Scope writers;
    for (unsigned lane = 0; lane < lanes; ++lane) {
      writers.spawn(remove_one(shard, (keys / lanes * lane + offset) % keys));
    }
    co_await writers.join();
    must(co_await shard->compact(), "compacting");
    round->work.fetch_add(shard->stats().compacted_bytes_read - before, std::memory_order_relaxed);
  }
}

// --- one round of one case -----------------------------------------------------------------------

ShardOptions measured_shard(const std::string& directory) {
  ShardOptions options;
  options.directory = directory + "/measured";
  // Segments are recycled all the time, as in a node that has run for a while.
  options.log_bytes_max = 16u << 20;
  options.log_segment_bytes_max = 4u << 20;
  return options;
}

Task<void> write_until(Round* round, Shard* shard, unsigned lane, Nanos end, Nanos count_from) {
  Backend& backend = Reactor::current().backend();
  const std::string key = fmt::format("key-{}", lane);
  for (Nanos before = backend.now(); before < end;) {
    ValueBuffer value(incompressible(static_cast<uint64_t>(before), round->options.value_bytes));
    before = backend.now();
    must(co_await shard->put(key, std::move(value)), "writing");
    const Nanos after = backend.now();
    if (before >= count_from) round->now.samples.push_back(after - before);
    before = after;
  }
}

Task<void> measure(Round* round) {
  Store store;
  co_await open(&store, measured_shard(round->directory));
  while (round->working < round->cores) static_cast<void>(co_await sleep_for(milliseconds(1)));
  const Nanos start = Reactor::current().backend().now();
  const auto length = static_cast<Nanos>(round->options.seconds * 1e9);
  const uint64_t counted_before = round->now.samples.size();
  Scope writers;
  for (unsigned lane = 0; lane < round->now.at_a_time; ++lane) {
    writers.spawn(write_until(round, store.shard.get(), lane, start + length, start + length / 10));
  }
  co_await writers.join();
  round->done = true;
  const LogStats& log = store.shard->log_stats();
  const uint64_t counted = round->now.samples.size() - counted_before;
  round->now.frames += log.frames;
  round->now.records += log.records;
  if (counted == 0 || counted > log.records || log.records != store.shard->stats().writes) {
    fail_with(fmt::format("{} latencies of {} writes, {} of them logged", counted,
                          store.shard->stats().writes, log.records));
  }
  co_await close(&store);
}

Task<void> run_core(Round* round, unsigned core) {
  const Background kind = round->now.background;
  Store second;
  if (kind == Background::compact) {
    co_await open(&second, compacted_shard(round->directory, core));
    const uint64_t keys = compacted_keys(round->options);
    if (second.shard->levels().table_count() == 0) co_await fill(second.shard.get(), keys);
  }
  Scope background;
  if (kind == Background::spin) background.spawn_background(spin(round));
  if (kind == Background::compact) {
    background.spawn_background(compact(round, second.shard.get(), compacted_keys(round->options)));
  }
  ++round->working;
  if (core == round->now.cpu) co_await measure(round);
  while (!round->done) static_cast<void>(co_await sleep_for(milliseconds(20)));
  co_await background.join();
  if (kind == Background::compact) co_await close(&second);
}

void run_round(const Options& options, Case& now, const std::string& directory,
               const cpu_set_t& cpus) {
  Round round{.options = options,
              .now = now,
              .directory = directory,
              .cores = static_cast<unsigned>(CPU_COUNT(&cpus))};
  const std::string problem = uring::run_cores({.cores = round.cores, .pin = true},
                                               [&round](unsigned core, Backend& backend) {
                                                 Reactor reactor(backend, {.core = core});
                                                 reactor.run(run_core(&round, core));
                                               });
  if (!problem.empty()) fail_with(problem);
  now.work += round.work;
  if (now.background != Background::idle && round.work == 0)
    fail_with("no background work was done");
}

// --- the table -----------------------------------------------------------------------------------

double quantile_us(const std::vector<Nanos>& sorted, double share) {
  const auto index = static_cast<size_t>(share * static_cast<double>(sorted.size() - 1));
  return static_cast<double>(sorted[index]) / 1e3;
}

void print_table(std::vector<Case>& cases) {
  std::printf("%3s %9s %-8s %8s %6s %8s %8s %8s %9s   %s\n", "cpu", "at a time", "beside", "writes",
              "/frame", "p50 us", "p99 us", "p99.9 us", "max us", "p50, p99 over idle");
  const Case* idle = nullptr;
  for (Case& each : cases) {
    std::sort(each.samples.begin(), each.samples.end());
    if (each.background == Background::idle) idle = &each;
    const double per_frame =
        static_cast<double>(each.records) / static_cast<double>(std::max<uint64_t>(each.frames, 1));
    std::printf("%3u %9u %-8s %8zu %6.1f %8.0f %8.0f %8.0f %9.0f", each.cpu, each.at_a_time,
                background_names[static_cast<size_t>(each.background)].data(), each.samples.size(),
                per_frame, quantile_us(each.samples, 0.5), quantile_us(each.samples, 0.99),
                quantile_us(each.samples, 0.999), quantile_us(each.samples, 1));
    if (idle != nullptr && idle != &each) {
      std::printf("   %.2f, %.2f", quantile_us(each.samples, 0.5) / quantile_us(idle->samples, 0.5),
                  quantile_us(each.samples, 0.99) / quantile_us(idle->samples, 0.99));
    }
    std::printf("\n");
  }
}

constexpr const char* usage =
    "usage: log_latency [OPTION...]\n"
    "  --dir DIR            where a temporary directory is made (default: the system's)\n"
    "  --rounds N           of all cases (default 3)\n"
    "  --seconds N          of one case in one round; a tenth is not counted (default 2)\n"
    "  --value-bytes N      (default 100)\n"
    "  --compact-mib N      data of the shard that is merged, per core (default 32)\n"
    "  --beside A,B,...     of idle, spin, compact (default: all)\n"
    "  --smoke              as short as it can be: does it run?\n";

std::vector<Background> parse_backgrounds(std::string_view text) {
  std::vector<Background> kinds;
  while (!text.empty()) {
    const std::string_view word = text.substr(0, text.find(','));
    const auto* found = std::find(std::begin(background_names), std::end(background_names), word);
    if (found == std::end(background_names)) fail_with("--beside takes idle, spin and compact");
    kinds.push_back(static_cast<Background>(found - std::begin(background_names)));
    text.remove_prefix(std::min(word.size() + 1, text.size()));
  }
  return kinds;
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view flag = argv[i];
    if (flag == "--help") {
      std::fputs(usage, stdout);
      std::exit(0);
    }
    if (flag == "--smoke") {
      options.rounds = 1;
      options.seconds = 0.1;
      options.compact_bytes = 2u << 20;
      continue;
    }
    const char* value = i + 1 < argc ? argv[++i] : "";
    if (flag == "--dir") {
      options.directory = value;
    } else if (flag == "--rounds") {
      options.rounds = static_cast<unsigned>(std::max(1, std::atoi(value)));
    } else if (flag == "--seconds") {
      options.seconds = std::max(0.01, std::atof(value));
    } else if (flag == "--value-bytes") {
      options.value_bytes = static_cast<size_t>(std::max(0, std::atoi(value)));
    } else if (flag == "--compact-mib") {
      options.compact_bytes = static_cast<uint64_t>(std::max(1, std::atoi(value))) << 20;
    } else if (flag == "--beside") {
      options.backgrounds = parse_backgrounds(value);
    } else {
      std::fputs(usage, stderr);
      std::exit(2);
    }
  }
  return options;
}

void run(const Options& options) {
  std::string directory = options.directory + "/gyre-log-latency-XXXXXX";
  if (mkdtemp(directory.data()) == nullptr) fail_with("cannot make a directory in " + directory);
  cpu_set_t cpus;
  if (sched_getaffinity(0, sizeof cpus, &cpus) != 0) fail_with("cannot tell the CPUs");
  const auto count = static_cast<unsigned>(CPU_COUNT(&cpus));
  std::vector<Case> cases;
  for (unsigned cpu = 0; cpu < count; ++cpu) {
    for (const unsigned at_a_time : {1u, 16u}) {
      for (const Background kind : options.backgrounds) {
        cases.push_back({.cpu = cpu, .background = kind, .at_a_time = at_a_time});
      }
    }
  }
  std::printf("%u CPUs, %u rounds of %g s per case, values of %zu bytes, in %s\n", count,
              options.rounds, options.seconds, options.value_bytes, options.directory.c_str());
  std::fflush(stdout);
  for (unsigned round = 0; round < options.rounds; ++round) {
    for (Case& each : cases) run_round(options, each, directory, cpus);
  }
  std::filesystem::remove_all(directory);
  print_table(cases);
}

}  // namespace
}  // namespace gyre

int main(int argc, char** argv) {
  gyre::run(gyre::parse(argc, argv));
}
