// A connection to a Redis server that many share: commands are sent as they come, in one send per
// tick, and answered in their order (pipelining). What the server sends of its own accord, such as
// the invalidations of CLIENT TRACKING, is delivered in order with the replies: so who caches a
// reply knows that no invalidation before it was overtaken by it.
//
// It connects when first asked and keeps itself connected: after a loss or a failed attempt it
// tries again, at once and then after 50 ms, longer each time, up to 2 s, with jitter. It says
// HELLO 3 (with AUTH and SETNAME); a server that does not know it is spoken to in RESP2, without
// pushes. Commands wait for the attempt that follows a loss; once an attempt has failed they end
// at once, until one succeeds.
//
// A command has a deadline. One that passes it is forgotten, and its replies are dropped when they
// come, so the others stay in step. A server that owes replies and says nothing for `silence_max`, or
// takes longer than `answer_max` for one, has had its time: the connection is given up. One that
// owes nothing is pinged every `ping_interval`, so a dead link is noticed within ping_interval +
// silence_max. When a connection ends, however, the listener hears of it first and then every
// command under way ends with Errc::closed. Bytes that are no reply end it too.
//
// A reply longer than `kept_bytes_max` costs its command only: it is read to its end and dropped, and
// an error stands in for it. What comes behind it comes that much later.
//
// Everything here belongs to one core. Callbacks run as plain code; they may start and cancel
// commands, but not destroy the client.
#pragma once

#include <cstdint>
#include <deque>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include <gyre/reactor.hpp>
#include <gyre/result.hpp>
#include <gyre/scope.hpp>
#include <gyre/sync.hpp>
#include <gyre/task.hpp>

#include "resp/reply_parser.hpp"
#include "tls/stream.hpp"

namespace gyre::resp {

class Client;

// Appends a command as an array of bulk strings.
void append_command(std::string& to, std::initializer_list<std::string_view> words);

// One or more commands that are sent together, `replies` of them. Belongs to the caller; from a
// start() that took it until `done` or cancel() it and its bytes must neither move nor die.
struct ClientCommand {
  using OnReply = void (*)(ClientCommand& self, uint32_t index, const Reply& reply) noexcept;
  using OnRaw = void (*)(ClientCommand& self, std::string_view reply) noexcept;
  using OnDone = void (*)(ClientCommand& self) noexcept;

  ClientCommand() = default;
  ClientCommand(const ClientCommand&) = delete;
  ClientCommand& operator=(const ClientCommand&) = delete;
  ~ClientCommand();  // asserts that it is not under way

  // --- filled before start
  std::string_view bytes;
  uint32_t replies = 1;
  // Its bytes end with HELLO, whose reply, a map, ends it, however many replies came before: for
  // commands that are answered by pushes, and by a reply only if they fail. Needs RESP3.
  bool fenced = false;
  Nanos deadline = nanos_never;
  OnReply reply = nullptr;  // for each, in order; the reply is valid during the call
  OnRaw raw = nullptr;      // instead of `reply`: the reply's bytes as they came, not looked into
  OnDone done = nullptr;
  bool too_long = false;  // a reply was, and an error stood in for it

  // --- for `done`: ok once all replies have come; else timed_out, closed or cancelled
  Errc outcome = Errc::ok;
  Nanos sent_at = 0;  // when it was given to the connection; 0: never
  bool under_way() const { return client_ != nullptr; }

 private:
  friend class Client;
  Client* client_ = nullptr;
  bool waiting_ = false;
  ClientCommand* next_ = nullptr;  // while it waits
  ClientCommand* previous_ = nullptr;
  uint64_t sequence_ = 0;  // of its slot
};

// Told of a connection's life; calls come in the order in which things happened.
class ClientListener {
 public:
  virtual ~ClientListener() = default;
  // `tracking`: the server sends invalidations of what is read after CLIENT CACHING YES.
  virtual void connected(bool tracking) noexcept { static_cast<void>(tracking); }
  virtual void pushed(const Reply& push) noexcept { static_cast<void>(push); }
  virtual void lost() noexcept {}
};

struct ClientOptions {
  std::string host = "127.0.0.1";  // numeric, or resolved at each attempt
  uint16_t port = 6379;
  std::string user;  // "": the default one
  std::string password;
  std::string name;  // CLIENT SETNAME
  unsigned database = 0;
  // TLS, if there is a context, which lives longer; `tls_name` is what the certificate has to be for,
  // `host` if it is empty.
  const tls::Context* tls = nullptr;
  std::string tls_name;
  bool tracking = false;                    // CLIENT TRACKING ON OPTIN, where the server can
  int protocol = 3;                         // 2: HELLO is not said
  bool allow_resp2 = true;                  // for a server that does not know HELLO
  Nanos connect_timeout = seconds(2);       // of each attempt, handshake included
  Nanos reach_timeout = milliseconds(500);  // of one address
  Nanos backoff_min = milliseconds(50);
  Nanos backoff_max = seconds(2);
  Nanos ping_interval = milliseconds(500);
  Nanos silence_max = seconds(1);
  Nanos answer_max = seconds(10);
  size_t queue_bytes_max = 8u << 20;  // not yet sent
  size_t commands_max = 16384;        // under way
  // A longer reply ends the connection.
  ReplyLimits limits{.reply_bytes_max = 1u << 30, .elements_max = 1u << 20};
  size_t kept_bytes_max = 64u << 20;  // of one reply
  std::string too_long_reply = "-ERR the reply is too long\r\n";
};

enum class ClientState : uint8_t { idle, connecting, ready, pausing, closed };
std::string_view to_string(ClientState state) noexcept;

struct ClientStats {
  uint64_t commands = 0;
  uint64_t replies = 0;
  uint64_t replies_late = 0;  // to what had ended
  uint64_t replies_too_long = 0;
  uint64_t pushes = 0;
  uint64_t timed_out = 0;
  uint64_t refused = 0;  // over a bound, or nobody there
  uint64_t attempts = 0;
  uint64_t connected = 0;
  uint64_t lost = 0;  // connections that were ready
  uint64_t bytes_received = 0;
};

class Client {
 public:
  Client(ClientOptions options, ClientListener& listener);
  ~Client();  // asserts that it was closed, or never asked
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // Takes the command, or returns false with the reason in its outcome (overloaded, timed_out,
  // closed, cancelled after close); then `done` is not called.
  [[nodiscard]] bool start(ClientCommand& command);
  // Forgets a command: nothing of it is called any more. The server may carry it out.
  void cancel(ClientCommand& command) noexcept;

