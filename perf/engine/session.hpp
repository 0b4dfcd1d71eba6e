// What a workload asks of an engine: steps, one after another, on an engine that stays open. Behind
// it each engine lives as it likes to: ours as coroutines on a reactor per CPU, RocksDB as threads.
// Only steps go through this interface, never a single operation.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string>

#include <gyre/backend.hpp>
#include <gyre/result.hpp>

#include "engine/recorder.hpp"
#include "engine/records.hpp"

namespace gyre::engine {

// The clock of all schedules and latencies; a reactor's is the same.
Nanos monotonic_now();

enum class Operation : uint8_t { put, get, scan };
inline constexpr unsigned scan_records = 10;

// Set by a signal; every loop looks at it.
struct Interruption {
  std::atomic<bool> happened{false};
  bool operator()() const { return happened.load(std::memory_order_relaxed); }
};

// One stretch of operations.
struct Load {
  Operation operation = Operation::get;
  KeyOrder order = KeyOrder::random;  // `once` ends when every key was had
  unsigned concurrency = 1;           // lanes, or threads
  double rate = 0;                    // operations per second; 0: closed loop
  Nanos duration = 0;                 // 0: until `operations` are done
  uint64_t operations = 0;            // 0 with duration 0: all keys of `once`
  double write_rate = 0;              // PUTs per second beside it, by a lane per core or one thread
  Nanos burst = 0;                    // of both rates
  uint64_t seed = 1;
};

// Bytes since the engine was opened.
struct EngineCounters {
  uint64_t user_bytes = 0;  // keys and values of PUTs
  uint64_t flushed_bytes = 0;
  uint64_t compacted_bytes = 0;  // written by compactions
  uint64_t log_bytes = 0;        // 0: not known
};
EngineCounters operator-(const EngineCounters& after, const EngineCounters& before);
EngineCounters operator+(const EngineCounters& a, const EngineCounters& b);

struct LoadResult {
  Recorder operations;
  Recorder writes;    // of write_rate
  Nanos elapsed = 0;  // what the rates are counted over
  EngineCounters counters;
  std::string problem;  // the first error of the engine
};

struct Settings {
  std::string directory;
  unsigned cpus = 1;
  uint64_t keys = 0;
  size_t value_bytes = 100;
  bool sync = false;
  uint64_t cache_bytes = 0;
  bool cache_holds_all = true;
  uint64_t write_buffer_bytes = 0;  // active and immutable together
  unsigned block_bytes = 8192;
  unsigned bloom_bits = 10;
  bool compress = true;
  bool direct_io = true;            // of RocksDB; ours knows nothing else
  uint64_t blob_bytes_min = 0;      // RocksDB keeps such values apart from its tables; 0: none
  uint64_t separate_bytes_min = 0;  // the same of ours
  bool any_core = true;             // of ours: any lane asks for any key
};

class Session {
 public:
  virtual ~Session() = default;
  virtual Result<LoadResult> run(const Load& load, const Interruption& interrupted) = 0;
  // Waits until no flush or compaction is left to do.
  virtual Result<void> settle() = 0;
  // Rewrites everything into the deepest level.
  virtual Result<void> compact() = 0;
  // Live tables on the disk.
  virtual uint64_t table_bytes() = 0;
  virtual Result<void> close() = 0;
};

// When operation `index` of an open loop is due: at a constant rate, in bursts. A burst is what came
// since the one before; without them a loop at a high rate would measure what it costs to wake up
// for every single operation, which is not the engines'.
class Pace {
 public:
  Pace(Nanos begin, double rate, Nanos burst) : begin_(begin), rate_(rate), burst_(burst) {}
  Nanos due(uint64_t index) const {
    const auto exact = static_cast<Nanos>(static_cast<double>(index) * 1e9 / rate_);
    return begin_ + (burst_ > 0 ? exact / burst_ * burst_ : exact);
  }

 private:
  Nanos begin_;
  double rate_;
  Nanos burst_;
};

// After the end of an open loop, what was due goes on for so long; the rest is unfinished.
inline constexpr Nanos open_loop_grace = seconds(2);

}  // namespace gyre::engine
