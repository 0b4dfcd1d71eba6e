#include "http/connection.hpp"

#include <algorithm>
#include <cstring>

#include <gyre/time.hpp>

#include "base/assert.hpp"
#include "runtime/patience.hpp"

namespace gyre::http {

namespace {

constexpr Nanos deadline_check_interval = milliseconds(500);
// An idle connection's parser may keep this much without being asked.
constexpr size_t unparsed_bytes_free = limits::http_head_kept_bytes_max;
// What a method that the parser itself refuses (CONNECT) could have been.
constexpr std::string_view usual_methods = "GET, HEAD, PUT, DELETE";
// A body gets a second more for each of these: a slow line is served, a drip is not.
constexpr uint64_t body_bytes_per_second_min = 64u << 10;

// An answer that is known but whose turn has not come.
class TextExchange : public Exchange {
 public:
  TextExchange(Connection& connection, uint16_t status, std::string_view body, ContentType type,
               uint32_t retry_after_s, std::string_view allow, bool is_error)
      : Exchange(connection),
        status_(status),
        body_(body),
        type_(type),
        retry_after_s_(retry_after_s),
        allow_(allow),
        is_error_(is_error) {}

  void begin() override { connection().finished(*this); }
  void respond(Connection& to) override {
    write(to, style, status_, body_, type_, retry_after_s_, allow_, is_error_);
  }

  static void write(Connection& to, const AnswerStyle& style, uint16_t status,
                    std::string_view body, ContentType type, uint32_t retry_after_s,
                    std::string_view allow, bool is_error) {
    Socket& out = to.socket();
    if (is_error) {
      char* at = out.reserve(error_answer_bytes_max);
      char* end = write_error_answer(at, {.status = status,
                                          .reason = body,
                                          .close = style.close,
                                          .say_keep_alive = style.say_keep_alive,
                                          .without_body = style.head_only,
                                          .retry_after_s = retry_after_s,
                                          .allow = allow,
                                          .date_line = to.date_line()});
      out.commit(static_cast<size_t>(end - at));
      return;
    }
    char* at = out.reserve(response_head_bytes_max);
    char* end = write_response_head(at, {.status = status,
                                         .close = style.close,
                                         .say_keep_alive = style.say_keep_alive,
                                         .content_type = type,
                                         .content_length = body.size(),
                                         .date_line = to.date_line()});
    out.commit(static_cast<size_t>(end - at));
    if (!style.head_only) out.append(body);
  }

