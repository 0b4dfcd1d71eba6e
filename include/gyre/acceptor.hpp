// Accepting on every core of a node. Each core listens on the same port (SO_REUSEPORT), the
// kernel spreads connections by a hash, which is lumpy when they are few: a core that has more
// connections than the least busy one plus `slack` hands the new one over (source: Seastar moves
// accepted descriptors to the least loaded shard).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include <gyre/mailbox.hpp>
#include <gyre/reactor.hpp>
#include <gyre/socket.hpp>
#include <gyre/sync.hpp>
#include <gyre/task.hpp>

namespace gyre {

// Connections per core, written by all cores: only a hint, so relaxed order does.
class ConnectionCounts {
 public:
  explicit ConnectionCounts(unsigned cores)
      : cores_(cores), counts_(new std::atomic<uint32_t>[cores] {}) {}

  void opened(unsigned core) { counts_[core].fetch_add(1, std::memory_order_relaxed); }
  void closed(unsigned core) { counts_[core].fetch_sub(1, std::memory_order_relaxed); }
  uint32_t of(unsigned core) const { return counts_[core].load(std::memory_order_relaxed); }
  uint32_t total() const;
  // Where a connection accepted on `core` should live.
  unsigned place(unsigned core, uint32_t slack = 1) const;

 private:
  unsigned cores_;
  std::unique_ptr<std::atomic<uint32_t>[]> counts_;
};

// What becomes of a new connection; runs on the core that will keep it, which must answer each
// call with counts.closed(core) once the connection is gone.
class ConnectionSink {
 public:
  virtual ~ConnectionSink() = default;
  virtual void connected(int fd) noexcept = 0;
};

class Acceptor {
 public:
  // `sinks[c]` is the sink of core c; it must exist before the first connection is accepted and
  // until all cores have stopped accepting.
  Acceptor(ConnectionCounts& counts, ConnectionSink* const* sinks)
      : counts_(counts), sinks_(sinks) {}

  // Accepts until the task is stopped or the listener fails for good. When it ends, every
  // connection that it handed over has arrived: none is lost if the other cores end after that.
  Task<Result<void>> run(Listener& listener);

  uint64_t handed_over() const { return handed_over_; }

 private:
  struct HandOver;
  Task<Result<void>> accept_all(Listener& listener);
  void hand_over(int fd, unsigned target);

  ConnectionCounts& counts_;
  ConnectionSink* const* sinks_;
  uint64_t handed_over_ = 0;
  uint64_t under_way_ = 0;  // handed over, and not yet known to have arrived
  Event arrived_;
};

}  // namespace gyre
