#include "runtime/patience.hpp"

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include <gyre/reactor.hpp>

namespace gyre {

namespace {

constexpr Nanos port_patience = seconds(2);
constexpr Nanos port_retry_interval = milliseconds(20);

Task<Result<Descriptor>> connect_address(std::string address, uint16_t port) {
  co_return co_await connect_to(std::move(address), port);
}

}  // namespace

Task<Result<void>> open_patiently(Listener& listener, Listener::Options options) {
  Result<void> opened = co_await listener.open(options);
  const Nanos give_up = Reactor::current().now() + port_patience;
  while (!opened && opened.error().os_error == EADDRINUSE && Reactor::current().now() < give_up) {
    if (!co_await sleep_for(port_retry_interval)) break;
    opened = co_await listener.open(options);
  }
  co_return opened;
}

bool is_numeric_host(std::string_view host) {
  return host.find(':') != std::string_view::npos ||
         host.find_first_not_of("0123456789.") == std::string_view::npos;
}

Task<Result<Descriptor>> connect_to_any(std::string host, uint16_t port, Nanos patience) {
  std::vector<std::string> addresses{host};
  if (!is_numeric_host(host)) {
    Result<std::vector<std::string>> found = co_await resolve(host);
    if (!found) co_return fail(std::move(found.error()));
    addresses = std::move(*found);
  }
  Error last = Error::of(Errc::not_found, "no address for " + host);
  for (std::string& address : addresses) {
    Result<Descriptor> fd =
        co_await with_timeout<Descriptor>(patience, connect_address(address, port));
    if (fd) co_return fd;
    last = std::move(fd.error());
    if (last.code == Errc::cancelled) break;
  }
  co_return fail(std::move(last));
}

Task<void> linger(Socket& socket, LingerLimits limits) {
  Reactor& reactor = Reactor::current();
  static_cast<void>(co_await socket.shutdown_send());
  struct Interrupt : Timer {
    explicit Interrupt(Socket& of)
        : Timer([](Timer& self) noexcept {
            static_cast<Interrupt&>(self).socket.interrupt_receive();
          }),
          socket(of) {}
    Socket& socket;
  } timer(socket);
  const Nanos end = reactor.now() + limits.longest;
  const uint64_t bytes_at_start = socket.bytes_received();
  for (;;) {
    reactor.disarm(timer);
    reactor.arm(timer, std::min(end, reactor.now() + limits.silence));
    Result<std::string_view> bytes = co_await socket.receive();
    socket.release();
    if (!bytes || bytes->empty() || reactor.now() >= end) break;
    if (socket.bytes_received() - bytes_at_start > limits.bytes_max) break;
  }
  reactor.disarm(timer);
}

}  // namespace gyre
