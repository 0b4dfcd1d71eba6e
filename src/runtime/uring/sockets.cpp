#include "runtime/uring/sockets.hpp"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include <gyre/op.hpp>

#include "base/hash.hpp"

namespace gyre::uring {

namespace {
void set_option(int fd, int level, int name) {
  const int on = 1;
  (void)::setsockopt(fd, level, name, &on, sizeof on);
}

// `share_port`: SO_REUSEPORT, under which the kernel spreads connections over all listeners
// that have it.
int bind_and_listen(const sockaddr_in6& address, socklen_t length, unsigned backlog,
                    bool share_port) {
  const int fd = ::socket(address.sin6_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  set_option(fd, SOL_SOCKET, SO_REUSEADDR);
  if (share_port) set_option(fd, SOL_SOCKET, SO_REUSEPORT);
  set_option(fd, IPPROTO_TCP, TCP_NODELAY);  // accepted sockets inherit it
  if (::bind(fd, reinterpret_cast<const sockaddr*>(&address), length) == 0 &&
      ::listen(fd, static_cast<int>(backlog)) == 0) {
    return fd;
  }
  const int error = errno;
  ::close(fd);
  return -error;
}
}  // namespace

socklen_t parse_address(std::string_view text, uint16_t port, sockaddr_in6& out) {
  std::memset(&out, 0, sizeof out);
  auto* v4 = reinterpret_cast<sockaddr_in*>(&out);
  const std::string host(text.substr(0, text.find('%')));
  if (::inet_pton(AF_INET, host.c_str(), &v4->sin_addr) == 1 && host.size() == text.size()) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    return sizeof *v4;
  }
  std::memset(&out, 0, sizeof out);
  if (::inet_pton(AF_INET6, host.c_str(), &out.sin6_addr) != 1) return 0;
  out.sin6_family = AF_INET6;
  out.sin6_port = htons(port);
  if (host.size() < text.size()) {
    const std::string interface(text.substr(host.size() + 1));
    out.sin6_scope_id = ::if_nametoindex(interface.c_str());
    if (out.sin6_scope_id == 0) return 0;
  }
  return sizeof out;
}

int open_listener(const char* address, uint16_t port, unsigned backlog, unsigned flags) {
  sockaddr_in6 parsed;
  const socklen_t length = parse_address(address, port, parsed);
  if (length == 0) return -EINVAL;
  const bool share_port = (flags & flag_reuse_port) != 0;
  if ((flags & flag_probe_port) != 0 && share_port && port != 0) {
    // A second server of the same user could join the first one's port and take half of its
    // connections. Without SO_REUSEPORT the kernel refuses a port that anybody listens on.
    const int probe = bind_and_listen(parsed, length, 1, false);
    if (probe < 0) return probe;
    ::close(probe);
  }
  return bind_and_listen(parsed, length, backlog, share_port);
}

uint16_t local_port(int fd) {
  sockaddr_in6 address{};
  socklen_t length = sizeof address;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) return 0;
  return ntohs(address.sin6_port);  // at the same place in a sockaddr_in
}

uint64_t peer_number(int fd) {
  sockaddr_in6 address{};
  socklen_t size = sizeof address;
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return 0;
  if (address.sin6_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    return hash64({reinterpret_cast<const char*>(&v4.sin_addr), sizeof v4.sin_addr}) | 1;
  }
  if (address.sin6_family != AF_INET6) return 0;
  return hash64({reinterpret_cast<const char*>(&address.sin6_addr), sizeof address.sin6_addr}) | 1;
}

}  // namespace gyre::uring
