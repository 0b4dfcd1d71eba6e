// From the port that clients and peers share to the core that a peer asks for: the gate reads the
// hello, and moves the connection with all bytes that came to the core that it names. Who asks
// can't know how many cores there are: numbers beyond them begin at core 0 again.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include <gyre/reactor.hpp>
#include <gyre/socket.hpp>
#include <gyre/sync.hpp>
#include <gyre/task.hpp>

namespace gyre::peer {

// What becomes of a peer's connection; runs on the core that will keep it.
class PeerSink {
 public:
  virtual ~PeerSink() = default;
  // `received` begins with the hello. Usually the beginning of an Inbound.
  virtual void peer_arrived(Descriptor fd, std::string received) noexcept = 0;
};

class Gate {
 public:
  // `sinks[c]` is the sink of core c. They must exist until every admit() of every core has ended.
  explicit Gate(std::span<PeerSink* const> sinks, Nanos hello_timeout = seconds(5))
      : sinks_(sinks), hello_timeout_(hello_timeout) {}

  // A connection whose first byte was zero. Ends when the connection has arrived at its core, or
  // was closed: no hello came in time, or it makes no sense (Errc::invalid). On this core; many at a
  // time.
  Task<Result<void>> admit(Descriptor fd, std::string received);

  uint64_t handed_over() const { return handed_over_; }

 private:
  struct HandOver;

  std::span<PeerSink* const> sinks_;
  Nanos hello_timeout_;
  uint64_t handed_over_ = 0;  // to other cores
};

}  // namespace gyre::peer
