// A connection to one peer, for the calls of one core: multiplexed, answers in any order.
//
//   - A call without a connection makes one at once, and waits for it. Where nobody answered, the next
//     attempt comes after retry_interval_min to _max, and calls between attempts fail at once; so do
//     those that find an attempt under way for more than hopeful.
//   - Requests are copied into the socket's output queue: one send per tick takes all of them.
//     Beyond output_bytes_max calls end with Status::busy, so a peer that doesn't read costs a bound.
//   - A call ends once: with the reply, or by its deadline (the peer gets what is left of it with the
//     request), or with the connection. A call that was under way when the connection ended is asked
//     again once on a new one: services must bear a request twice.
//   - A connection on which calls time out while nothing comes is given up: half-open ones cost one
//     deadline.
//
// Everything belongs to one core's thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <gyre/reactor.hpp>
#include <gyre/scope.hpp>
#include <gyre/socket.hpp>
#include <gyre/sync.hpp>
#include <gyre/task.hpp>

#include "peer/frame.hpp"
#include "peer/hello.hpp"

namespace gyre::peer {

// What links and inbound connections need of the node they belong to.
class Host {
 public:
  virtual ~Host() = default;
  virtual const Identity& identity() const = 0;
  virtual std::string_view secret() const = 0;
  virtual uint64_t hlc() = 0;  // travels with every frame
  virtual void observe_hlc(uint64_t hlc) = 0;
  // A node has proved who it is: the one that a link was for, or that called.
  virtual void peer_seen(const Identity& peer) = 0;
};

// A question to a peer. Intrusive; belongs to the link from call() until `done`.
struct Call {
  using Done = void (*)(Call& self, Status status, std::string_view reply) noexcept;

  Done done = nullptr;  // `reply` is valid during the call
  uint8_t verb = 0;
  Nanos deadline = 0;
  std::string_view parts[3];  // the payload; must stay until `done`

 private:
  friend class Link;
  Call* previous_ = nullptr;
  Call* next_ = nullptr;
  uint64_t id_ = 0;  // 0: not sent
  uint64_t received_at_send_ = 0;
  bool again_ = false;  // it was under way on a connection that ended
};

struct LinkStats {
  uint64_t calls = 0;
  uint64_t replies = 0;
  uint64_t failures = 0;  // calls that ended otherwise
  uint64_t connects = 0;
  uint64_t connects_failed = 0;
  uint64_t asked_again = 0;
};

class Link {
 public:
  static constexpr Nanos connect_patience = milliseconds(500);
  static constexpr Nanos hopeful = milliseconds(50);
  static constexpr Nanos retry_interval_min = milliseconds(5);
  static constexpr Nanos retry_interval_max = milliseconds(500);
  static constexpr size_t output_bytes_max = 32u << 20;

  struct Address {
    std::string host;  // numeric, or a name
    uint16_t port = 0;
    std::string url;  // of the node that is expected there
  };
  Link(Host& host, Address address, Scope& scope);
  ~Link();  // asserts that it was closed
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  // Takes the call; `done` may be called before this returns.
  void call(Call& call) noexcept;
  // Makes a connection if there is none, and waits until it is there or can't be had now.
  Task<bool> connect();
  // Ends all calls, with Status::closing, and the connection. No call() after it.
  Task<void> close();

  enum class State : uint8_t { idle, connecting, connected, closed };
  State state() const { return state_; }
  // The last attempt or call showed that nobody answers there.
  bool is_down() const { return down_; }
  // It has been heard of otherwise: the next call tries at once. A connection to an earlier life of it
  // is given up, and what was asked there is asked again.
  void peer_seen(const Identity& peer) noexcept;
  const Address& address() const { return address_; }
  // Of the peer, once it was connected.
  const std::optional<Identity>& peer() const { return peer_; }
  const LinkStats& stats() const { return stats_; }
  size_t calls_under_way() const { return calls_; }
  const std::string& last_error() const { return last_error_; }

 private:
  struct DeadlineTimer : Timer {
    explicit DeadlineTimer(Link& of);
    Link& link;
  };

  void forget_failures() noexcept;
  void start();
  Task<void> run();
  Task<Result<void>> open(std::optional<Socket>& socket, FrameReader& reader);
  Task<Result<void>> shake_hands(Socket& socket, FrameReader& reader);
  Task<Result<void>> next_frame(Socket& socket, FrameReader& reader);
  Task<void> read_replies(FrameReader& reader);
  bool take_reply(const FrameReader& reader);
  void send(Call& call) noexcept;
  void send_waiting() noexcept;
  void connection_ended(bool had_one) noexcept;
  void finish(Call& call, Status status, std::string_view reply) noexcept;
  void fail_all(Status status) noexcept;
  void insert(Call& call) noexcept;
  void remove(Call& call) noexcept;
  void check_deadlines() noexcept;
  void rearm() noexcept;

  Host& host_;
  Address address_;
  Scope& scope_;
  State state_ = State::idle;
  bool down_ = false;
  Nanos attempt_begun_ = 0;
  Nanos retry_at_ = 0;  // before it, calls fail at once
  Nanos retry_interval_ = retry_interval_min;
  std::optional<Identity> peer_;
  std::string last_error_;
  Socket* socket_ = nullptr;  // while connected
  // By deadline.
  Call* head_ = nullptr;
  Call* tail_ = nullptr;
  size_t calls_ = 0;
  // By the low half of the id; the high half tells a later use of the place apart.
  struct Place {
    Call* call = nullptr;
    uint32_t use = 0;
  };
  std::vector<Place> places_;
  std::vector<uint32_t> free_places_;
  DeadlineTimer timer_{*this};
  Event settled_;  // connected, or not to be had now
  Event ended_;
  bool running_ = false;
  LinkStats stats_;
};

}  // namespace gyre::peer
