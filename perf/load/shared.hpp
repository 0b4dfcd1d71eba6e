// What the threads of a run share: when it starts, why it ends, and figures for the progress line.
// Everything else is a thread's own until the end.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "load/ledger.hpp"
#include "load/machine.hpp"
#include "load/options.hpp"

namespace gyre::load {

enum class Stop : int { none, sigint, sigterm, server_lost, failed };

struct Shared {
  explicit Shared(const Options& of)
      : options(of), newest(of.keys - 1), live(new Live[of.threads]) {
    // Values of earlier runs count as older; the newest keys of all are not read yet.
    if (of.verify) {
      ledger.emplace(std::max(of.keys, of.stored()) + of.connections, wall_us(), of.filled);
    }
  }

  struct alignas(64) Live {
    std::atomic<uint64_t> answered{0};
    std::atomic<uint64_t> errors{0};
    std::atomic<uint64_t> in_flight{0};
    std::atomic<uint64_t> queued{0};
    std::atomic<uint64_t> connected{0};
  };

  // The first reason counts.
  void stop(Stop reason, std::string why) {
    const std::lock_guard lock(mutex);
    if (stopped.load() != Stop::none) return;
    stop_text = std::move(why);
    stopped.store(reason);
  }
  bool is_stopped() const { return stopped.load(std::memory_order_relaxed) != Stop::none; }

  const Options& options;
  std::optional<Ledger> ledger;  // with --verify
  std::atomic<uint64_t> newest;
  std::unique_ptr<Live[]> live;
  std::atomic<unsigned> arrived[4] = {};  // threads that are through with a stage
  std::atomic<Nanos> start_at{0};         // of the schedule, warm-up included
  std::atomic<uint64_t> filled{0};
  std::atomic<Stop> stopped{Stop::none};
  std::mutex mutex;       // of stop_text
  std::string stop_text;  // a sentence for people
};

}  // namespace gyre::load
