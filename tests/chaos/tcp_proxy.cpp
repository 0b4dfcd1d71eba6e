#include "tcp_proxy.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <stdexcept>

namespace gyre::chaos {

namespace {

// What a way holds per connection before it reads no more; with the kernel's buffers this is what
// somebody can send into a cut way before they notice.
constexpr size_t held_bytes_max = 256 << 10;
constexpr size_t chunk_bytes_max = 64 << 10;
// A slow way takes at most this much at once.
constexpr std::chrono::milliseconds burst_time(20);

sockaddr_in address_of(const std::string& text, uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  if (inet_pton(AF_INET, text.c_str(), &address.sin_addr) != 1) {
    throw std::runtime_error("not an address: " + text);
  }
  return address;
}

[[noreturn]] void fail(const std::string& what) {
  throw std::runtime_error(what + ": " + std::strerror(errno));
}

void send_at_once(int fd) {
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

}  // namespace

struct TcpProxy::Way {
  WayRules rules;
  WayCounts counts;
  uint64_t until_error = 0;  // bytes that stay whole
  double credit_bytes = 0;   // of a slow way
  Clock::time_point credited_at;

  void credit(Clock::time_point now) {
    const std::chrono::duration<double> since = now - credited_at;
    const auto rate = static_cast<double>(rules.bytes_per_second);
    const double most = std::max(1.0, rate * std::chrono::duration<double>(burst_time).count());
    credit_bytes = std::min(most, credit_bytes + since.count() * rate);
    credited_at = now;
  }
};

struct TcpProxy::Front {
  int fd = -1;
  unsigned machine = 0;
  sockaddr_in back{};
};

// One direction of a connection.
struct TcpProxy::Stream {
  struct Chunk {
    Clock::time_point came;
    std::string bytes;    // none: the end
    bool resets = false;  // an end that is a reset
  };
  int from = -1;
  int to = -1;
  Way* way = nullptr;
  std::deque<Chunk> held;
  size_t held_bytes = 0;
  bool read_to_end = false;
  bool done = false;        // the end was passed on
  bool for_no_one = false;  // who it goes to is gone

