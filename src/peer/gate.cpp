#include "peer/gate.hpp"

#include <utility>

#include "peer/hello.hpp"

namespace gyre::peer {

// Carries a connection to another core and comes back, so that admit() ends when nothing of it is
// under way any more.
struct Gate::HandOver : Message {
  HandOver(PeerSink& to, Socket::Detached what) : sink(to), peer(std::move(what)) {
    deliver = &HandOver::there;
  }
  static void there(Message& self, Reactor& at) noexcept {
    auto& message = static_cast<HandOver&>(self);
    message.sink.peer_arrived(std::move(message.peer.fd), std::move(message.peer.received));
    message.deliver = &HandOver::back;
    at.send(message.from, message);
  }
  static void back(Message& self, Reactor&) noexcept { static_cast<HandOver&>(self).arrived.set(); }

  PeerSink& sink;
  Socket::Detached peer;
  Event arrived;
};

Task<Result<void>> Gate::admit(Descriptor fd, std::string received) {
  Socket socket(std::move(fd));
  Result<uint16_t> target = co_await read_target_core(socket, received, hello_timeout_);
  if (!target) {
    co_await socket.close();
    co_return fail(std::move(target.error()));
  }
  const auto core = static_cast<unsigned>(*target % sinks_.size());
  Socket::Detached peer = co_await socket.detach();
  peer.received.insert(0, received);
  PeerSink& sink = *sinks_[core];
  if (core == Reactor::current().core()) {
    sink.peer_arrived(std::move(peer.fd), std::move(peer.received));
    co_return Result<void>{};
  }
  ++handed_over_;
  HandOver message(sink, std::move(peer));
  Reactor::current().send(core, message);
  co_await detail::Uninterrupted{message.arrived};
  co_return Result<void>{};
}

}  // namespace gyre::peer
