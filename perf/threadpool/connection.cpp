#include "connection.hpp"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/assert.hpp"
#include "pool.hpp"

namespace gyre::threadpool {

namespace {

constexpr size_t requests_waiting_max = limits::http_pipeline_depth_max;
// With this much unsent no further answer is begun.
constexpr size_t output_bytes_pause = 128u << 10;
constexpr unsigned stream_slices_per_task = 8;
constexpr size_t read_bytes_per_turn = 1u << 20;
constexpr size_t body_bytes_reserved = 64u << 10;
constexpr size_t spare_body_bytes_max = 16u << 10;
constexpr size_t output_bytes_kept = 16u << 10;
constexpr Milliseconds linger_max = 2000;
constexpr Milliseconds linger_draining_max = 100;
constexpr uint64_t body_bytes_per_second_min = 64u << 10;  // a slow line is served, a drip is not

}  // namespace

Milliseconds now_ms() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);  // for time-outs: a few milliseconds are near enough
  return static_cast<Milliseconds>(now.tv_sec) * 1000 +
         static_cast<Milliseconds>(now.tv_nsec) / 1'000'000;
}

Connection::Connection(int fd, int epoll, Pool& pool, const Options& options)
    : fd_(fd), epoll_(epoll), pool_(pool), parser_(options.value_bytes_max) {
  phase_since_ = progress_at_ = answered_at_ = now_ms();
}

Connection::~Connection() {
  GYRE_ASSERT(!in_pool_);
  drop_output();
  retire(std::move(receiving_));
  for (auto& request : waiting_) retire(std::move(request));
  ::close(fd_);
}

// --- reading and parsing: the selector ----------------------------------------------------------

bool Connection::on_event(uint32_t events, std::span<char> buffer, bool& more) {
  if ((events & EPOLLOUT) != 0) go_on_writing();
  if (!unparsed_.empty()) feed({});
  constexpr uint32_t readable = EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR;
  if ((events & readable) != 0 && !read_socket(events, buffer, more)) {
    const std::lock_guard lock(mutex_);
    break_off();
  }
  if ((events & (readable & ~EPOLLIN)) == 0 && !eof_) return true;
  const std::lock_guard lock(mutex_);
  return !is_over();
}

// Whether nothing will be done on it any more.
bool Connection::is_over() const {
  if (in_pool_) return false;
  if (broken_) return true;
  return eof_ && waiting_.empty() && !stream_ && unsent() == 0;
}

