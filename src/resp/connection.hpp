// One connection of a Redis client: reads commands, hands them to a Handler, sends the replies in
// the order of the commands.
//
// One coroutine per connection parses; commands that can be answered from memory are answered by
// plain code inside it, through out(). One that has to wait becomes an Exchange: an object in the
// connection's queue that is completed later, by a callback or a coroutine, in any order; replies
// leave in order. All commands of one received piece are begun before the connection waits for
// anything, and the handler is told when they are (batch_ended), so that what they ask of another
// core can travel together.
//
// A client may rely on its commands taking effect one after the other, though they run at the same
// time. So the connection stops parsing while
//   - a command reads a key that an earlier, unfinished one writes, or writes one that an earlier,
//     unfinished one reads; or either of them touches everything. Writes of the same key don't wait
//     for one another: who serves them must keep them in the order in which they were begun
//   - too many commands are unfinished, or too many bytes wait for a client that does not read
//   - a command is unfinished whose outcome decides what those behind it mean
//
// What is said without being asked (push) goes out at once, between two answers.
//
// Whoever isn't a Redis client is cut off without an answer: a browser that was talked into sending
// commands (its request line or "Host:" gives it away), and a TLS client.
//
// Deadlines are checked by one coarse timer per connection: to tell the password, to complete a
// command, to read replies, idleness. A protocol error is answered once and ends the connection; the
// close lingers so that the client can read the answer.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <gyre/reactor.hpp>
#include <gyre/scope.hpp>
#include <gyre/socket.hpp>
#include <gyre/sync.hpp>
#include <gyre/task.hpp>

#include "resp/command_parser.hpp"
#include "resp/reply_writer.hpp"

namespace gyre::resp {

class Connection;

// Of all connections that share the limits.
struct ConnectionCounters {
  uint64_t commands = 0;
  uint64_t commands_at_once = 0;  // answered without an Exchange
  uint64_t protocol_errors = 0;
  uint64_t foreigners_cut_off = 0;  // browsers, TLS
  uint64_t output_pauses = 0;       // reading stopped until the client reads its replies
  uint64_t timeouts = 0;
  uint64_t pushes_cut_off = 0;  // clients that did not read what was pushed
};

// Shared by the connections of a core, which must be fewer than it lives.
struct ConnectionLimits {
  CommandLimits command;                   // of an authenticated client
  size_t pipeline_max = 1024;              // commands of one connection that are unfinished
  size_t unfinished_bytes_max = 1u << 20;  // of their answers, as far as can be told
  // Replies that a client has not read. A client may well write a long pipeline before it reads: it
  // must not hang for a reasonable one.
  size_t output_bytes_pause = 32u << 20;
  size_t output_bytes_pause_unauthenticated = 4u << 10;
  // When the output queues of all connections of the core hold more than this, each connection
  // pauses at output_bytes_scarce.
  size_t output_total_bytes_max = 64u << 20;
  size_t output_bytes_scarce = 2u << 10;
  // What a client has not read of all that it was sent when more is pushed to it: beyond that it is
  // cut off, as nothing can be held back. The first is that of Redis (client-output-buffer-limit
  // pubsub), the second holds beyond output_total_bytes_max.
  size_t push_bytes_max = 32u << 20;
  size_t push_bytes_scarce = 16u << 10;
  Nanos authentication_timeout = seconds(10);  // from the connection on
  Nanos command_timeout = seconds(30);  // of one begun; and a second more for each 64 KiB that came
  Nanos idle_timeout = 0;               // 0: none, as Redis
  Nanos send_timeout = seconds(30);
  Nanos linger = seconds(2);  // without a byte from the client
  Nanos linger_max = seconds(15);
  size_t linger_bytes_max = 64u << 20;

  mutable ConnectionCounters counters;
  // Commands under way of all of them: beyond the bound each connection has one at a time.
  mutable size_t exchanges_under_way = 0;
  size_t exchanges_under_way_scarce = 16384;
  // Buffers for replies that wait for earlier ones.
  mutable std::vector<std::string> spare_texts;
};

// A command that is not answered yet. Lives on the connection's core, from the frame pool.
// Completing it is done by whoever works on it: `connection().finished(*this)`.
class Exchange {
 public:
  explicit Exchange(Connection& connection);
  virtual ~Exchange() = default;
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;
  static void* operator new(size_t size_bytes) { return allocate_frame(size_bytes); }
  static void operator delete(void* memory, size_t size_bytes) { free_frame(memory, size_bytes); }

  // Nothing that must come first is unfinished. May call finished(). The command's words end after
  // this call, or before it if the connection had to wait (then detach() was called first).
  virtual void begin() = 0;
  // The connection is about to wait before begin(): the command's words end here.
  virtual void detach() {}
  // Writes the answer, in order. For streams: nothing yet, or its beginning.
  virtual void respond(ReplyWriter& to) = 0;
  // After respond, if is_stream: writes the rest, waiting for the client as needed. False: the
  // answer can't be completed; the connection is cut.
  virtual Task<bool> stream(Connection& connection);

