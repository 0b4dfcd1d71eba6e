#include "runtime/receive_parking.hpp"

#include <gyre/socket.hpp>

namespace gyre {

ReceiveParking::ReceiveParking() = default;

ReceiveParking::NextTick::NextTick(ReceiveParking& of)
    : Timer([](Timer& self) noexcept { static_cast<NextTick&>(self).parking.rearm(); }),
      parking(of) {}

ReceiveParking::Rearm::Rearm(ReceiveParking& of)
    : TickHook([](TickHook& self) noexcept { static_cast<Rearm&>(self).parking.rearm(); }),
      parking(of) {}

void ReceiveParking::park(Reactor& reactor, Socket& socket) noexcept {
  ++parks_;
  socket.parked_ = true;
  socket.next_parked_ = nullptr;
  (tail_ != nullptr ? tail_->next_parked_ : head_) = &socket;
  tail_ = &socket;
  if (reactor.backend().buffers_free() > 0) reactor.at_tick_end(rearm_);
}

void ReceiveParking::unpark(Socket& socket) noexcept {
  Socket* previous = nullptr;
  for (Socket* at = head_; at != nullptr; previous = at, at = at->next_parked_) {
    if (at != &socket) continue;
    (previous != nullptr ? previous->next_parked_ : head_) = socket.next_parked_;
    if (tail_ == &socket) tail_ = previous;
    break;
  }
  socket.parked_ = false;
  socket.next_parked_ = nullptr;
  if (head_ == nullptr) Reactor::current().disarm(next_tick_);
}

void ReceiveParking::recycle(Reactor& reactor, uint16_t buffer) noexcept {
  reactor.backend().recycle(buffer);
  if (head_ != nullptr) reactor.at_tick_end(rearm_);
}

void ReceiveParking::rearm() noexcept {
  Reactor& reactor = Reactor::current();
  const size_t free = reactor.backend().buffers_free();
  for (size_t i = 0; i < free && head_ != nullptr; ++i) {
    Socket& socket = *head_;
    unpark(socket);
    if (socket.waiting_) socket.arm_receive();
  }
  // Those armed now may have nothing to receive, so that no buffer of theirs ever comes back.
  if (free > 0 && head_ != nullptr) reactor.arm(next_tick_, reactor.now());
}

}  // namespace gyre
