// How fast a shard takes writes when flushing and merging can't keep up with them.
//
// Pressure comes from three sides: memory that is not flushed, runs of level 0, and compaction debt.
//
// Memory limits writers by itself: who finds none queues for it, and a flush gives it back as it
// writes, so that they go on at its pace (Shard::Mem::give_back). Runs and debt: each is 0 at its soft limit and 1 at its hard one; the larger is the pressure:
//
//   pressure 0        writes are taken at once
//   between           at a rate in bytes per second: what comes faster waits its turn, and whoever
//                     would have to wait longer than it is willing to is refused
//   pressure 1        nothing is taken
//
// The rate is the recent one times (1 - pressure) / pressure. So nobody has to guess how fast this
// disk and CPU merge: with a pressure of 1/2 the rate stays as it is, above it falls, below it
// grows, and it settles where runs and debt do. The recent rate is an average over as long as writes
// at that rate take from soft to hard: that is how fast the pressure answers, and a rate that
// changes faster or slower swings. If the average over a tenth of that is more, it counts instead,
// or a burst after a quiet hour would be slowed to what the hour had. There is no step anywhere: RocksDB's worst stall went from minutes to a tenth of a second when its soft stage was
// no longer skipped.
//
// Also says what share of a busy core flushing and merging should get: little as long as nothing is
// behind, more the more is (source: Scylla's backlog controller).
//
// And how fast merges go while nothing is behind: what an incoming byte costs in merges, and some more
// the more is to be done, at least `merge_bytes_per_second_min`, so that they end some day; from the
// soft limit on as fast as they can. (Source: TigerBeetle's beats and the merge credits of Haskell's
// lsm-tree for the floor; whether to pace is disputed, so it is an option: Pebble took it out again.)
//
// Pure: time comes in, nothing goes out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include <gyre/time.hpp>

namespace gyre {

struct WriteControllerOptions {
  double memory_soft = 0.6;  // of the memory for writes
  double level0_soft = 8;    // runs
  double level0_hard = 24;
  double debt_soft = 1;
  double debt_hard = 4;
  double level0_run_bytes = 16 << 20;
};

struct WritePressureSignals {
  double memory_used = 0;  // of the memory for writes, what is flushed already not counted
  double level0_runs = 0;  // of runs being merged only the part that is left
  double debt = 0;         // bytes to be merged, to what is usual
};

class WriteController {
 public:
  static constexpr Nanos delay_max = milliseconds(20);  // of a write whose client waits for it
  static constexpr double rate_window_s_min = 0.1;
  static constexpr double rate_window_s_max = 20;
  static constexpr double bytes_per_second_min = 1 << 20;
  // What a quiet moment saves up for: ticks are not evenly spaced.
  static constexpr Nanos burst = milliseconds(1);
  static constexpr double merge_bytes_per_second_min = 32 << 20;
  static constexpr double merge_bytes_per_written_byte = 16;
  static constexpr unsigned background_permille_least = 25;
  static constexpr unsigned background_permille_soft = 333;
  static constexpr unsigned background_permille_hard = 700;

  explicit WriteController(WriteControllerOptions options) : options_(options) {}

  void update(const WritePressureSignals& signals, Nanos now);

  // Whether the next write may be taken now, and that it was.
  bool ready(Nanos now) const { return pressure_ <= 0 || (pressure_ < 1 && free_at_ <= now); }
  void take(size_t bytes, Nanos now);
  // When that will be, as far as is known: after those that wait already, `queued_bytes`.
  // nanos_never: nobody knows.
  Nanos expected_wait(uint64_t queued_bytes, Nanos now) const;
  // When it is worth asking again.
  Nanos next_ready(Nanos now) const;

  const WriteControllerOptions& options() const { return options_; }
  double pressure() const { return pressure_; }
  // Of flushing and merging: 1 where the first signal is at its soft limit, 2 at its hard one.
  double urgency() const { return urgency_; }
  unsigned background_permille() const;
  // Bytes read by merges; 0: as fast as they can.
  double merge_bytes_per_second() const;
  // Bytes per second that are taken now; 0 without pressure: any.
  double rate_bytes() const;

 private:
  WriteControllerOptions options_;
  double pressure_ = 0;
  double urgency_ = 0;
  double recent_rate_bytes_ = 0;  // per second
  double burst_rate_bytes_ = 0;
  uint64_t taken_bytes_ = 0;  // since updated_
  Nanos updated_ = 0;
  Nanos free_at_ = 0;  // when what was taken is paid for
};

}  // namespace gyre
