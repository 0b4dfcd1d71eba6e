#include "selector.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>
#include <utility>

namespace gyre::threadpool {

namespace {

constexpr size_t buffer_bytes = 64u << 10;
constexpr size_t events_max = 256;
constexpr unsigned accepts_per_turn = 64;
constexpr Milliseconds sweep_interval = 100;
constexpr Milliseconds sweep_interval_draining = 10;

ConnectionTimes times_of(const Options& options) {
  return {.head = options.head_timeout_ms,
          .body = options.body_timeout_ms,
          .idle = options.idle_timeout_ms,
          .send = options.send_timeout_ms};
}

bool watch(int epoll, int fd, uint32_t events, void* who) {
  epoll_event event{};
  event.events = events;
  event.data.ptr = who;
  return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

}  // namespace

Selector::Selector(const Options& options, Pool& pool)
    : options_(options),
      pool_(pool),
      times_(times_of(options)),
      epoll_(epoll_create1(EPOLL_CLOEXEC)),
      wake_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)),
      buffer_(buffer_bytes) {
  if (epoll_ < 0 || wake_ < 0 || !watch(epoll_, wake_, EPOLLIN, &wake_)) {
    throw std::system_error(errno, std::generic_category(), "cannot make an epoll instance");
  }
}

Selector::~Selector() {
  join();
  ::close(wake_);
  ::close(epoll_);
}

void Selector::accept_for(int listener, std::vector<Selector*> selectors) {
  listener_ = listener;
  accepts_for_ = std::move(selectors);
  if (!watch(epoll_, listener_, EPOLLIN, &listener_)) {
    throw std::system_error(errno, std::generic_category(), "cannot watch the listening socket");
  }
}

void Selector::start() {
  thread_ = std::thread([this] {
    pthread_setname_np(pthread_self(), "selector");
    run();
  });
}

void Selector::join() {
  if (thread_.joinable()) thread_.join();
}

void Selector::drain() {
  draining_ = true;
  wake();
}

void Selector::abort() {
  aborting_ = true;
  wake();
}

void Selector::wake() {
  const uint64_t one = 1;
  static_cast<void>(!write(wake_, &one, sizeof one));  // full: it is awake already
}

// --- connections --------------------------------------------------------------------------------

void Selector::add(int fd) {
  auto* connection = new Connection(fd, epoll_, pool_, options_);
  ++pool_.counters().connections;
  // No sweep sees it before epoll knows it.
  std::unique_lock lock(mutex_);
  connection->next = connections_;
  if (connections_ != nullptr) connections_->previous = connection;
  connections_ = connection;
  if (watch(epoll_, fd, connection_events, connection)) return;
  lock.unlock();
  remove(*connection);
}

void Selector::remove(Connection& connection) {
  if (connection.has_more) std::erase(more_, &connection);
  {
    const std::lock_guard lock(mutex_);
    if (connection.next != nullptr) connection.next->previous = connection.previous;
    (connection.previous != nullptr ? connection.previous->next : connections_) = connection.next;
  }
  --pool_.counters().connections;
  delete &connection;
}

void Selector::accept_some() {
  for (unsigned i = 0; i < accepts_per_turn; ++i) {
    const int fd = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
      if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        // It would report the same again at once: until the next sweep others are served.
        epoll_ctl(epoll_, EPOLL_CTL_DEL, listener_, nullptr);
        listener_rests_ = true;
      }
      return;
    }
    if (pool_.counters().connections >= options_.connections_max) {
      ::close(fd);
      continue;
    }
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    accepts_for_[next_selector_++ % accepts_for_.size()]->add(fd);
  }
}

void Selector::stop_accepting() {
  ::close(std::exchange(listener_, -1));
  for (Selector* selector : accepts_for_) {
    if (selector != this) selector->drain();
  }
}

// --- the loop -----------------------------------------------------------------------------------

void Selector::run() {
  std::array<epoll_event, events_max> events;
  swept_at_ = now_ms();
  for (;;) {
    const int count = epoll_wait(epoll_, events.data(), events_max, wait_ms());
    for (int i = 0; i < count; ++i) {
      void* who = events[static_cast<size_t>(i)].data.ptr;
      if (who == &wake_) {
        uint64_t ignored = 0;
        static_cast<void>(!read(wake_, &ignored, sizeof ignored));
      } else if (who == &listener_) {
        if (listener_ >= 0) accept_some();
      } else {
        handle(*static_cast<Connection*>(who), events[static_cast<size_t>(i)].events);
      }
    }
    read_again();
    if (draining_ && listener_ >= 0) stop_accepting();
    sweep();
    if (!draining_) continue;
    const std::lock_guard lock(mutex_);
    if (connections_ == nullptr) return;
  }
}

int Selector::wait_ms() const {
  if (!more_.empty()) return 0;
  return static_cast<int>(draining_ ? sweep_interval_draining : sweep_interval);
}

void Selector::handle(Connection& connection, uint32_t events) {
  bool more = false;
  if (!connection.on_event(events, buffer_, more)) return remove(connection);
  if (more && !connection.has_more) {
    connection.has_more = true;
    more_.push_back(&connection);
  }
}

// Those who send much take turns with all others.
void Selector::read_again() {
  const std::vector<Connection*> turn = std::exchange(more_, {});
  for (Connection* connection : turn) {
    connection->has_more = false;
    handle(*connection, EPOLLIN);
  }
}

void Selector::sweep() {
  const Milliseconds now = now_ms();
  const Milliseconds interval = draining_ ? sweep_interval_draining : sweep_interval;
  if (now < swept_at_ + interval && !aborting_) return;
  swept_at_ = now;
  if (listener_rests_ && listener_ >= 0) {
    listener_rests_ = !watch(epoll_, listener_, EPOLLIN, &listener_);
  }
  Connection* connection = nullptr;
  {
    // Others only put in front of what this sees.
    const std::lock_guard lock(mutex_);
    connection = connections_;
  }
  while (connection != nullptr) {
    Connection* const following = connection->next;
    if (aborting_) connection->abort();
    if (!connection->on_sweep(now, times_, draining_)) remove(*connection);
    connection = following;
  }
}

}  // namespace gyre::threadpool
