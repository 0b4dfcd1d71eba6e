#include <gyre/acceptor.hpp>

namespace gyre {

uint32_t ConnectionCounts::total() const {
  uint32_t sum = 0;
  for (unsigned core = 0; core < cores_; ++core) sum += of(core);
  return sum;
}

unsigned ConnectionCounts::place(unsigned core, uint32_t slack) const {
  unsigned least = core;
  for (unsigned other = 0; other < cores_; ++other) {
    if (of(other) < of(least)) least = other;
  }
  return of(core) > of(least) + slack ? least : core;
}

// Carries a descriptor to another core, and comes back as every message does: so the core that
// accepted knows when nothing of it is under way any more.
struct Acceptor::HandOver : Message {
  HandOver(Acceptor& of, ConnectionSink& to, int connected) : home(of), sink(to), fd(connected) {
    deliver = &HandOver::there;
  }
  static void there(Message& self, Reactor& at) noexcept {
    auto& message = static_cast<HandOver&>(self);
    const unsigned origin = message.from;
    message.sink.connected(message.fd);
    message.deliver = &HandOver::back;
    at.send(origin, message);
  }
  static void back(Message& self, Reactor&) noexcept {
    auto* message = static_cast<HandOver*>(&self);
    if (--message->home.under_way_ == 0) message->home.arrived_.set();
    delete message;
  }

  Acceptor& home;
  ConnectionSink& sink;
  int fd;
};

void Acceptor::hand_over(int fd, unsigned target) {
  ++handed_over_;
  ++under_way_;
  Reactor::current().send(target, *new HandOver(*this, *sinks_[target], fd));
}

Task<Result<void>> Acceptor::accept_all(Listener& listener) {
  const unsigned here = Reactor::current().core();
  for (;;) {
    Result<Descriptor> fd = co_await listener.accept();
    if (!fd) {
      if (fd.error().code == Errc::cancelled) co_return Result<void>{};
      co_return fail(fd.error());
    }
    const unsigned target = counts_.place(here);
    counts_.opened(target);
    if (target == here) {
      sinks_[target]->connected(fd->release());
    } else {
      hand_over(fd->release(), target);
    }
  }
}

Task<Result<void>> Acceptor::run(Listener& listener) {
  Result<void> ended = co_await accept_all(listener);
  while (under_way_ != 0) {
    arrived_.reset();
    co_await detail::Uninterrupted{arrived_};
  }
  co_return ended;
}

}  // namespace gyre
