#include "peer_client.hpp"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

#include "http/response_parser.hpp"

namespace gyre::threadpool {

namespace {

constexpr auto suspicion = std::chrono::milliseconds(500);
constexpr size_t receive_bytes = 64u << 10;

int connected_socket(const http::Endpoint& endpoint, std::chrono::milliseconds timeout) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (getaddrinfo(endpoint.host.c_str(), std::to_string(endpoint.port).c_str(), &hints, &found) !=
      0) {
    return -1;
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> keep(found, freeaddrinfo);
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(timeout);
  // Of connecting too.
  const timeval patience{.tv_sec = seconds.count(),
                         .tv_usec = std::chrono::microseconds(timeout - seconds).count()};
  const int on = 1;
  for (const addrinfo* at = found; at != nullptr; at = at->ai_next) {
    const int fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) continue;
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) == 0 &&
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) == 0 &&
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0 &&
        connect(fd, at->ai_addr, at->ai_addrlen) == 0) {
      return fd;
    }
    close(fd);
  }
  return -1;
}

bool send_whole(int fd, std::string_view head, std::string_view body) {
  iovec parts[2] = {{const_cast<char*>(head.data()), head.size()},
                    {const_cast<char*>(body.data()), body.size()}};
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  while (parts[0].iov_len + parts[1].iov_len > 0) {
    const ssize_t sent = sendmsg(fd, &message, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return false;
    auto left = static_cast<size_t>(sent);
    for (iovec& part : parts) {
      const size_t taken = left < part.iov_len ? left : part.iov_len;
      part.iov_base = static_cast<char*>(part.iov_base) + taken;
      part.iov_len -= taken;
      left -= taken;
    }
  }
  return true;
}

}  // namespace

// A connection of one thread.
class PeerClient::Line {
 public:
  explicit Line(PeerClient& peer) : peer_(peer), buffer_(receive_bytes) {}
  ~Line() { drop(); }

  // The answer's body: empty for "there is none" (404). Nothing: the call failed.
  std::optional<std::string> exchange(const PeerRequest& request) {
    for (;;) {
      const bool reused = fd_ >= 0;
      if (!reused) fd_ = connected_socket(peer_.endpoint_, peer_.timeout_);
      if (fd_ < 0) return std::nullopt;
      heard_ = timed_out_ = false;
      std::optional<std::string> body;
      if (send_whole(fd_, request.head, request.body)) {
        body = receive();
      } else {
        timed_out_ = errno == EAGAIN || errno == EWOULDBLOCK;
      }
      if (body) return body;
      drop();
      if (timed_out_) peer_.suspect();
      if (!reused || heard_ || timed_out_) return std::nullopt;
    }
  }

 private:
  std::optional<std::string> receive() {
    using Event = http::ResponseParser::Event;
    http::ResponseParser parser;
    std::string body;
    for (;;) {
      const ssize_t size = recv(fd_, buffer_.data(), buffer_.size(), 0);
      if (size < 0 && errno == EINTR) continue;
      if (size <= 0) {
        timed_out_ = size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
        return std::nullopt;
      }
      heard_ = true;
      std::string_view bytes(buffer_.data(), static_cast<size_t>(size));
      for (bool more = true; more;) {
        const http::ResponseParser::Step step = parser.feed(bytes);
        bytes.remove_prefix(step.consumed);
        switch (step.event) {
          case Event::need_more:
            more = false;
            break;
          case Event::body:
            body.append(step.body);
            break;
          case Event::complete:
            if (!parser.keep_alive()) drop();
            if (parser.status() == 404) return std::string();
            if (parser.status() >= 300) return std::nullopt;
            return body;
          case Event::error:
            return std::nullopt;
          default:
            break;
        }
      }
    }
  }

  void drop() {
    if (fd_ >= 0) close(std::exchange(fd_, -1));
  }

  PeerClient& peer_;
  std::vector<char> buffer_;
  int fd_ = -1;
  bool heard_ = false;
  bool timed_out_ = false;
};

PeerClient::PeerClient(http::Endpoint endpoint, std::chrono::milliseconds timeout, size_t calls_max)
    : endpoint_(std::move(endpoint)), timeout_(timeout), queue_(calls_max) {}

void PeerClient::start(unsigned threads) {
  for (unsigned i = 0; i < threads; ++i) {
    threads_.emplace_back([this] {
      pthread_setname_np(pthread_self(), "peer");
      work();
    });
  }
}

void PeerClient::stop() {
  queue_.close();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void PeerClient::suspect() {
  suspect_until_.store((Clock::now() + suspicion).time_since_epoch().count(),
                       std::memory_order_relaxed);
}

void PeerClient::call(PeerCall call) {
  const std::shared_ptr<Gather> gather = call.gather;
  const size_t number = call.number;
  if (!queue_.try_push(std::move(call)) && gather) gather->finish(number, std::nullopt);
}

void PeerClient::work() {
  Line line(*this);
  while (std::optional<PeerCall> call = queue_.pop()) {
    // Nobody waits for a late one any more, and the next may still be in time.
    const bool late = Clock::now() >= call->deadline;
    call->finish(late ? std::nullopt : line.exchange(*call->request));
  }
}

}  // namespace gyre::threadpool
