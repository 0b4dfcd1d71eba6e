// What servers and clients wait for alike at the ends of a connection's life: a port to become free, a
// host to answer, a peer to read the last answer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include <gyre/acceptor.hpp>
#include <gyre/result.hpp>
#include <gyre/socket.hpp>
#include <gyre/task.hpp>
#include <gyre/time.hpp>

namespace gyre {

// Opens a listener, for up to 2 s if the port is taken. The kernel closes the listener of a killed
// process only after it has torn down its ring, some time after the process is gone: only a port that
// stays taken belongs to somebody.
Task<Result<void>> open_patiently(Listener& listener, Listener::Options options);

// An address, not a name.
bool is_numeric_host(std::string_view host);
// Connects to the first address of `host` that answers within `patience`, which each has for itself.
Task<Result<Descriptor>> connect_to_any(std::string host, uint16_t port, Nanos patience);

struct LingerLimits {
  Nanos silence;  // without a byte from the peer
  Nanos longest;
  size_t bytes_max;
};
// FIN after the last answer; what the peer still sends is read and dropped for a while, since closing
// with unread bytes would reset the connection and take the answer from the peer.
Task<void> linger(Socket& socket, LingerLimits limits);

}  // namespace gyre
