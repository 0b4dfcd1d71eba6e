// One HTTP/1.1 server connection: reads requests, hands them to a Handler, sends the answers in
// the order of the requests.
//
// One coroutine per connection parses; requests that can be answered from memory are answered by
// plain code inside it. A request that has to wait becomes an Exchange: an object in the
// connection's queue that is completed later, by a callback or a coroutine, in any order; answers
// leave in order. The connection stops parsing while
//   - a request touches a key that an earlier, unfinished, unsafe request of this connection
//     touches, or spans many keys while any unsafe one is unfinished (DESIGN D5)
//   - too many requests are unfinished, or too many bytes wait for a client that does not read
//
// Deadlines are checked by one coarse timer per connection: header, body and idle time, and a
// client that does not read its answers. Any framing error is answered once and ends the
// connection; the close lingers so that the client can read the answer.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include <gyre/reactor.hpp>
#include <gyre/scope.hpp>
#include <gyre/socket.hpp>
#include <gyre/sync.hpp>
#include <gyre/task.hpp>

#include "http/date.hpp"
#include "http/request_parser.hpp"
#include "http/response.hpp"

namespace gyre::http {

class Connection;

struct ConnectionLimits {
  uint64_t body_bytes_max = limits::value_bytes_max_default;
  size_t pipeline_max = limits::http_pipeline_depth_max;
  size_t output_bytes_pause = 256u << 10;
  // When the output queues of all connections of the core hold more than this, each connection
  // pauses at output_bytes_scarce: clients that ask and don't read cost little, however many.
  size_t output_total_bytes_max = 32u << 20;
  size_t output_bytes_scarce = 2u << 10;
  // How large answers were lately, over all connections that share this: what to expect of one
  // that has not asked yet.
  mutable size_t answer_bytes_seen = 8u << 10;
  // Requests under way of all connections that share this. Beyond the bound each connection has one
  // at a time: they are about 1 KiB each, and no answer is needed to make many of them.
  mutable size_t requests_under_way = 0;
  size_t requests_under_way_scarce = 4096;
  Nanos head_timeout = seconds(10);
  Nanos body_timeout = seconds(30);  // and a second more for each 64 KiB that came
  Nanos idle_timeout = seconds(75);
  Nanos send_timeout = seconds(30);
  Nanos linger = seconds(2);  // without a byte from the client
  Nanos linger_max = seconds(15);
  size_t linger_bytes_max = 64u << 20;
};

// How the answer to a request is framed: fixed when the request's head was read.
struct AnswerStyle {
  bool head_only = false;       // HEAD: no body
  bool close = false;           // last answer of the connection
  bool say_keep_alive = false;  // HTTP/1.0 client that asked for it
  bool http_1_0 = false;
};

// A request that is not answered yet. Lives on the connection's core, from the frame pool.
// Completing it is done by whoever works on it: `connection().finished(*this)`.
class Exchange {
 public:
  explicit Exchange(Connection& connection);
  virtual ~Exchange() = default;
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;
  static void* operator new(size_t size_bytes) { return allocate_frame(size_bytes); }
  static void operator delete(void* memory, size_t size_bytes) { free_frame(memory, size_bytes); }

  // --- the body, if the request has one ----------------------------------------------------------
  // False: there is no room now; the connection awaits make_room and offers the same piece again.
  // `last` if the piece ends a body of known length. A view: copy it, or use it until `begin` and,
  // if keep_inline() is called, not longer than that.
  virtual bool take_body(std::string_view piece, bool whole) {
    static_cast<void>(piece), static_cast<void>(whole);
    return true;
  }
  // Waits until a piece of `size_bytes` can be taken. False: answer now instead of taking it; the
  // connection then closes, because the rest of the body is unread.
  virtual Task<bool> make_room(size_t size_bytes);
  // The connection is about to wait: views given by take_body end here.
  virtual void detach_body() {}

  // --- work -------------------------------------------------------------------------------------
  // The request is complete and nothing that must come first is unfinished. May call finished().
  virtual void begin() = 0;
  // Writes the answer, in order. For streams: the head and as much as is at hand.
  virtual void respond(Connection& connection) = 0;
  // After respond, if is_stream: writes the rest, waiting for the client as needed. False: the
  // answer can't be completed; the connection is cut.
  virtual Task<bool> stream(Connection& connection);
  // Begun, not finished, and everything before it has been answered. May be called again.
  virtual void at_front() {}