  // Of later attempts.
  void set_password(std::string password) { options_.password = std::move(password); }
  void set_tls(const tls::Context* context) { options_.tls = context; }
  // Connects, without a command.
  void connect();
  // Gives the present connection up, as if it had broken.
  void drop(std::string why);
  // All commands end with Errc::cancelled; then the connection is closed. Once.
  Task<void> close();

  ClientState state() const { return state_; }
  bool tracking() const { return state_ == ClientState::ready && tracking_; }
  // 2 or 3 while connected.
  int protocol() const { return protocol_; }
  // The last attempt failed, or the last connection fell silent.
  bool is_down() const { return down_; }
  // True once an attempt has ended, however.
  bool tried() const { return tried_; }
  // Why the last attempt failed or the last connection ended; empty while ready.
  const std::string& trouble() const { return trouble_; }
  // As the server called itself; empty before the first HELLO.
  const std::string& server_version() const { return server_version_; }
  size_t commands_under_way() const { return commands_count_; }
  // Memory of the reply that is on its way.
  size_t held_bytes() const { return held_.capacity(); }
  const ClientStats& stats() const { return stats_; }
  const ClientOptions& options() const { return options_; }

 private:
  friend struct ClientCommand;
  struct CheckTimer : Timer {
    explicit CheckTimer(Client& of);
    Client& client;
  };
  struct PauseTimer : Timer {
    explicit PauseTimer(Client& of);
    Client& client;
  };
  enum class Purpose : uint8_t {
    command,
    hello,
    auth,
    set_name,
    greeting,
    select,
    tracking,
    ping,
  };
  // What the server owes replies to, in order.
  struct Slot {
    Purpose purpose = Purpose::command;
    ClientCommand* command = nullptr;  // null: forgotten, or not a caller's
    uint32_t replies = 1;
    uint32_t arrived = 0;
    Nanos sent_at = 0;
    bool fenced = false;
  };
  struct List {
    ClientCommand* head = nullptr;
    ClientCommand* tail = nullptr;
    void push(ClientCommand& command) noexcept;
    void remove(ClientCommand& command) noexcept;
  };

  Task<void> run();
  Task<Result<void>> attempt();
  Task<Result<Descriptor>> reach();
  Task<std::string> receive();
  std::string end_of_stream(const Result<std::string_view>& last) const;
  bool take(std::string_view bytes);
  bool take_reply(std::string_view bytes);
  bool take_long_reply();
  bool is_too_long() const;
  void drop_held() noexcept;
  void greet();
  bool handshake(Purpose purpose, const Reply& reply);
  void say(Purpose purpose, std::initializer_list<std::string_view> words);
  void greet_old_way();
  void after_hello();
  bool refuse(std::string why);
  void ready();
  void send_waiting();
  void write(ClientCommand& command);
  void end(ClientCommand& command, Errc outcome) noexcept;
  void end_late(Nanos now) noexcept;
  void end_owed(Errc outcome) noexcept;
  void fail_waiting(Errc outcome) noexcept;
  void pause() noexcept;
  void check() noexcept;
  void watch(Nanos deadline) noexcept;
  size_t queue_bytes() const;

  ClientOptions options_;
  ClientListener& listener_;
  ClientState state_ = ClientState::idle;
  std::unique_ptr<Scope> scope_;
  std::unique_ptr<tls::Stream> stream_;  // from the attempt on
  ReplyScanner scanner_;
  ReplyTree tree_;
  std::string held_;       // the beginning of a reply that came in pieces
  bool dropping_ = false;  // it is too long: nothing of it is held

  List waiting_;
  size_t waiting_bytes_ = 0;
  std::deque<Slot> owed_;
  uint64_t first_sequence_ = 0;  // of owed_.front()
  size_t commands_count_ = 0;
  unsigned handshakes_ = 0;  // of these slots
  bool heard_ = false;       // anything, on this connection

  CheckTimer check_timer_{*this};
  PauseTimer pause_timer_{*this};
  Event wanted_;
  bool stopping_ = false;
  bool tried_ = false;
  bool down_ = false;
  bool tracking_ = false;
  int protocol_ = 0;
  std::string trouble_;
  std::string server_version_;
  Nanos backoff_ = 0;
  Nanos attempted_at_ = 0;
  Nanos ready_at_ = 0;
  Nanos heard_at_ = 0;
  bool postponed_ = false;  // the last check left what had come go first
  ClientStats stats_;
};

}  // namespace gyre::resp
