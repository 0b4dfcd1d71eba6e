// Sockets of a core that found no provided buffer: they wait here and are armed again, a few at
// a time, when buffers come back: as many as there are buffers per tick, until either runs out.
// Arming again in a loop would spin the core at 100 %; waiting for the next buffer to come back
// would wait for ever if those that were armed first have nothing to receive.
#pragma once

#include <cstdint>

#include <gyre/reactor.hpp>

namespace gyre {

class Socket;

class ReceiveParking {
 public:
  ReceiveParking();
  void park(Reactor& reactor, Socket& socket) noexcept;
  void unpark(Socket& socket) noexcept;
  void recycle(Reactor& reactor, uint16_t buffer) noexcept;
  uint64_t parks() const { return parks_; }

 private:
  struct Rearm : TickHook {
    explicit Rearm(ReceiveParking& of);
    ReceiveParking& parking;
  };
  struct NextTick : Timer {
    explicit NextTick(ReceiveParking& of);
    ReceiveParking& parking;
  };
  void rearm() noexcept;

  Socket* head_ = nullptr;
  Socket* tail_ = nullptr;
  uint64_t parks_ = 0;
  Rearm rearm_{*this};
  NextTick next_tick_{*this};
};

}  // namespace gyre