  Connection& connection() const { return connection_; }
  Protocol protocol() const { return protocol_; }  // of the answer
  // Nobody will see the answer (CLIENT REPLY).
  bool silent() const { return silent_; }

  // What it touches: the hash64 of each key, which must stay where they are as long as it lives.
  void touches(std::span<const uint64_t> key_hashes, bool reading, bool writing) {
    key_hashes_ = key_hashes;
    reads_ = reading;
    writes_ = writing;
  }
  // All keys: waits for everything before it, and everything behind waits for it.
  void touches_everything() { everything_ = true; }
  // Nothing behind it is parsed before it is finished: what follows may mean something else then.
  void holds_what_follows() { holds_ = true; }
  // It may wait for something that never comes: while others wait for it, the connection goes on
  // looking whether the client is still there (reading_ended).
  void may_wait_for_ever() { endless_ = true; }

  bool is_stream = false;

 private:
  friend class Connection;
  Connection& connection_;
  Exchange* next_ = nullptr;
  std::span<const uint64_t> key_hashes_;
  Protocol protocol_;
  bool reads_ = false;
  bool writes_ = false;
  bool everything_ = false;
  bool holds_ = false;
  bool endless_ = false;
  bool silent_ = false;
  bool finished_ = false;
};

// One for all connections of a core.
class Handler {
 public:
  virtual ~Handler() = default;
  // A command has arrived; its words are valid during this call and, if it returns an Exchange, up to
  // the end of its begin() or detach(). Either answers at once through connection.out() and returns
  // nullptr, or returns what will work on it.
  virtual Exchange* start(Connection& connection, Command command) = 0;
  // Of a pipeline: the keys, as far as can be told, of commands that will be started next. They are
  // valid during this call.
  virtual void keys_expected(Connection& connection,
                             std::span<const std::string_view> keys) noexcept {
    static_cast<void>(connection), static_cast<void>(keys);
  }
  // Everything that was received has been started, or the connection is about to wait.
  virtual void batch_ended(Connection& connection) noexcept { static_cast<void>(connection); }
  // The connection ends without an answer: a browser ("POST", "Host:", an HTTP request line) or a TLS
  // client has sent `what`.
  virtual void foreigner_cut_off(Connection& connection, std::string_view what) noexcept {
    static_cast<void>(connection), static_cast<void>(what);
  }
  virtual void connection_closed(Connection& connection) noexcept = 0;
  // The bytes that a connection holds of commands in pieces and commands whose turn has not come went
  // from `before` to `after`. False: there is no memory for more.
  virtual bool unparsed_bytes_changed(size_t before, size_t after) noexcept {
    static_cast<void>(before), static_cast<void>(after);
    return true;
  }
  // Waits until so many bytes more may be there. False: there won't be in time; the connection answers
  // an error and ends.
  virtual Task<bool> unparsed_bytes_wanted(size_t more);
};

enum class ReplyMode : uint8_t {
  on,
  off,        // no replies
  skip_next,  // none to this command and the next one
};

class Connection {
 public:
  // Without `authenticated` the client may only do little until set_authenticated().
  Connection(int fd, Handler& handler, const ConnectionLimits& limits, bool authenticated);
  virtual ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // Serves until the connection has ended and everything it started is gone.
  Task<void> run();

  // Finishes what is under way, then closes; an idle connection closes at once.
  void drain();
  // Gives up at once.
  void abort();
  // No further command will come: what waits for something that may never come has to end.
  virtual void reading_ended() noexcept {}

  // --- for whoever is short of memory -----------------------------------------------------------
  // Since when nothing has moved that the peer has to move; INT64_MAX if nothing waits for it.
  Nanos stalled_since() noexcept;
  bool holds_memory() const {
    return streaming_ || unparsed_bytes_ != 0 || socket_.output_bytes() != 0;
  }
  // The peer has had its time.
  void expire() noexcept;

  // --- for handlers -----------------------------------------------------------------------------
  Protocol protocol() const { return protocol_; }
  void set_protocol(Protocol protocol) { protocol_ = protocol; }
  bool authenticated() const { return authenticated_; }
  // From the next command on.
  void set_authenticated(bool authenticated);
  // Takes effect at once.
  void set_reply_mode(ReplyMode mode);
  bool silent() const { return reply_mode_ == ReplyMode::off || replies_to_skip_ != 0; }

