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

namespace {

// Carries a descriptor to another core; made on one core and freed on the other, so plain new.
struct HandOver : Message {
  static void arrived(Message& self, Reactor&) noexcept {
    auto* message = static_cast<HandOver*>(&self);
    message->sink->connected(message->fd);
    delete message;
  }
  int fd = -1;
  ConnectionSink* sink = nullptr;
};

}  // namespace

Task<Result<void>> Acceptor::run(Listener& listener) {
  Reactor& reactor = Reactor::current();
  for (;;) {
    Result<Descriptor> fd = co_await listener.accept();
    if (!fd) {
      if (fd.error().code == Errc::cancelled) co_return Result<void>{};
      co_return fail(fd.error());
    }
    const unsigned target = counts_.place(reactor.core());
    counts_.opened(target);
    if (target == reactor.core()) {
      sinks_[target]->connected(fd->release());
      continue;
    }
    ++handed_over_;
    auto* message = new HandOver;
    message->deliver = &HandOver::arrived;
    message->fd = fd->release();
    message->sink = sinks_[target];
    reactor.send(target, *message);
  }
}

}  // namespace gyre