// False: the connection is broken.
bool Connection::read_socket(uint32_t events, std::span<char> buffer, bool& more) {
  const bool to_the_end = (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
  for (size_t total = 0; !eof_;) {
    if (!unparsed_.empty() && !ended_) return true;  // read again when they are taken
    if (total >= read_bytes_per_turn) {
      more = true;
      return true;
    }
    const ssize_t size = recv(fd_, buffer.data(), buffer.size(), 0);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return errno == EAGAIN || errno == EWOULDBLOCK;
    if (size == 0) {
      eof_ = true;
      const std::lock_guard lock(mutex_);
      no_more_input_ = true;
      return true;
    }
    total += static_cast<size_t>(size);
    feed({buffer.data(), static_cast<size_t>(size)});
    // The rest comes with another edge.
    if (static_cast<size_t>(size) < buffer.size() && !to_the_end) return true;
  }
  return true;
}

void Connection::note_phase() {
  const Phase phase = receiving_ ? Phase::body : parser_.idle() ? Phase::idle : Phase::head;
  if (phase == phase_ && requests_seen_ == requests_at_phase_) return;
  phase_ = phase;
  requests_at_phase_ = requests_seen_;
  phase_since_ = now_ms();
}

void Connection::feed(std::string_view bytes) {
  std::string kept;
  bool full = false;
  if (!unparsed_.empty()) {
    kept.swap(unparsed_);
    kept.append(bytes);
    bytes = kept;
    const std::lock_guard lock(mutex_);
    full = paused_ = waiting_.size() >= requests_waiting_max;
  }
  using Event = http::RequestParser::Event;
  while (!ended_ && !full) {
    const http::RequestParser::Step step = parser_.feed(bytes);
    bytes.remove_prefix(step.consumed);
    switch (step.event) {
      case Event::need_more:
        return note_phase();
      case Event::request: {
        ++requests_seen_;
        std::unique_ptr<Request> request = new_request();
        request->assign(parser_.head());
        ended_ = request->style.close;
        full = enqueue(std::move(request));
        break;
      }
      case Event::head:
        ++requests_seen_;
        begin_body(parser_.head());
        break;
      case Event::body:
        take_body(step.body);
        break;
      case Event::complete:
        ended_ = receiving_->style.close;
        full = enqueue(std::move(receiving_));
        break;
      case Event::error:
        retire(std::move(receiving_));
        refuse(parser_.error().status, parser_.error().reason);
        break;
    }
  }
  if (!ended_) unparsed_.assign(bytes);
  note_phase();
}

// Answers once, and closes: nothing behind this can be understood.
void Connection::refuse(uint16_t status, std::string_view reason, uint32_t retry_after_s) {
  std::unique_ptr<Request> request = new_request();
  request->assign({});
  request->style = {.close = true};
  request->refusal = {status, reason};
  request->retry_after_s = retry_after_s;
  ended_ = true;
  parser_.discard();
  static_cast<void>(enqueue(std::move(request)));
}

void Connection::begin_body(const http::RequestHead& head) {
  receiving_ = new_request();
  receiving_->assign(head);
  keeps_body_ = (receiving_->route == Request::Route::entity ||
                 receiving_->route == Request::Route::internal) &&
                head.method == http::Method::put;
  if (head.expect_continue && head.has_body()) {
    // The client waits: what can be said without the body is said now.
    if (const http::ParseError error = pool_.executor().check(*receiving_)) {
      receiving_->refusal = error;
      receiving_->style.close = true;
      ended_ = true;
      parser_.discard();
      static_cast<void>(enqueue(std::move(receiving_)));
      return;
    }
    Next next = Next::none;
    {
      const std::lock_guard lock(mutex_);
      if (closing_ || broken_) return;
      continue_owed_ = true;
      if (!in_pool_) next = advance();
    }
    submit(next, Caller::selector);
  }
  if (keeps_body_ && !head.chunked) {
    receiving_->body.reserve(std::min<size_t>(head.content_length, body_bytes_reserved));
  }
}

void Connection::take_body(std::string_view piece) {
  {
    const std::lock_guard lock(mutex_);
    continue_owed_ = false;  // the client did not wait for it
  }
  if (!keeps_body_) return;
  if (!pool_.transit().try_charge(piece.size())) {
    retire(std::move(receiving_));
    return refuse(503, "no memory for the body now; try again", 1);
  }
  receiving_->charged_bytes += piece.size();
  receiving_->body.append(piece);
}

std::unique_ptr<Request> Connection::new_request() {
  {
    const std::lock_guard lock(mutex_);
    if (spare_) return std::move(spare_);
  }
  return std::make_unique<Request>();
}

void Connection::retire(std::unique_ptr<Request> request) {
  if (!request) return;
  pool_.transit().release(std::exchange(request->charged_bytes, 0));
}

// True: as many wait as may; nothing more is parsed until a worker has taken some.
bool Connection::enqueue(std::unique_ptr<Request> request) {
  Next next = Next::none;
  bool full = false;
  {
    const std::lock_guard lock(mutex_);
    continue_owed_ = false;
    if (closing_ || broken_) {
      retire(std::move(request));
      return false;
    }
    waiting_.push_back(std::move(request));
    full = paused_ = waiting_.size() >= requests_waiting_max;
    if (!in_pool_) next = advance();
  }
  submit(next, Caller::selector);
  return full;
}

// --- time: the selector -------------------------------------------------------------------------

bool Connection::on_sweep(Milliseconds now, const ConnectionTimes& times, bool draining) {
  uint64_t body_bytes = 0;
  {
    const std::lock_guard lock(mutex_);
    if (in_pool_) return true;
    if (is_over()) return false;
    if (lingering_) {
      return now - lingering_since_ < (draining ? linger_draining_max : linger_max);
    }
    if (unsent() != 0) return now < progress_at_ + times.send;
    if (closing_ || stream_ || !waiting_.empty()) return true;
    if (phase_ == Phase::idle) {
      return !draining && now < std::max(answered_at_, phase_since_) + times.idle;
    }
  }
  if (receiving_) body_bytes = receiving_->body.size();
  const Milliseconds allowed = phase_ == Phase::head
                                   ? times.head
                                   : times.body + body_bytes / body_bytes_per_second_min * 1000;
  if (now < phase_since_ + allowed) return true;
  retire(std::move(receiving_));
  refuse(408, "the request was not complete in time");
  return true;
}

void Connection::abort() {
  const std::lock_guard lock(mutex_);
  break_off();
}

// --- executing and writing: a worker ------------------------------------------------------------

void Connection::work() {
  thread_local Answer answer;
  std::unique_ptr<Request> request;
  answer.clear();
  {
    const std::lock_guard lock(mutex_);
    if (stream_) {
      answer.stream = std::move(stream_);
      answer.close = answer.stream->close;
    } else if (!waiting_.empty()) {
      request = take_first();
    }
  }
  if (request) pool_.executor().execute(*request, answer);
  Next next = Next::none;
  for (unsigned slice = 1;; ++slice) {
    if (answer.stream) pool_.executor().go_on(answer);
    const std::lock_guard lock(mutex_);
    send(answer.bytes, answer.tail);
    if (answer.cut) break_off();
    const bool goes_on = answer.stream && !answer.stream->ended && !broken_;
    if (goes_on && unsent() == 0 && slice < stream_slices_per_task) {
      answer.bytes.clear();
      continue;
    }
    if (goes_on) {
      answer.stream->close = answer.close;
      stream_ = std::move(answer.stream);
    } else if (answer.close) {
      closing_ = true;
    }
    keep_for_reuse(std::move(request));
    answered_at_ = now_ms();
    next = advance();
    break;
  }
  // Others may own the connection from here on; what the answer held is let go.
  submit(next, Caller::worker);
  answer.clear();
}

std::unique_ptr<Request> Connection::take_first() {
  std::unique_ptr<Request> request = std::move(waiting_.front());
  waiting_.erase(waiting_.begin());
  // The last answer before a stop says so.
  if (pool_.executor().draining() && waiting_.empty()) request->style.close = true;
  return request;
}

void Connection::keep_for_reuse(std::unique_ptr<Request> request) {
  if (!request) return;
  if (request->body.capacity() <= spare_body_bytes_max &&
      request->query.capacity() <= spare_body_bytes_max) {
    pool_.transit().release(std::exchange(request->charged_bytes, 0));
    spare_ = std::move(request);
  } else {
    retire(std::move(request));
  }
}

// Decides what is next for a connection that nobody works on, and whether it is in the pool.
Connection::Next Connection::advance() {
  in_pool_ = true;
  const Next next = choose();
  in_pool_ = next != Next::none;
  return next;
}

Connection::Next Connection::choose() {
  if (broken_ || (closing_ && !stream_)) {
    for (auto& request : waiting_) retire(std::move(request));
    waiting_.clear();
    stream_.reset();
    if (!broken_ && unsent() == 0) linger();
    rearm();
    return Next::none;
  }
  if (paused_ && waiting_.size() <= requests_waiting_max / 2) {
    paused_ = false;
    rearm();
  }
  if (unsent() > (stream_ ? 0 : output_bytes_pause)) return Next::none;  // until it was read
  if (stream_) return Next::continuation;
  if (!waiting_.empty()) {
    const bool internal = waiting_.front()->route == Request::Route::internal;
    return internal ? Next::internal_task : Next::task;
  }
  if (continue_owed_) {
    continue_owed_ = false;
    send(http::continue_answer, {});
  }
  if (no_more_input_) rearm();
  return Next::none;
}

void Connection::submit(Next next, Caller caller) {
  while (next != Next::none) {
    TaskQueue<Connection*>& queue = pool_.queue();
    // There is one task of a connection at a time, so what goes on is bounded without the queue.
    if (next == Next::continuation) return queue.push_always(this);
    if (next == Next::internal_task) return pool_.internal_queue().push_always(this);
    if (queue.try_push(this)) return;
    if (pool_.overflow() == Overflow::block) {
      // A worker that waited here for other workers could wait for ever.
      return caller == Caller::selector ? queue.push_waiting(this) : queue.push_always(this);
    }
    next = refuse_for_overflow();
  }
}

Connection::Next Connection::refuse_for_overflow() {
  const std::lock_guard lock(mutex_);
  if (!waiting_.empty()) {
    pool_.counters().overflows.fetch_add(1, std::memory_order_relaxed);
    const std::unique_ptr<Request> request = take_first();
    Answer answer;
    Executor::refuse(request->style, 503, "too many requests wait for a worker; try again", answer,
                     {}, 1);
    pool_.transit().release(std::exchange(request->charged_bytes, 0));
    send(answer.bytes, {});
    if (answer.close) closing_ = true;
  }
  answered_at_ = now_ms();
  return advance();
}

// --- output -------------------------------------------------------------------------------------

// What the socket does not take is kept.
void Connection::send(std::string_view bytes, std::string_view tail) {
  if (broken_) return;
  if (unsent() == 0) {
    iovec parts[2] = {{const_cast<char*>(bytes.data()), bytes.size()},
                      {const_cast<char*>(tail.data()), tail.size()}};
    msghdr message{};
    message.msg_iov = parts;
    message.msg_iovlen = tail.empty() ? 1 : 2;
    const ssize_t taken = sendmsg(fd_, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (taken < 0 && errno != EAGAIN && errno != EWOULDBLOCK) return break_off();
    const size_t size = taken < 0 ? 0 : static_cast<size_t>(taken);
    const size_t of_bytes = std::min(size, bytes.size());
    bytes.remove_prefix(of_bytes);
    tail.remove_prefix(size - of_bytes);
    if (bytes.empty() && tail.empty()) return;
    progress_at_ = now_ms();
  }
  const size_t more = bytes.size() + tail.size();
  pool_.transit().charge(more);
  pool_.counters().output_bytes += more;
  output_.append(bytes);
  output_.append(tail);
}

// The socket takes bytes again.
void Connection::go_on_writing() {
  Next next = Next::none;
  {
    const std::lock_guard lock(mutex_);
    if (unsent() == 0) return;
    const ssize_t taken =
        ::send(fd_, output_.data() + sent_, unsent(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (taken < 0) {
      if (errno == EAGAIN || errno == EWOULDBLOCK) return;
      break_off();
    } else {
      progress_at_ = now_ms();
      sent_ += static_cast<size_t>(taken);
      pool_.transit().release(static_cast<uint64_t>(taken));
      pool_.counters().output_bytes -= static_cast<uint64_t>(taken);
      if (unsent() == 0) drop_output();
    }
    if (!in_pool_) next = advance();
  }
  submit(next, Caller::selector);
}

void Connection::drop_output() {
  pool_.transit().release(unsent());
  pool_.counters().output_bytes -= unsent();
  sent_ = 0;
  if (output_.capacity() > output_bytes_kept) {
    std::string().swap(output_);
  } else {
    output_.clear();
  }
}

void Connection::break_off() {
  if (std::exchange(broken_, true)) return;
  drop_output();
  shutdown(fd_, SHUT_RDWR);  // which epoll reports
}

// Closing with bytes unread would reset the connection and take the answer away.
void Connection::linger() {
  if (std::exchange(lingering_, true)) return;
  lingering_since_ = now_ms();
  shutdown(fd_, SHUT_WR);
}

void Connection::rearm() {
  epoll_event event{};
  event.events = connection_events;
  event.data.ptr = this;
  epoll_ctl(epoll_, EPOLL_CTL_MOD, fd_, &event);
}

}  // namespace gyre::threadpool
