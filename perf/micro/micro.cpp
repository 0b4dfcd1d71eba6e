// What the hot pieces cost one by one: nanoseconds and heap allocations per operation.
//
//   perf/micro/micro [--benchmark_filter=REGEX] [--benchmark_repetitions=N] …
//
// Figures of one piece say where to look, not how fast a node is: caches are warm and branches are
// learnt here. perf/cpu_per_request says what a request costs.
//
// The exit status is 1 if a piece that allocates nothing once it is warm did allocate.
#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <gyre/call.hpp>
#include <gyre/reactor.hpp>
#include <gyre/scope.hpp>
#include <gyre/sync.hpp>
#include <gyre/task.hpp>
#include <gyre/time.hpp>

#include "base/histogram.hpp"
#include "count_mallocs.hpp"
#include "http/request_parser.hpp"
#include "runtime/uring/backend.hpp"
#include "runtime/uring/cores.hpp"
#include "runtime/uring/node.hpp"
#include "store/memtable.hpp"
#include "store/scan.hpp"
#include "store/shard.hpp"

namespace gyre {
namespace {

bool kept_promises = true;
// Iterations before allocations count: what is kept for reuse is there then.
constexpr int warm_up = 1000;

// Allocations of this thread from its making to its end, per iteration. Who is given a name here
// promises that there are none.
class Allocations {
 public:
  explicit Allocations(benchmark::State& state, const char* promised_by = nullptr)
      : state_(state), promised_by_(promised_by), before_(mallocs) {}
  ~Allocations() {
    const uint64_t count = mallocs - before_;
    state_.counters["allocs/op"] =
        benchmark::Counter(static_cast<double>(count), benchmark::Counter::kAvgIterations);
    if (promised_by_ == nullptr || count == 0) return;
    kept_promises = false;
    fmt::print(stderr, "micro: {} allocated {} times in {} iterations\n", promised_by_, count,
               state_.iterations());
  }
  Allocations(const Allocations&) = delete;
  Allocations& operator=(const Allocations&) = delete;