  Connection& connection() const { return connection_; }
  AnswerStyle style;
  uint64_t key_hash = 0;   // of the key it touches
  bool unsafe = false;     // changes something
  bool many_keys = false;  // waits for all unsafe ones before it
  bool is_stream = false;

 private:
  friend class Connection;
  Connection& connection_;
  Exchange* next_ = nullptr;
  bool finished_ = false;
  bool begun_ = false;
};

// One for all connections of a core.
class Handler {
 public:
  virtual ~Handler() = default;
  std::string_view date_line() { return date_line_.at(Reactor::current()); }
  // A request's head has arrived; its views are valid only during this call. Either answers at
  // once through connection.answer_*() and returns nullptr (only if the request has no body, or
  // the answer is an error that leaves the body to be skipped or the connection to be closed), or
  // returns what will work on it. `connection.may_answer_now()` tells whether the order allows an
  // immediate answer; answers given when it does not are kept and sent in order.
  virtual Exchange* start(Connection& connection, const RequestHead& head) = 0;
  virtual void connection_closed(Connection& connection) noexcept = 0;
  // A connection began with a zero byte, as no request does: a peer's. It is the handler's, with the
  // bytes that have come so far; the Connection ends.
  virtual void peer_connected(Descriptor fd, std::string received) noexcept {
    static_cast<void>(fd), static_cast<void>(received);  // closed
  }
  // The bytes that a connection holds unparsed, heads in pieces and requests whose turn has not
  // come, went from `before` to `after`. False: there is no memory for more; the connection answers
  // 503 and ends.
  virtual bool unparsed_bytes_changed(size_t before, size_t after) noexcept {
    static_cast<void>(before), static_cast<void>(after);
    return true;
  }

 private:
  DateLine date_line_;
};

struct ConnectionStats {
  uint64_t requests = 0;
  uint64_t answered_at_once = 0;
};

class Connection {
 public:
  Connection(int fd, Handler& handler, const ConnectionLimits& limits);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  static void* operator new(size_t size_bytes) { return allocate_frame(size_bytes); }
  static void operator delete(void* memory, size_t size_bytes) { free_frame(memory, size_bytes); }

  // Serves until the connection has ended and everything it started is gone.
  Task<void> run();

  // Finishes what is under way, then closes; an idle connection closes at once.
  void drain();
  // Gives up at once.
  void abort();

  // --- for whoever is short of memory -----------------------------------------------------------
  // Since when nothing has moved that the peer has to move: bytes of a request under way, or
  // output it does not read. INT64_MAX if nothing waits for the peer.
  Nanos stalled_since() noexcept;
  // Memory beyond an idle connection's is held for this peer.
  bool holds_memory() const {
    return receiving_ != nullptr || streaming_ || unparsed_bytes_ != 0 ||
           socket_.output_bytes() != 0;
  }
  // Nothing before it waits for its answer.
  bool is_first_of(const Exchange& exchange) const { return queue_head_ == &exchange; }
  // The client has asked for more than one thing at a time.
  bool pipelines() const {
    return queue_size_ > 1 || receiving_ != nullptr || bytes_behind_ != 0 || !carry_.empty() ||
           !parser_.idle() || socket_.spill_bytes() != 0;
  }
  size_t answer_bytes_expected() const {
    return answer_bytes_expected_ != 0 ? answer_bytes_expected_ : limits_.answer_bytes_seen;
  }
  // The peer has had its time: its unfinished request is answered with 408; a peer that does not
  // read is cut off.
  void expire() noexcept;

  // --- for handlers -----------------------------------------------------------------------------
  const AnswerStyle& style() const {
    return style_;
  }  // of the request that start() was called with
  bool may_answer_now() const { return queue_head_ == nullptr; }
  // True if an unfinished earlier request changes this key.
  bool conflicts(uint64_t key_hash) const;
  bool has_unsafe() const { return unsafe_unfinished_ != 0; }

