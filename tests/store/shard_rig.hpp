// A shard on a simulated machine: lives of a program that opens it, works and closes it, with
// power cuts and kills between them; and the few coroutines every shard test needs.
#pragma once

#include <doctest/doctest.h>

#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <gyre/file.hpp>
#include <gyre/reactor.hpp>
#include <gyre/scope.hpp>
#include <gyre/task.hpp>
#include <gyre/time.hpp>

#include "sim/sim_backend.hpp"
#include "sim/world.hpp"
#include "store/scan.hpp"
#include "store/shard.hpp"

// CHECK and REQUIRE for coroutines: the expression may await (doctest's macros put theirs into a
// lambda), and no exception leaves.
#define CO_CHECK(...)                      \
  do {                                     \
    const bool holds_ = bool(__VA_ARGS__); \
    CHECK_MESSAGE(holds_, #__VA_ARGS__);   \
  } while (false)

#define CO_REQUIRE(...)                    \
  do {                                     \
    const bool holds_ = bool(__VA_ARGS__); \
    CHECK_MESSAGE(holds_, #__VA_ARGS__);   \
    if (!holds_) co_return;                \
  } while (false)

// The same for a Result, whose error is told.
#define CO_OK(...)                                                   \
  do {                                                               \
    auto&& result_ = (__VA_ARGS__);                                  \
    const bool ok_ = result_.has_value();                            \
    const std::string error_ = ok_ ? "" : result_.error().message(); \
    CHECK_MESSAGE(ok_, #__VA_ARGS__ ": " << error_);                 \
    if (!ok_) co_return;                                             \
  } while (false)

namespace gyre::test {

// How much of a scalable test runs: seeds and sizes are multiplied with it.
inline double test_scale() {
  const char* text = std::getenv("GYRE_TEST_SCALE");
  const double scale = text != nullptr ? std::atof(text) : 1.0;
  return scale > 0 ? scale : 1.0;
}
inline uint64_t scaled(uint64_t count, uint64_t at_least = 1) {
  const auto n = static_cast<uint64_t>(static_cast<double>(count) * test_scale());
  return n < at_least ? at_least : n;
}

inline ShardOptions small_shard_options(std::string directory = "shard") {
  ShardOptions options;
  options.directory = std::move(directory);
  options.identity.uuid.fill(7);
  options.log_salt = 0x5eed;
  options.memtable_bytes_max = 64u << 10;
  options.cache_bytes = 256u << 10;
  options.compaction.base_bytes_min = 64u << 10;
  options.compaction.table_bytes_target = 16u << 10;
  options.removal_piece_bytes = 8u << 10;
  return options;
}

enum class LifeEnd : uint8_t {
  finished,
  power_cut,  // at the disk's stop point
  killed,
};

class ShardRig {
 public:
  explicit ShardRig(uint64_t seed = 1, sim::DiskOptions disk = {})
      : ShardRig(sim::WorldOptions{.seed = seed}, disk) {}
  ShardRig(sim::WorldOptions world, sim::DiskOptions disk)
      : world_(world), node_(add_node(std::move(disk))) {}

  sim::World& world() { return world_; }
  sim::Node& node() { return node_; }
  sim::Disk& disk() { return node_.disk(); }

  // The next life is killed after this much time, if it is still there.
  void kill_after(Nanos time) { kill_after_ = time; }

  // The next life ends when this many events have happened in the world, by a power cut or a kill.
  void stop_after_events(uint64_t events, bool kill) {
    events_max_ = world_.events_run() + events;
    kill_at_events_ = kill;
  }

  // One life of the program; nothing may be left of it. When the disk stops at its stop point the
  // power is cut in `mode`.
  LifeEnd live(Task<void> main, sim::CrashMode mode = sim::CrashMode::random) {
    const int64_t frames_before = frames_live() - 1;  // `main` is one
    LifeEnd end = LifeEnd::finished;
    {
      sim::SimBackend backend(node_, 0);
      Reactor reactor(backend, {});
      reactor.start(then_quiet(std::move(main)));
      node_.drive(0, reactor);
      sim::Stop stop = run(std::exchange(kill_after_, seconds(36'000)));
      if (stop == sim::Stop::satisfied && !node_.ended()) {
        stop = kill_at_events_ ? sim::Stop::deadline : sim::Stop::crash_point;
      }
      events_max_ = UINT64_MAX;
      if (stop == sim::Stop::crash_point) {
        end = LifeEnd::power_cut;
        world_.crash(node_, mode);
        stop = run();
      } else if (stop == sim::Stop::deadline) {
        end = LifeEnd::killed;
        world_.kill(node_);
        stop = run();
      }
      REQUIRE(stop == sim::Stop::satisfied);
      if (end == LifeEnd::finished) CHECK(world_.check_quiescent(node_) == "");
      CHECK(reactor.operations_in_flight() == 0);
      if (end == LifeEnd::finished) CHECK(reactor.descriptors_open == 0);
      node_.stop_driving(0);
    }
    CHECK(frames_live() == frames_before);
    if (end != LifeEnd::finished) world_.power_on(node_);
    return end;
  }

  // Between lives.
  void cut_power(sim::CrashMode mode = sim::CrashMode::random) {
    world_.crash(node_, mode);
    world_.power_on(node_);
  }

 private:
  sim::Node& add_node(sim::DiskOptions disk) {
    sim::NodeOptions options;
    options.disk = std::move(disk);
    return world_.add_node(std::move(options));
  }
  sim::Stop run(Nanos limit = seconds(36'000)) {
    return world_.run_until([&] { return node_.ended() || world_.events_run() >= events_max_; },
                            limit);
  }
  // Closes in the background take a moment.
  static Task<void> then_quiet(Task<void> main) {
    co_await std::move(main);
    static_cast<void>(co_await sleep_for(seconds(10)));
  }

  sim::World world_;
  sim::Node& node_;
  Nanos kill_after_ = seconds(36'000);
  uint64_t events_max_ = UINT64_MAX;
  bool kill_at_events_ = false;
};

// --- what a program has ------------------------------------------------------------------------

// The memory and clock that a core would give its shard. Must outlive it.
struct ShardHome {
  explicit ShardHome(uint64_t write_memory_bytes = 8u << 20) : memory(write_memory_bytes) {}
  ~ShardHome() { CHECK(memory.available() == memory.capacity()); }
  ShardContext context() { return {memory, clock}; }
  Semaphore memory;
  HybridClock clock{1, 0};
};

inline ValueBuffer buffer_of(std::string_view bytes) {
  ValueBuffer buffer;
  buffer.expect(bytes.size());
  buffer.append(bytes);
  return buffer;
}

inline Task<Result<Version>> put(Shard& shard, std::string key, std::string value,
                                 uint64_t expire_at_ms = 0) {
  co_return co_await shard.put(std::move(key), buffer_of(value), expire_at_ms);
}

inline Task<Result<std::string>> read_all(LargeValueStream stream) {
  std::string all;
  for (;;) {
    Result<std::string_view> piece = co_await stream.next();
    if (!piece) co_return fail(piece.error());
    if (piece->empty()) co_return all;
    all += *piece;
  }
}

// As the server reads: from memory if that is enough. An absent key is an empty optional.
inline Task<Result<std::optional<std::string>>> get_at(Shard& shard, std::string key,
                                                       uint64_t now_ms) {
  StoreRead read;
  ReadOutcome outcome = shard.try_get(key, now_ms, read);
  if (outcome == ReadOutcome::wait) {
    read = StoreRead();
    Result<bool> found = co_await shard.get(key, now_ms, read);
    if (!found) co_return fail(found.error());
    outcome = *found ? ReadOutcome::found : ReadOutcome::absent;
  }
  if (outcome == ReadOutcome::absent) co_return std::nullopt;
  if (!read.large) co_return std::string(read.value);
  const uint64_t size = read.size_bytes;
  Result<LargeValueStream> stream = LargeValueStream::open(std::move(read));
  if (!stream) co_return fail(stream.error());
  Result<std::string> value = co_await read_all(std::move(*stream));
  if (!value) co_return fail(value.error());
  if (value->size() != size) co_return fail(Errc::corrupt, "a value of another size");
  co_return std::move(*value);
}

inline Task<Result<std::optional<std::string>>> get(Shard& shard, std::string key) {
  return get_at(shard, std::move(key), Reactor::current().wall_ms());
}

using Contents = std::map<std::string, std::string>;

// What is left of a scan.
inline Task<Result<Contents>> drain(Scan& scan, ScanDirection direction = ScanDirection::forward) {
  Contents all;
  std::optional<std::string> last;
  for (;;) {
    switch (scan.try_next()) {
      case Scan::Step::end:
        co_return all;
      case Scan::Step::wait:
        if (Result<void> loaded = co_await scan.load(); !loaded) co_return fail(loaded.error());
        break;
      case Scan::Step::record: {
        const std::string key(scan.entry().key);
        const bool forward = direction == ScanDirection::forward;
        if (last && (forward ? *last >= key : *last <= key)) {
          co_return fail(Errc::corrupt, "a scan out of order at " + key);
        }
        last = key;
        if (!scan.large()) {
          all[key] = scan.entry().value;
          break;
        }
        const uint64_t size = scan.value_bytes();
        Result<LargeValueStream> stream = scan.large_value();
        if (!stream) co_return fail(stream.error());
        Result<std::string> value = co_await read_all(std::move(*stream));
        if (!value) co_return fail(value.error());
        if (value->size() != size) co_return fail(Errc::corrupt, "a value of another size");
        all[key] = std::move(*value);
        break;
      }
    }
  }
}

inline Task<Result<Contents>> scan_all(Shard& shard, std::string start = "", std::string end = "") {
  Result<std::unique_ptr<Scan>> scan =
      co_await shard.scan(std::move(start), std::move(end), Reactor::current().wall_ms());
  if (!scan) co_return fail(scan.error());
  co_return co_await drain(**scan);
}

// Bytes that no compression makes small, the same for the same seed.
inline std::string noise(uint64_t seed, size_t size_bytes) {
  std::string bytes(size_bytes, '\0');
  sim::Prng prng(seed, "noise");
  prng.fill(bytes.data(), bytes.size());
  return bytes;
}

}  // namespace gyre::test