 private:
  uint16_t status_;
  std::string body_;
  ContentType type_;
  uint32_t retry_after_s_;
  std::string_view allow_;  // literals only
  bool is_error_;
};

}  // namespace

Exchange::Exchange(Connection& connection) : style(connection.style()), connection_(connection) {}

Task<bool> Exchange::make_room(size_t) {
  co_return true;
}
Task<bool> Exchange::stream(Connection&) {
  co_return true;
}

Connection::DeadlineTimer::DeadlineTimer(Connection& of)
    : Timer([](Timer& self) noexcept {
        static_cast<DeadlineTimer&>(self).connection.check_deadlines();
      }),
      connection(of) {}

Connection::Connection(int fd, Handler& handler, const ConnectionLimits& limits)
    : socket_(fd),
      peer_(Reactor::current().backend().peer(fd)),
      handler_(handler),
      limits_(limits),
      parser_(limits.body_bytes_max) {}

Connection::~Connection() {
  GYRE_ASSERT(queue_head_ == nullptr && receiving_ == nullptr);
}

// --- life ---------------------------------------------------------------------------------------

Task<void> Connection::run() {
  Reactor& reactor = Reactor::current();
  Scope scope(co_await current_stop(), "connection");
  scope_ = &scope;
  enter(Phase::idle);
  progress_since_ = reactor.now();
  reactor.arm(timer_, reactor.now() + deadline_check_interval);

  co_await read_requests();

  // What was started is finished and answered before the connection goes, unless it is broken.
  closing_ = true;
  enter(Phase::waiting);
  if (receiving_ != nullptr) delete std::exchange(receiving_, nullptr);
  while (queue_head_ != nullptr) {
    changed_.reset();
    flush_answers();
    if (queue_head_ == nullptr) break;
    co_await gyre::detail::Uninterrupted{changed_};
  }
  co_await scope.join();
  parser_.discard();
  std::string().swap(carry_);
  static_cast<void>(account_unparsed(0));
  // A peer that has only finished sending still reads: everything goes out before the close.
  if (!given_away_ && co_await socket_.drained(0) && !skip_linger_) co_await linger();
  reactor.disarm(timer_);
  scope_ = nullptr;
  if (!given_away_) co_await socket_.close();
  handler_.connection_closed(*this);
}

Task<void> Connection::read_requests() {
  for (;;) {
    if (closing_) co_return;
    if (draining_ && queue_head_ == nullptr && receiving_ == nullptr && parser_.idle()) co_return;
    in_receive_ = true;
    Result<std::string_view> bytes = co_await socket_.receive();
    in_receive_ = false;
    heard_at_ = Reactor::current().now();
    if (!bytes) {
      if (bytes.error().code == Errc::timed_out) {
        if (std::exchange(woken_, false)) continue;
        // A deadline: a started request is told so, an idle connection just ends.
        if (!parser_.idle() && !closing_) {
          style_ = AnswerStyle{.close = true};
          answer_error(408, "the request was not complete in time");
        } else {
          skip_linger_ = true;
        }
      } else {
        skip_linger_ = true;
      }
      co_return;
    }
    if (bytes->empty()) {  // the client has finished sending; what it asked for is still answered
      skip_linger_ = true;
      co_return;
    }
    if (std::exchange(is_new_, false) && bytes->front() == '\0') {
      co_await give_to_peers(std::string(*bytes));
      co_return;
    }
    bool go_on = co_await process(*bytes);
    socket_.release();
    // A wait inside saved the rest of the buffer.
    while (go_on && !carry_.empty()) {
      std::string rest;
      rest.swap(carry_);
      go_on = co_await process(rest);
    }
    if (!go_on) co_return;
    if (receiving_ != nullptr) {
      receiving_->detach_body();
    } else if (parser_.idle()) {
      enter(Phase::idle);
    } else if (phase_ != Phase::head) {
      enter(Phase::head);
    }
  }
}

Task<void> Connection::give_to_peers(std::string received) {
  Socket::Detached peer = co_await socket_.detach();
  given_away_ = true;
  handler_.peer_connected(std::move(peer.fd), received + peer.received);
}

// False: the connection reads no further. If it has to wait, the rest of `bytes` is in carry_.
Task<bool> Connection::process(std::string_view bytes) {
  for (;;) {
    const RequestParser::Step step = parser_.feed(bytes);
    const std::string_view rest = bytes.substr(step.consumed);
    switch (step.event) {
      case RequestParser::Event::need_more:
        if (account_unparsed(parser_.held_bytes())) co_return true;
        refuse_rest("too many unfinished requests; try again");
        co_return false;
      case RequestParser::Event::request:
      case RequestParser::Event::head: {
        const bool has_body = step.event == RequestParser::Event::head;
        bytes_behind_ = has_body ? 0 : rest.size();
        phase_ = Phase::idle;
        if (!start_request(parser_.head())) co_return false;
        if (has_body) {
          enter(Phase::body);
          body_bytes_ = 0;
          break;
        }
        if (receiving_ == nullptr) {
          if (!must_wait_for_room()) break;
          save_rest(rest);
          co_return co_await wait_for_room();
        }
        Exchange& exchange = *std::exchange(receiving_, nullptr);
        enqueue(exchange);
        if (!blocked(exchange) && !must_wait_for_room()) {
          begin(exchange);
          break;
        }
        save_rest(rest);
        co_return co_await wait_turn(exchange);
      }
      case RequestParser::Event::body: {
        if (receiving_ == nullptr) break;  // answered already: skipped
        const bool whole =
            !parser_.head().chunked && step.body.size() == parser_.head().content_length;
        body_bytes_ += step.body.size();
        continue_owed_ = false;  // the client did not wait for it
        if (receiving_->take_body(step.body, whole)) break;
        save_rest(rest);
        co_return co_await take_body_later(std::string(step.body));
      }
      case RequestParser::Event::complete: {
        phase_ = Phase::idle;
        continue_owed_ = false;
        if (receiving_ == nullptr) {
          if (closing_) co_return false;
          break;
        }
        Exchange& exchange = *std::exchange(receiving_, nullptr);
        enqueue(exchange);
        if (!blocked(exchange) && !must_wait_for_room()) {
          begin(exchange);
          break;
        }
        exchange.detach_body();
        save_rest(rest);
        co_return co_await wait_turn(exchange);
      }
      case RequestParser::Event::error: {
        const ParseError& error = parser_.error();
        if (receiving_ != nullptr) delete std::exchange(receiving_, nullptr);
        style_ = AnswerStyle{.close = true};
        answer_error(error.status, error.reason, 0,
                     error.status == 405 ? usual_methods : std::string_view());
        co_return false;
      }
    }
    bytes = rest;
    if (closing_ && receiving_ == nullptr) co_return false;
  }
}

// There was no memory for a piece of the body: waits for it. False as process().
Task<bool> Connection::take_body_later(std::string piece) {
  const Nanos body_since = phase_since_;
  if (!pause_reading(piece.capacity())) {
    refuse_rest("no memory for the body now; try again");
    co_return false;
  }
  const bool room = co_await receiving_->make_room(piece.size());
  if (room && receiving_->take_body(piece, false)) {
    // The wait was not the client's.
    const Nanos waited = Reactor::current().now() - phase_since_;
    phase_ = Phase::body;
    phase_since_ = body_since + waited;
    co_return true;
  }
  GYRE_ASSERT(!room);  // else half a body would be taken for the whole
  // Answered without its body: nothing behind it can be read.
  closing_ = true;
  Exchange& exchange = *std::exchange(receiving_, nullptr);
  exchange.style.close = true;
  enqueue(exchange);
  begin(exchange);
  co_return false;
}

void Connection::save_rest(std::string_view rest) {
  // process() may be running over carry_'s former content, never over carry_ itself.
  carry_.assign(rest);
}

AnswerStyle Connection::style_of(const RequestHead& head) const {
  const bool close = !head.keep_alive || draining_;
  return {.head_only = head.method == Method::head,
          .close = close,
          .say_keep_alive = head.http_minor == 0 && !close,
          .http_1_0 = head.http_minor == 0};
}

// False: nothing more is read. Afterwards receiving_ is what works on the request, if anything.
bool Connection::start_request(const RequestHead& head) {
  ++stats_.requests;
  style_ = style_of(head);
  if (style_.close) closing_ = true;
  const bool expect = head.expect_continue && head.has_body();
  expecting_ = expect;
  Exchange* exchange = handler_.start(*this, head);
  expecting_ = false;
  if (exchange == nullptr) {
    ++stats_.answered_at_once;
    // An error given to a client that still waits for "100 Continue": it may or may not send the
    // body now, so nothing behind this can be told apart.
    if (expect) closing_ = true;
    return !(expect && closing_);
  }
  receiving_ = exchange;
  if (exchange->style.close) closing_ = true;  // the exchange may ask for it too
  continue_owed_ = expect;
  if (may_answer_now()) queue_emptied();
  return true;
}

// --- order --------------------------------------------------------------------------------------

void Connection::enqueue(Exchange& exchange) {
  exchange.next_ = nullptr;
  (queue_tail_ != nullptr ? queue_tail_->next_ : queue_head_) = &exchange;
  queue_tail_ = &exchange;
  ++queue_size_;
  ++limits_.requests_under_way;
  if (exchange.unsafe) ++unsafe_unfinished_;
}

void Connection::begin(Exchange& exchange) {
  exchange.begun_ = true;
  exchange.begin();
}

bool Connection::conflicts(uint64_t key_hash) const {
  if (unsafe_unfinished_ == 0) return false;
  for (const Exchange* at = queue_head_; at != nullptr; at = at->next_) {
    if (at->unsafe && !at->finished_ && at->key_hash == key_hash) return true;
  }
  return false;
}

// Whether something before `exchange` in the queue has to end first.
bool Connection::blocked(const Exchange& exchange) const {
  for (const Exchange* at = queue_head_; at != &exchange; at = at->next_) {
    if (!at->unsafe || at->finished_) continue;
    if (exchange.many_keys || at->many_keys || at->key_hash == exchange.key_hash) return true;
  }
  return false;
}

size_t Connection::output_bytes_allowed() const {
  return output_bytes_live() > limits_.output_total_bytes_max ? limits_.output_bytes_scarce
                                                              : limits_.output_bytes_pause;
}

bool Connection::must_wait_for_room() const {
  // What is not answered yet will need room too: many small answers may be under way, or a few
  // large ones. An idle queue always has room for one.
  const size_t expected = answer_bytes_expected();
  const bool scarce = limits_.requests_under_way > limits_.requests_under_way_scarce;
  return streaming_ || queue_size_ > (scarce ? 1 : limits_.pipeline_max) ||
         socket_.output_bytes() + queue_size_ * expected >
             std::max(output_bytes_allowed(), expected);
}

Task<bool> Connection::wait_turn(Exchange& exchange) {
  refused_rest_ |= !pause_reading();
  while (blocked(exchange)) {
    changed_.reset();
    co_await gyre::detail::Uninterrupted{changed_};
  }
  begin(exchange);  // may be the end of `exchange`
  if (closing_) co_return false;
  co_return co_await wait_for_room();
}

Task<bool> Connection::wait_for_room() {
  refused_rest_ |= !pause_reading();
  while (must_wait_for_room()) {
    if (const size_t allowed = output_bytes_allowed(); socket_.output_bytes() > allowed) {
      if (!co_await socket_.drained(allowed / 2)) {
        skip_linger_ = true;
        co_return false;
      }
    } else {
      changed_.reset();
      co_await gyre::detail::Uninterrupted{changed_};
    }
  }
  enter(Phase::idle);
  if (closing_) co_return false;
  if (refused_rest_) refuse_rest("too many requests without room for their answers; try again");
  co_return !refused_rest_;
}

void Connection::finished(Exchange& exchange) noexcept {
  GYRE_ASSERT(!exchange.finished_);
  exchange.finished_ = true;
  if (exchange.unsafe) --unsafe_unfinished_;
  flush_answers();
  changed_.set();
}

// Sends what is finished, in order, as far as it goes.
void Connection::flush_answers() noexcept {
  while (queue_head_ != nullptr && queue_head_->finished_ && !streaming_) {
    Exchange* exchange = queue_head_;
    if (!socket_.broken()) {
      // The last answer before a stop says so.
      if (draining_ && exchange->next_ == nullptr && receiving_ == nullptr) {
        exchange->style.close = true;
      }
      const size_t output_before = socket_.output_bytes();
      exchange->respond(*this);
      const size_t answer_bytes = socket_.output_bytes() - output_before;
      answer_bytes_expected_ =
          std::max(answer_bytes, answer_bytes_expected_ - answer_bytes_expected_ / 4);
      limits_.answer_bytes_seen =
          std::max(answer_bytes, limits_.answer_bytes_seen - limits_.answer_bytes_seen / 64);
      if (exchange->is_stream) {
        streaming_ = true;
        scope_->spawn(run_stream(exchange));
        return;
      }
    }
    queue_head_ = exchange->next_;
    if (queue_head_ == nullptr) queue_tail_ = nullptr;
    --queue_size_;
    --limits_.requests_under_way;
    if (exchange->style.close) closing_ = true;
    delete exchange;
  }
  if (queue_head_ == nullptr) {
    queue_emptied();
  } else if (queue_head_->begun_ && !queue_head_->finished_) {
    queue_head_->at_front();
  }
}

// Everything that came before has been answered.
void Connection::queue_emptied() noexcept {
  if (continue_owed_ && receiving_ != nullptr && !socket_.broken()) {
    continue_owed_ = false;
    socket_.append(continue_answer);
  }
  // The reader learns of a stop, or of a last answer, here if it waits for more.
  if ((draining_ || closing_) && receiving_ == nullptr && parser_.idle()) wake_reader();
}

void Connection::wake_reader() noexcept {
  if (!in_receive_) return;
  woken_ = true;
  socket_.interrupt_receive();
}

Task<void> Connection::run_stream(Exchange* exchange) {
  const bool complete = co_await exchange->stream(*this);
  if (!complete) {
    closing_ = true;
    skip_linger_ = true;
    socket_.abort();
  }
  streaming_ = false;
  queue_head_ = exchange->next_;
  if (queue_head_ == nullptr) queue_tail_ = nullptr;
  --queue_size_;
  --limits_.requests_under_way;
  if (exchange->style.close) closing_ = true;
  delete exchange;
  flush_answers();
  changed_.set();
}

// --- answers ------------------------------------------------------------------------------------

void Connection::answer_error(uint16_t status, std::string_view reason, uint32_t retry_after_s,
                              std::string_view allow) {
  if (expecting_) style_.close = true;
  if (style_.close) closing_ = true;
  if (may_answer_now()) {
    TextExchange::write(*this, style_, status, reason, ContentType::text, retry_after_s, allow,
                        true);
    return;
  }
  auto* exchange =
      new TextExchange(*this, status, reason, ContentType::text, retry_after_s, allow, true);
  enqueue(*exchange);
  begin(*exchange);
}

void Connection::answer_text(uint16_t status, std::string_view body, ContentType type) {
  if (expecting_) style_.close = true;
  if (style_.close) closing_ = true;
  if (may_answer_now()) {
    TextExchange::write(*this, style_, status, body, type, 0, {}, false);
    return;
  }
  auto* exchange = new TextExchange(*this, status, body, type, 0, {}, false);
  enqueue(*exchange);
  begin(*exchange);
}

// --- deadlines and the end ----------------------------------------------------------------------

void Connection::enter(Phase phase) {
  phase_ = phase;
  phase_since_ = Reactor::current().now();
}

void Connection::check_deadlines() noexcept {
  Reactor& reactor = Reactor::current();
  const Nanos now = reactor.now();
  note_progress();
  if (now - progress_since_ > limits_.send_timeout) {
    skip_linger_ = true;
    abort();
  }
  const Nanos in_phase = now - phase_since_;
  const bool late =
      (phase_ == Phase::head && in_phase > limits_.head_timeout) ||
      (phase_ == Phase::body &&
       in_phase > limits_.body_timeout + static_cast<Nanos>(body_bytes_) * seconds(1) /
                                             static_cast<Nanos>(body_bytes_per_second_min)) ||
      (phase_ == Phase::idle && queue_head_ == nullptr && in_phase > limits_.idle_timeout);
  if (late) socket_.interrupt_receive();
  reactor.arm(timer_, now + deadline_check_interval);
}

void Connection::note_progress() noexcept {
  if (socket_.output_bytes() == 0 || socket_.bytes_sent() != sent_seen_) {
    sent_seen_ = socket_.bytes_sent();
    progress_since_ = Reactor::current().now();
  }
}

bool Connection::account_unparsed(size_t bytes) noexcept {
  const size_t held = bytes > unparsed_bytes_free ? bytes : 0;
  if (held == unparsed_bytes_) return true;
  if (!handler_.unparsed_bytes_changed(unparsed_bytes_, held)) return false;
  unparsed_bytes_ = held;
  return true;
}

// Before a wait that a peer can make long: nothing more is received, and what was received and
// can't be parsed yet is accounted. False: there is no memory for it, and it is gone.
bool Connection::pause_reading(size_t piece_bytes) {
  socket_.pause_receive();
  enter(Phase::waiting);
  if (account_unparsed(parser_.held_bytes() + carry_.capacity() + socket_.receive_bytes_kept() +
                       piece_bytes))
    return true;
  std::string().swap(carry_);
  socket_.discard_received();
  parser_.discard();
  return false;
}

// The last answer of the connection, for want of memory.
void Connection::refuse_rest(std::string_view reason) {
  if (receiving_ != nullptr) delete std::exchange(receiving_, nullptr);
  style_ = AnswerStyle{.close = true};
  answer_error(503, reason, 1);
}

Nanos Connection::stalled_since() noexcept {
  note_progress();
  if (socket_.output_bytes() != 0) return progress_since_;
  if (in_receive_ && (phase_ == Phase::head || phase_ == Phase::body)) return heard_at_;
  return INT64_MAX;
}

void Connection::expire() noexcept {
  if (socket_.output_bytes() != 0) {
    abort();
  } else if (in_receive_) {
    socket_.interrupt_receive();
  }
}

void Connection::drain() {
  draining_ = true;
  if (queue_head_ == nullptr && receiving_ == nullptr && parser_.idle()) wake_reader();
}

void Connection::abort() {
  closing_ = true;
  skip_linger_ = true;
  socket_.abort();
  changed_.set();
}

Task<void> Connection::linger() {
  Reactor::current().disarm(timer_);
  co_await gyre::linger(socket_, {.silence = limits_.linger,
                                  .longest = limits_.linger_max,
                                  .bytes_max = limits_.linger_bytes_max});
}

}  // namespace gyre::http
