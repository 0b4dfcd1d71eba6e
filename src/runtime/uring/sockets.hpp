// The socket calls that are plain system calls: they never wait.
#pragma once

#include <netinet/in.h>

#include <cstdint>
#include <string_view>

namespace gyre::uring {

// "1.2.3.4", "::1", "fe80::1%eth0". Returns the length for bind and connect, or 0 if `text` is
// not a numeric address. The result lies in a sockaddr_in6 also when it is a sockaddr_in.
socklen_t parse_address(std::string_view text, uint16_t port, sockaddr_in6& out);

// A listening socket, or a negative errno. `flags` as for OpCode::listen.
int open_listener(const char* address, uint16_t port, unsigned backlog, unsigned flags);

// The port a socket is bound to, 0 if it has none.
uint16_t local_port(int fd);

// A hash of the address of the other end, without its port; 0 if there is none.
uint64_t peer_number(int fd);

}  // namespace gyre::uring