  // The output; only in order: from start() if may_answer_now(), from respond() and stream().
  Socket& socket() { return socket_; }
  std::string_view date_line() { return handler_.date_line(); }
  // An answer whose body is one line, also for requests out of order (it is queued then).
  void answer_error(uint16_t status, std::string_view reason, uint32_t retry_after_s = 0,
                    std::string_view allow = {});
  // The same with any short body.
  void answer_text(uint16_t status, std::string_view body, ContentType type = ContentType::text);
  // Called once per Exchange, on this core.
  void finished(Exchange& exchange) noexcept;
  // Coroutines that work on this connection's exchanges; joined before it goes.
  Scope& scope() { return *scope_; }
  // No further request is read after the present one.
  void close_after_answer() { closing_ = true; }

  const ConnectionStats& stats() const { return stats_; }
  uint64_t peer() const { return peer_; }  // Backend::peer
  size_t memory_bytes() const { return carry_.capacity() + parser_.held_bytes(); }
  Handler& handler() { return handler_; }
  const ConnectionLimits& limits() const { return limits_; }

  // Intrusive list of the server.
  Connection* next = nullptr;
  Connection* previous = nullptr;

 private:
  struct DeadlineTimer : Timer {
    explicit DeadlineTimer(Connection& of);
    Connection& connection;
  };
  enum class Phase : uint8_t { idle, head, body, waiting };

  Task<void> read_requests();
  Task<void> give_to_peers(std::string received);
  Task<bool> process(std::string_view bytes);
  bool start_request(const RequestHead& head);
  Task<bool> wait_turn(Exchange& exchange);
  Task<bool> wait_for_room();
  Task<void> linger();
  Task<void> run_stream(Exchange* exchange);

  void enqueue(Exchange& exchange);
  void begin(Exchange& exchange);
  void flush_answers() noexcept;
  size_t output_bytes_allowed() const;
  bool must_wait_for_room() const;
  bool blocked(const Exchange& exchange) const;
  AnswerStyle style_of(const RequestHead& head) const;
  void enter(Phase phase);
  void check_deadlines() noexcept;
  void save_rest(std::string_view rest);
  bool account_unparsed(size_t bytes) noexcept;
  bool pause_reading(size_t piece_bytes = 0);
  void refuse_rest(std::string_view reason);
  void note_progress() noexcept;
  Task<bool> take_body_later(std::string piece);
  void queue_emptied() noexcept;
  void wake_reader() noexcept;

  Socket socket_;
  uint64_t peer_;
  Handler& handler_;
  const ConnectionLimits& limits_;
  RequestParser parser_;
  AnswerStyle style_;

  Exchange* queue_head_ = nullptr;  // unfinished or not answered, in order of arrival
  Exchange* queue_tail_ = nullptr;
  size_t queue_size_ = 0;
  size_t answer_bytes_expected_ = 0;  // how large answers were lately; 0: there was none
  size_t unsafe_unfinished_ = 0;
  Exchange* receiving_ = nullptr;  // whose body is being read
  bool streaming_ = false;
  bool closing_ = false;  // no further request is read
  bool draining_ = false;
  bool is_new_ = true;  // nothing has come yet
  bool given_away_ = false;
  bool skip_linger_ = false;  // the peer has closed, or the connection is cut
  bool in_receive_ = false;
  bool woken_ = false;          // the interrupt of the receive is no deadline
  bool expecting_ = false;      // an answer now means that the body may come or not
  bool continue_owed_ = false;  // "100 Continue", once what came before is answered
  Event changed_;               // an exchange finished, or an answer left
  std::string carry_;           // unparsed bytes while the connection waits
  size_t bytes_behind_ = 0;     // that came with the last request, behind it

  Phase phase_ = Phase::idle;
  Nanos phase_since_ = 0;
  uint64_t body_bytes_ = 0;   // of the body under way
  Nanos progress_since_ = 0;  // the peer last read something
  uint64_t sent_seen_ = 0;
  Nanos heard_at_ = 0;         // when bytes last came
  size_t unparsed_bytes_ = 0;  // what the handler knows of
  bool refused_rest_ = false;  // there was no memory for what came behind
  DeadlineTimer timer_{*this};
  ConnectionStats stats_;
  Scope* scope_ = nullptr;
};

}  // namespace gyre::http