  // Where the answer to the command that start() was called with goes, whatever is unfinished before
  // it. Valid until start() returns.
  ReplyWriter out();
  // Where something goes that answers no command, whole and in this call; to be asked for each. It
  // reaches clients that want no replies, too. None if the client has not read what it was sent
  // before, and is cut off, or if the connection ends.
  std::optional<ReplyWriter> push();
  // Whether a command that reads this key may be answered from the store as it is.
  bool may_read(uint64_t key_hash) const;
  // The same for a command that touches so many keys; or, without any, everything.
  bool may_run(std::span<const uint64_t> key_hashes, bool reading, bool writing) const;
  bool has_unfinished() const { return unfinished_ != 0; }
  // Called once per Exchange, on this core.
  void finished(Exchange& exchange) noexcept;
  // No further command is read after the present one; its answer is the last.
  void close_after_answer() { closing_ = true; }
  // For stream(): the output.
  Socket& socket() { return socket_; }
  // Coroutines that work on this connection's exchanges; joined before it goes.
  Scope& scope() { return *scope_; }
  // The client has asked for more than one thing at a time.
  bool pipelines() const {
    return queue_size_ > 1 || !carry_.empty() || !parser_.idle() || socket_.spill_bytes() != 0;
  }

  uint64_t peer() const { return peer_; }  // Backend::peer
  int fd() const { return socket_.fd(); }
  Nanos connected_at() const { return connected_at_; }
  Nanos heard_at() const { return heard_at_; }  // when bytes last came
  size_t output_bytes() const { return socket_.output_bytes() + ready_bytes_; }
  size_t memory_bytes() const { return carry_.capacity() + parser_.held_bytes(); }
  const ConnectionLimits& limits() const { return limits_; }

  // Intrusive list of the server.
  Connection* next = nullptr;
  Connection* previous = nullptr;

 private:
  class ReadyReplies;
  struct DeadlineTimer : Timer {
    explicit DeadlineTimer(Connection& of);
    Connection& connection;
  };
  enum class Phase : uint8_t { idle, command, waiting };

  Task<void> read_commands();
  Task<bool> process(std::string_view bytes);
  Exchange* start_command();
  bool is_foreign(Command command) const;
  size_t look_ahead(std::string_view bytes);
  void cut_off(std::string_view what);
  void end_batch();
  Task<bool> wait_turn(Exchange& exchange);
  Task<bool> watch_client();
  Task<bool> wait_for_room(bool has_memory = true);
  Task<bool> wait_for_memory();
  Task<void> linger();
  Task<void> run_stream(Exchange* exchange);

  void answer_last(std::string_view message);
  void enqueue(Exchange& exchange);
  void dequeue() noexcept;
  void flush_answers() noexcept;
  void count_touched(const Exchange& exchange, int by) noexcept;
  bool blocked(const Exchange& exchange) const;
  bool conflicts_before(const Exchange* end, std::span<const uint64_t> key_hashes, bool reading,
                        bool writing) const;
  size_t output_bytes_allowed() const;
  bool must_wait_for_room() const;
  void enter(Phase phase);
  void check_deadlines() noexcept;
  bool account_unparsed(size_t bytes) noexcept;
  bool pause_reading();
  void note_progress() noexcept;
  void wake_reader() noexcept;

  Socket socket_;
  uint64_t peer_;
  Handler& handler_;
  const ConnectionLimits& limits_;
  CommandParser parser_;
  Protocol protocol_ = Protocol::resp2;
  bool authenticated_;
  ReplyMode reply_mode_ = ReplyMode::on;
  unsigned replies_to_skip_ = 0;

  Exchange* queue_head_ = nullptr;  // unfinished or not answered, in order of arrival
  Exchange* queue_tail_ = nullptr;
  ReadyReplies* ready_ = nullptr;  // the tail, if it takes further replies
  size_t queue_size_ = 0;
  size_t unfinished_ = 0;
  size_t unfinished_everything_ = 0;
  size_t unfinished_holds_ = 0;
  size_t unfinished_endless_ = 0;
  // How many unfinished exchanges read and write the keys of each class of hashes.
  static constexpr size_t classes = 64;
  std::array<uint32_t, classes> readers_{};
  std::array<uint32_t, classes> writers_{};
  size_t ready_bytes_ = 0;         // replies that wait for earlier ones
  size_t answer_bytes_seen_ = 64;  // how large answers were lately
  std::string discarded_;          // where replies go that nobody is to see

  bool streaming_ = false;
  bool batch_begun_ = false;  // something was started since the handler was told of the end
  bool closing_ = false;      // no further command is read
  bool draining_ = false;
  bool is_new_ = true;        // nothing has come yet
  bool skip_linger_ = false;  // the peer has closed, or the connection is cut
  bool in_receive_ = false;
  bool watching_ = false;  // in a receive that ends when an exchange finishes
  bool woken_ = false;     // the interrupt of the receive is no deadline
  Event changed_;          // an exchange finished, or an answer left
  std::string carry_;      // unparsed bytes while the connection waits

  Phase phase_ = Phase::idle;
  Nanos phase_since_ = 0;
  uint64_t bytes_at_phase_ = 0;  // received before it
  Nanos connected_at_ = 0;
  Nanos unauthenticated_since_ = 0;
  Nanos progress_since_ = 0;  // the peer last read something
  uint64_t sent_seen_ = 0;
  Nanos heard_at_ = 0;
  size_t unparsed_bytes_ = 0;  // what the handler knows of
  DeadlineTimer timer_{*this};
  Scope* scope_ = nullptr;
};

}  // namespace gyre::resp