 private:
  benchmark::State& state_;
  const char* promised_by_;
  uint64_t before_;
};

[[noreturn]] void fail_with(const std::string& reason) {
  fmt::print(stderr, "micro: {}\n", reason);
  std::exit(1);
}
template <class T>
T must(Result<T> result, const char* what) {
  if (!result) fail_with(fmt::format("{}: {}", what, result.error().message()));
  return std::move(*result);
}
void must(Result<void> result, const char* what) {
  if (!result) fail_with(fmt::format("{}: {}", what, result.error().message()));
}

// Runs `body` as the main task of a reactor on the kernel. A loop may hold the core for long.
void on_a_core(Task<void> (*body)(benchmark::State*), benchmark::State& state) {
  const std::string problem = uring::run_cores({}, [&](unsigned core, Backend& backend) {
    Reactor reactor(backend, {.core = core, .stall_report = seconds(60)});
    reactor.run(body(&state));
  });
  if (!problem.empty()) fail_with(problem);
}

// --- tasks ---------------------------------------------------------------------------------------

Task<int> answer(int value) {
  co_return value;
}

Task<void> await_loop(benchmark::State* state) {
  int sum = 0;
  for (int i = 0; i < warm_up; ++i) sum += co_await answer(1);
  const Allocations allocations(*state, "await_a_task");
  for (auto _ : *state) sum += co_await answer(1);
  benchmark::DoNotOptimize(sum);
}
void await_a_task(benchmark::State& state) {
  on_a_core(await_loop, state);
}
BENCHMARK(await_a_task);

Task<void> set_event(Event* event) {
  event->set();
  co_return;
}

Task<void> spawn_loop(benchmark::State* state) {
  Scope scope;
  for (int i = 0; i < warm_up; ++i) {
    Event done;
    scope.spawn(set_event(&done));
    static_cast<void>(co_await done.wait());
  }
  {
    const Allocations allocations(*state, "spawn_and_wait");
    for (auto _ : *state) {
      Event done;
      scope.spawn(set_event(&done));
      static_cast<void>(co_await done.wait());
    }
  }
  co_await scope.join();
}
void spawn_and_wait(benchmark::State& state) {
  on_a_core(spawn_loop, state);
}
BENCHMARK(spawn_and_wait);

// --- cores ---------------------------------------------------------------------------------------

Task<Result<int>> elsewhere(int value) {
  co_return value;
}

struct TwoCores {
  std::atomic<unsigned> up = 0;
  std::atomic<bool> over = false;
};

Task<void> hop_loop(benchmark::State* state, TwoCores* cores) {
  ++cores->up;
  while (cores->up != 2) static_cast<void>(co_await sleep_for(milliseconds(1)));
  {
    const Allocations allocations(*state);
    for (auto _ : *state) {
      must(co_await spawn_on(1, [] { return elsewhere(1); }), "calling another core");
    }
  }
  cores->over = true;
}
Task<void> serve_calls(TwoCores* cores) {
  ++cores->up;
  while (!cores->over) static_cast<void>(co_await sleep_for(milliseconds(1)));
}

// There and back: a call runs on another core and its answer comes home, both cores otherwise idle.
void call_another_core(benchmark::State& state) {
  TwoCores cores;
  Fabric fabric(2);
  const std::string problem =
      uring::run_cores({.cores = 2, .pin = true}, [&](unsigned core, Backend& backend) {
        Reactor reactor(backend, {.core = core, .stall_report = seconds(60)}, &fabric);
        reactor.run(core == 0 ? hop_loop(&state, &cores) : serve_calls(&cores));
      });
  if (!problem.empty()) fail_with(problem);
}
BENCHMARK(call_another_core)->UseRealTime();

// --- requests ------------------------------------------------------------------------------------

void parse_request(benchmark::State& state) {
  const std::string request =
      "GET /v0/entity?id=key-0000012345 HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n"
      "User-Agent: someone/1.0\r\nAccept: */*\r\n\r\n";
  http::RequestParser parser(1u << 20);
  const auto parse = [&] {
    const auto step = parser.feed(request);
    if (step.event != http::RequestParser::Event::request) fail_with("a good request was refused");
    benchmark::DoNotOptimize(parser.head());
  };
  for (int i = 0; i < warm_up; ++i) parse();
  {
    const Allocations allocations(state, "parse_request");
    for (auto _ : state) parse();
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * request.size()));
}
BENCHMARK(parse_request);

void record_latency(benchmark::State& state) {
  Histogram histogram(3600ull * 1'000'000'000);
  uint64_t value = 1;
  const Allocations allocations(state);
  for (auto _ : state) {
    value = value * 6364136223846793005u + 1442695040888963407u;
    histogram.record(value >> 40);
  }
}
BENCHMARK(record_latency);

// --- store ---------------------------------------------------------------------------------------

std::vector<std::string> make_keys(uint64_t count) {
  std::vector<std::string> keys;
  for (uint64_t i = 0; i < count; ++i) {
    keys.push_back(fmt::format("key-{:016x}", i * 0x9e3779b97f4a7c15));
  }
  return keys;
}

void memtable_put(benchmark::State& state) {
  const auto keys = make_keys(static_cast<uint64_t>(state.range(0)));
  const std::string value(100, 'v');
  auto table = std::make_unique<Memtable>();
  uint64_t seq = 0;
  const Allocations allocations(state);
  for (auto _ : state) {
    ++seq;
    table->add(seq, Kind::value, {seq, 1}, 0, keys[seq % keys.size()], value);
    if (table->used_bytes() < 64u << 20) continue;
    state.PauseTiming();
    table = std::make_unique<Memtable>();
    state.ResumeTiming();
  }
}
BENCHMARK(memtable_put)->Arg(10'000)->Arg(400'000);

void memtable_get(benchmark::State& state) {
  const auto keys = make_keys(static_cast<uint64_t>(state.range(0)));
  const std::string value(100, 'v');
  Memtable table;
  uint64_t seq = 0;
  for (const std::string& key : keys) {
    ++seq;
    table.add(seq, Kind::value, {seq, 1}, 0, key, value);
  }
  uint64_t at = 0;
  const Allocations allocations(state, "memtable_get");
  for (auto _ : state) {
    at = at * 6364136223846793005u + 1442695040888963407u;
    benchmark::DoNotOptimize(table.get(keys[(at >> 33) % keys.size()], seq));
  }
}
BENCHMARK(memtable_get)->Arg(10'000)->Arg(200'000);

// A shard of 100,000 keys in a directory of its own, for `use`.
using UseShard = Task<void> (*)(benchmark::State&, Shard&, const std::vector<std::string>&);
Task<void> with_shard(benchmark::State* state, UseShard use) {
  char name[] = "/tmp/gyre-micro-XXXXXX";
  if (mkdtemp(name) == nullptr) fail_with("cannot make a directory in /tmp");
  const std::string directory = name;
  {
    Semaphore memory(256u << 20);
    HybridClock clock(1, 0);
    ShardOptions options;
    options.directory = directory + "/shard";
    options.durability = Durability::none;
    options.memtable_bytes_max = 64u << 20;
    options.cache_bytes = 128u << 20;
    auto shard =
        must(co_await Shard::open(std::move(options), {.write_memory = memory, .clock = clock}),
             "opening a shard");
    const auto keys = make_keys(100'000);
    for (const std::string& key : keys) {
      must(co_await shard->put(key, ValueBuffer(std::string(100, 'v'))), "writing");
    }
    co_await use(*state, *shard, keys);
    must(co_await shard->close(false), "closing");
  }
  std::filesystem::remove_all(directory);
}

// From a table whose blocks are all in the cache.
Task<void> get_all(benchmark::State& state, Shard& shard, const std::vector<std::string>& keys) {
  must(co_await shard.flush(), "flushing");
  for (const std::string& key : keys) {
    StoreRead read;
    must(co_await shard.get(key, 0, read), "reading");
  }
  uint64_t at = 0;
  uint64_t missed = 0;
  {
    const Allocations allocations(state, "table_get");
    for (auto _ : state) {
      at = at * 6364136223846793005u + 1442695040888963407u;
      StoreRead read;
      if (shard.try_get(keys[(at >> 33) % keys.size()], 0, read) != ReadOutcome::found) ++missed;
    }
  }
  if (missed != 0) fail_with(fmt::format("{} reads were not answered by the cache", missed));
}
Task<void> table_loop(benchmark::State* state) {
  return with_shard(state, &get_all);
}
void table_get(benchmark::State& state) {
  on_a_core(table_loop, state);
}
BENCHMARK(table_get);

// Whole scans, by record: 1st argument from a table in the cache, 2nd back.
Task<void> scan_all(benchmark::State& state, Shard& shard, const std::vector<std::string>& keys) {
  if (state.range(0) != 0) must(co_await shard.flush(), "flushing");
  ScanRange range;
  if (state.range(1) != 0) range.direction = ScanDirection::reverse;
  int64_t records = 0;
  for (auto _ : state) {
    auto scan = must(co_await shard.scan(range, 0), "opening a scan");
    for (;;) {
      const Scan::Step step = scan->try_next();
      if (step == Scan::Step::end) break;
      if (step == Scan::Step::wait) {
        must(co_await scan->load(), "scanning");
        continue;
      }
      ++records;
      benchmark::DoNotOptimize(scan->entry().value.data());
    }
  }
  if (static_cast<size_t>(records) != keys.size() * static_cast<size_t>(state.iterations())) {
    fail_with("a scan is not complete");
  }
  state.SetItemsProcessed(records);
}
Task<void> scan_loop(benchmark::State* state) {
  return with_shard(state, &scan_all);
}
void scan(benchmark::State& state) {
  on_a_core(scan_loop, state);
}
BENCHMARK(scan)->ArgsProduct({{0, 1}, {0, 1}})->Unit(benchmark::kMillisecond);

// Starts of a shard whose log holds so many records, under as many keys in random order, with values
// of so many bytes.
Task<void> recovery_loop(benchmark::State* state) {
  const auto records = static_cast<uint64_t>(state->range(0));
  char name[] = "/tmp/gyre-micro-XXXXXX";
  if (mkdtemp(name) == nullptr) fail_with("cannot make a directory in /tmp");
  const std::string directory = name;
  const auto open = [&](Semaphore& memory, HybridClock& clock, const char* shard) {
    ShardOptions options;
    options.directory = directory + shard;
    options.durability = Durability::none;
    options.memtable_bytes_max = 512u << 20;
    options.cache_bytes = 16u << 20;
    return Shard::open(std::move(options), {.write_memory = memory, .clock = clock});
  };
  {
    Semaphore memory(1u << 30);
    HybridClock clock(1, 0);
    auto shard = must(co_await open(memory, clock, "/written"), "opening a shard");
    const std::string value(static_cast<size_t>(state->range(1)), 'v');
    for (const std::string& key : make_keys(records)) {
      must(co_await shard->put(key, ValueBuffer(value)), "writing");
    }
    must(co_await shard->close(false), "closing");
  }
  for (auto _ : *state) {
    state->PauseTiming();
    std::filesystem::remove_all(directory + "/started");
    std::filesystem::copy(directory + "/written", directory + "/started",
                          std::filesystem::copy_options::recursive);
    Semaphore memory(1u << 30);
    HybridClock clock(1, 0);
    state->ResumeTiming();
    auto shard = must(co_await open(memory, clock, "/started"), "opening a shard");
    state->PauseTiming();
    if (shard->stats().records_recovered != records) fail_with("a recovery is not complete");
    must(co_await shard->close(false), "closing");
    shard.reset();
    state->ResumeTiming();
  }
  state->SetItemsProcessed(state->iterations() * state->range(0));
  std::filesystem::remove_all(directory);
}
void recovery(benchmark::State& state) {
  on_a_core(recovery_loop, state);
}
BENCHMARK(recovery)->Args({300'000, 100})->Args({50'000, 1000})->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace gyre

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return gyre::kept_promises ? 0 : 1;
}