  void end(bool with_reset) {
    if (!read_to_end || with_reset) held.push_back({Clock::now(), "", with_reset});
    read_to_end = true;
  }
  bool reads() const { return !read_to_end && held_bytes < held_bytes_max; }
  // When something can be passed on, if the other side takes it.
  Clock::time_point due(Clock::time_point now) const {
    if (held.empty() || way->rules.cut) return Clock::time_point::max();
    const Clock::time_point at = held.front().came + way->rules.delay;
    if (at > now || way->rules.bytes_per_second == 0 || way->credit_bytes >= 1) return at;
    const double seconds =
        (1 - way->credit_bytes) / static_cast<double>(way->rules.bytes_per_second);
    return now + std::chrono::duration_cast<Clock::duration>(
                     std::chrono::duration<double>(std::max(seconds, 0.001)));
  }
};

struct TcpProxy::Connection {
  unsigned client = 0;  // machines
  unsigned server = 0;
  Stream forward;  // what the client says
  Stream backward;
  bool connecting = true;
  bool broken = false;  // to be reset
  bool ended() const { return broken || (forward.done && backward.done); }
};

TcpProxy::TcpProxy(uint64_t seed) : random_(seed) {
  wake_fd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (wake_fd_ < 0) fail("eventfd");
  thread_ = std::thread([this] { run(); });
}

TcpProxy::~TcpProxy() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake();
  thread_.join();
  for (const auto& connection : connections_) close_with_reset(*connection);
  for (const auto& front : fronts_) close(front->fd);
  close(wake_fd_);
}

void TcpProxy::wake() {
  const uint64_t one = 1;
  static_cast<void>(!write(wake_fd_, &one, sizeof one));
}

TcpProxy::Way& TcpProxy::way(unsigned from, unsigned to) {
  std::unique_ptr<Way>& way = ways_[{from, to}];
  if (!way) way = std::make_unique<Way>();
  return *way;
}

void TcpProxy::know(const std::string& address, unsigned machine) {
  const std::lock_guard lock(mutex_);
  machines_[address_of(address, 0).sin_addr.s_addr] = machine;
}

uint16_t TcpProxy::front(unsigned machine, const std::string& address, uint16_t port,
                         const std::string& back_address, uint16_t back_port) {
  auto front = std::make_unique<Front>();
  front->machine = machine;
  front->back = address_of(back_address, back_port);
  front->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (front->fd < 0) fail("socket");
  const int on = 1;
  setsockopt(front->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  const int buffer = 128 << 10;  // and of what is accepted: senders shall notice a cut way soon
  setsockopt(front->fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
  sockaddr_in at = address_of(address, port);
  socklen_t size = sizeof at;
  if (bind(front->fd, reinterpret_cast<sockaddr*>(&at), size) != 0 || listen(front->fd, 128) != 0 ||
      getsockname(front->fd, reinterpret_cast<sockaddr*>(&at), &size) != 0) {
    const int error = errno;
    close(front->fd);
    errno = error;
    fail("listen at " + address);
  }
  {
    const std::lock_guard lock(mutex_);
    fronts_.push_back(std::move(front));
  }
  wake();
  return ntohs(at.sin_port);
}

void TcpProxy::set_way(unsigned from, unsigned to, const WayRules& rules) {
  {
    const std::lock_guard lock(mutex_);
    Way& changed = way(from, to);
    changed.rules = rules;
    changed.until_error = 0;
    if (rules.bytes_between_errors > 0) {
      changed.until_error = random_() % (2 * rules.bytes_between_errors);
    }
    changed.credit_bytes = 0;
    changed.credited_at = Clock::now();
  }
  wake();
}

void TcpProxy::set_both_ways(unsigned a, unsigned b, const WayRules& rules) {
  set_way(a, b, rules);
  set_way(b, a, rules);
}

void TcpProxy::heal() {
  {
    const std::lock_guard lock(mutex_);
    for (auto& [machines, each] : ways_) each->rules = {};
  }
  wake();
}

size_t TcpProxy::reset(unsigned a, unsigned b) {
  size_t count = 0;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& connection : connections_) {
      if (std::minmax(connection->client, connection->server) != std::minmax(a, b)) continue;
      if (!connection->ended()) ++count;
      connection->broken = true;
    }
  }
  wake();
  return count;
}

WayCounts TcpProxy::counts(unsigned from, unsigned to) const {
  const std::lock_guard lock(mutex_);
  const auto found = ways_.find({from, to});
  return found == ways_.end() ? WayCounts{} : found->second->counts;
}

size_t TcpProxy::connections(unsigned a, unsigned b) const {
  const std::lock_guard lock(mutex_);
  return static_cast<size_t>(std::ranges::count_if(connections_, [&](const auto& connection) {
    return !connection->ended() &&
           std::minmax(connection->client, connection->server) == std::minmax(a, b);
  }));
}

void TcpProxy::close_with_reset(Connection& connection) {
  const linger at_once{.l_onoff = 1, .l_linger = 0};
  for (const int fd : {connection.forward.from, connection.forward.to}) {
    if (connection.broken || !connection.ended()) {
      setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    }
    close(fd);
  }
}

void TcpProxy::accept_from(Front& front) {
  for (;;) {
    sockaddr_in from{};
    socklen_t size = sizeof from;
    const int client =
        accept4(front.fd, reinterpret_cast<sockaddr*>(&from), &size, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (client < 0) return;
    const int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (server < 0) {
      close(client);
      return;
    }
    send_at_once(client);
    send_at_once(server);
    auto connection = std::make_unique<Connection>();
    const auto known = machines_.find(from.sin_addr.s_addr);
    connection->client = known == machines_.end() ? 0 : known->second;
    connection->server = front.machine;
    connection->forward.from = connection->backward.to = client;
    connection->forward.to = connection->backward.from = server;
    connection->forward.way = &way(connection->client, connection->server);
    connection->backward.way = &way(connection->server, connection->client);
    if (connect(server, reinterpret_cast<const sockaddr*>(&front.back), sizeof front.back) == 0) {
      connection->connecting = false;
    } else if (errno != EINPROGRESS) {
      connection->broken = true;
    }
    connections_.push_back(std::move(connection));
  }
}

void TcpProxy::damage(Way& way, std::string& bytes) {
  if (way.rules.bytes_between_errors == 0) return;
  size_t at = 0;
  while (bytes.size() - at > way.until_error) {
    at += way.until_error;
    bytes[at] = static_cast<char>(bytes[at] ^ (1 << (random_() % 8)));
    ++way.counts.flipped;
    ++at;
    way.until_error = random_() % (2 * way.rules.bytes_between_errors);
  }
  way.until_error -= bytes.size() - at;
}

void TcpProxy::read_from(Stream& stream) {
  while (stream.reads()) {
    std::string bytes(chunk_bytes_max, '\0');
    const ssize_t size = recv(stream.from, bytes.data(), bytes.size(), 0);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
    if (size <= 0) {
      stream.end(size < 0);
      return;
    }
    if (stream.for_no_one) continue;
    bytes.resize(static_cast<size_t>(size));
    damage(*stream.way, bytes);
    stream.held_bytes += bytes.size();
    stream.held.push_back({Clock::now(), std::move(bytes), false});
  }
}

void TcpProxy::write_to(Connection& connection, Stream& stream, Clock::time_point now) {
  Way& way = *stream.way;
  while (stream.due(now) <= now) {
    std::string& bytes = stream.held.front().bytes;
    if (stream.held.front().resets) {
      connection.broken = true;
      return;
    }
    if (bytes.empty()) {
      shutdown(stream.to, SHUT_WR);
      stream.done = true;
      stream.held.pop_front();
      return;
    }
    size_t most = bytes.size();
    if (way.rules.bytes_per_second > 0) {
      most = std::min(most, static_cast<size_t>(way.credit_bytes));
    }
    const ssize_t size = send(stream.to, bytes.data(), most, MSG_NOSIGNAL);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
    if (size < 0) {
      // The news has to go the other way, which may be slow or cut.
      stream.for_no_one = stream.done = true;
      stream.held.clear();
      stream.held_bytes = 0;
      (&stream == &connection.forward ? connection.backward : connection.forward).end(true);
      return;
    }
    const auto sent = static_cast<size_t>(size);
    if (way.rules.bytes_per_second > 0) way.credit_bytes -= static_cast<double>(sent);
    way.counts.bytes += sent;
    stream.held_bytes -= sent;
    if (sent == bytes.size()) {
      stream.held.pop_front();
    } else {
      bytes.erase(0, sent);
    }
  }
}

void TcpProxy::run() {
  std::unique_lock lock(mutex_);
  std::vector<pollfd> watched;
  while (!stopping_) {
    std::erase_if(connections_, [](const auto& connection) {
      if (!connection->ended()) return false;
      close_with_reset(*connection);
      return true;
    });
    const Clock::time_point before = Clock::now();
    for (auto& [machines, each] : ways_) each->credit(before);
    Clock::time_point next = Clock::time_point::max();
    watched.assign(1, {.fd = wake_fd_, .events = POLLIN, .revents = 0});
    for (const auto& front : fronts_) {
      watched.push_back({.fd = front->fd, .events = POLLIN, .revents = 0});
    }
    const size_t fronts = fronts_.size();
    for (const auto& connection : connections_) {
      // The client's socket, then the server's: what is read from each, what is due to each.
      for (Stream* out : {&connection->backward, &connection->forward}) {
        const Stream& in =
            out == &connection->backward ? connection->forward : connection->backward;
        const bool is_server = out == &connection->forward;
        short events = 0;
        if (is_server && connection->connecting) {
          events = POLLOUT;
        } else {
          const Clock::time_point due =
              connection->connecting ? Clock::time_point::max() : out->due(before);
          if (due <= before) events |= POLLOUT;
          if (due > before) next = std::min(next, due);
          if (in.reads()) events |= POLLIN;
        }
        // Without events only errors would come, which wait for their turn behind what is held.
        watched.push_back({.fd = events != 0 ? out->to : -1, .events = events, .revents = 0});
      }
    }
    int timeout_ms = -1;
    if (next != Clock::time_point::max()) {
      timeout_ms =
          static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(next - before).count());
    }
    lock.unlock();
    poll(watched.data(), watched.size(), timeout_ms);
    lock.lock();

    uint64_t wakes = 0;
    static_cast<void>(!read(wake_fd_, &wakes, sizeof wakes));
    const Clock::time_point now = Clock::now();
    for (auto& [machines, each] : ways_) each->credit(now);
    const size_t connections = connections_.size();
    for (size_t i = 0; i < connections; ++i) {
      Connection& connection = *connections_[i];
      const short client_events = watched[1 + fronts + 2 * i].revents;
      const short server_events = watched[2 + fronts + 2 * i].revents;
      if (connection.connecting && server_events != 0) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(connection.forward.to, SOL_SOCKET, SO_ERROR, &error, &size);
        connection.connecting = false;
        if (error != 0) connection.broken = true;
        continue;
      }
      if (connection.broken) continue;  // what it holds is lost
      constexpr short readable = POLLIN | POLLHUP | POLLERR;
      if (client_events & readable) read_from(connection.forward);
      if (server_events & readable) read_from(connection.backward);
      if (connection.connecting) continue;
      write_to(connection, connection.forward, now);
      write_to(connection, connection.backward, now);
    }
    for (size_t i = 0; i < fronts; ++i) {
      if (watched[1 + i].revents != 0) accept_from(*fronts_[i]);
    }
  }
}

}  // namespace gyre::chaos
