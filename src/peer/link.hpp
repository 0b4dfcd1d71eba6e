// A link: one core of this node asks one core of one peer.
//
// It connects when first asked, and from then on keeps itself connected: after a connection is lost
// or can't be made it tries again after 50 ms, then longer, up to 2 s, each time with some jitter.
// A call that finds it disconnected makes it try at once, and so does peer_seen(); calls wait for
// that attempt and end with Status::closed if it fails. Where the last attempt failed too, they wait for
// hopeful_max only, and those that come later end so at once: nobody waits in vain for long. The
// attempt goes on, and who asks when it has succeeded is served.
//
// Requests of a tick leave in one send (Socket), replies come in any order. What waits to be sent
// is bounded in bytes; a call over the bound is not taken. Deadlines are watched by one timer of
// the link, once a millisecond at most.
//
// If a connection breaks, a call whose last byte had not been handed to the kernel can't have been
// carried out: it is sent once more, on a fresh connection. So is an idempotent one. Everything
// else ends with Status::closed, and so does everything where the connection broke by silence. A peer that was not heard for a while is pinged, and the connection
// given up if nothing comes then: the peer may be gone without a word.
//
// Everything here belongs to one core. Done handlers run as plain code in the link's own task, or
// in a timer; they may start and cancel calls of this link and others, but not destroy the link.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gyre/reactor.hpp>
#include <gyre/scope.hpp>
#include <gyre/socket.hpp>
#include <gyre/sync.hpp>
#include <gyre/task.hpp>

#include "peer/frame.hpp"
#include "peer/hello.hpp"
#include "peer/local_node.hpp"

namespace gyre::peer {

class Link;

// One request. Belongs to the caller; from a start() that took it until `done` or cancel() it and
// what it points to must neither move nor die.
struct Call {
  using Done = void (*)(Call& call) noexcept;
  using Page = void (*)(Call& call, std::string_view page) noexcept;

  Call() = default;
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;
  ~Call();  // asserts that it is not under way

  // --- the request: filled before start
  uint8_t verb = 0;
  bool idempotent = false;                  // carrying it out twice does no harm
  Nanos deadline = nanos_never;             // of this core's clock
  std::span<const std::string_view> parts;  // the payload, put together
  // If set, parts of 16 KiB and more are sent from where they lie: `retain(owner)` for each of
  // them, `release(owner)` when the socket no longer needs it, which may be after `done`. Unset,
  // they are copied.
  void* owner = nullptr;
  void (*retain)(void* owner) noexcept = nullptr;
  void (*release)(void* owner) noexcept = nullptr;
  Done done = nullptr;
  // If set, the reply may be preceded by pages, each valid during the handler. The peer may send
  // stream_window_bytes of them, and then as many as Link::grant gives back. A call is not sent
  // once more when it has had a page.
  Page page = nullptr;

  // --- the outcome, for `done`. A status other than ok may have a payload too (the service's).
  Status status = Status::ok;
  std::string_view reply;                    // valid during `done`
  uint64_t peer_epoch = 0;                   // of the frame that answered; 0 if none did
  Nanos sent_at = 0;                         // when it was given to a connection; 0: never
  bool retried() const { return retried_; }  // it may have been carried out more than once
  bool under_way() const { return link_ != nullptr; }
  // During `done`: the reply, to keep.
  std::string take_reply();

 private:
  friend class Link;
  Link* link_ = nullptr;
  Call* next_ = nullptr;
  Call* previous_ = nullptr;
  void* list_ = nullptr;  // of the link, that it is in
  size_t payload_bytes_ = 0;
  uint64_t id_ = 0;          // 0: not on a connection
  uint64_t end_offset_ = 0;  // of its last byte, in the connection's stream
  bool retried_ = false;
  FrameReader* reader_ = nullptr;  // during `done`
};

struct LinkOptions {
  std::string host = "127.0.0.1";  // numeric, or resolved at each attempt
  uint16_t port = 0;
  uint16_t target_core = 0;
  HandshakeOptions handshake{};
  Nanos connect_timeout = seconds(2);  // of each attempt, handshake included
  // Of an address that does not answer at all: the kernel asks again only after a second, a new
  // attempt does so at once. More than a round trip to any peer.
  Nanos reach_timeout = milliseconds(400);
  Nanos backoff_min = milliseconds(50);
  Nanos backoff_max = seconds(2);
  Nanos hopeful_max = milliseconds(50);
  Nanos attempt_interval_min = milliseconds(10);  // however many calls ask for one
  Nanos quiet_max = seconds(1);                   // while a request waits: then the peer is pinged
  Nanos idle_ping_interval = seconds(30);         // while none does
  Nanos silence_max = seconds(2);                 // after a ping
  size_t queue_bytes_max = 4u << 20;  // headers and payloads not yet sent; one call always fits
};

enum class LinkState : uint8_t { idle, connecting, connected, waiting, closed };
std::string_view to_string(LinkState state) noexcept;

struct LinkStats {
  uint64_t calls = 0;
  uint64_t replies = 0;
  uint64_t replies_late = 0;  // to a call that had ended
  uint64_t timed_out = 0;
  uint64_t refused_here = 0;  // Status::overloaded
  uint64_t retried = 0;
  uint64_t attempts = 0;
  uint64_t connected = 0;
  uint64_t bytes_sent = 0;  // of connections that have ended: see Link::bytes_sent
  uint64_t bytes_received = 0;
};

class Link {
 public:
  Link(LocalNode& node, LinkOptions options);
  ~Link();  // asserts that it was closed, or never asked
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  // Takes the call, or returns false with the reason in call.status (overloaded, too_large,
  // cancelled after close, timed_out if the deadline has passed, closed if nobody answers there);
  // then `done` is not called.
  [[nodiscard]] bool start(Call& call);
  // Forgets a call: `done` is not called. The peer may carry it out all the same.
  void cancel(Call& call) noexcept;
  // So many bytes of a call's pages are done with: more may come. Also from the page handler.
  void grant(Call& call, uint32_t bytes) noexcept;

  // Connects, if it is not connected, without a call.
  void connect();
  // Connects, and waits until it is connected or an attempt has failed. False: the latter, or a stop.
  Task<bool> try_once();
  // The peer is alive: no more backoff. A connection to an earlier life of it is given up.
  void peer_seen(const Identity& peer) noexcept;
  // The last attempt failed, or the last connection fell silent.
  bool is_down() const { return down_; }
  // All calls end with Status::cancelled; then the connection is closed. Once.
  Task<void> close();

  LinkState state() const { return state_; }
  // True once an attempt has ended, however: what readiness waits for.
  bool tried() const { return tried_; }
  // Of the present or last connection; nullptr before the first.
  const Identity* peer() const { return peer_ ? &*peer_ : nullptr; }
  // Why the last attempt failed or the last connection ended; empty while connected.
  const std::string& trouble() const { return trouble_; }
  size_t calls_under_way() const { return calls_count_; }
  size_t queue_bytes() const;
  // When something was last received; 0: never.
  Nanos heard_at() const { return heard_at_; }
  // The peer's clock (of its core that this link asks) when it sent the last frame that came; 0: none.
  uint64_t peer_hlc() const { return peer_hlc_; }
  // The shortest time from a ping or request to its answer since this was last asked; nanos_never:
  // there was none.
  Nanos take_round_trip() { return std::exchange(round_trip_, nanos_never); }
  // A request waits since then and nothing was heard; 0: none does.
  Nanos unheard_since() const { return unheard_since_; }
  const LinkStats& stats() const { return stats_; }
  // stats().bytes_sent with what the present connection has sent.
  uint64_t bytes_sent() const;
  const LinkOptions& options() const { return options_; }

 private:
  friend struct Call;
  struct DeadlineTimer : Timer {
    explicit DeadlineTimer(Link& of);
    Link& link;
  };
  struct PauseTimer : Timer {
    explicit PauseTimer(Link& of);
    Link& link;
  };
  struct List {
    Call* head = nullptr;
    Call* tail = nullptr;
    void push(Call& call) noexcept;
    void remove(Call& call) noexcept;
  };

  Task<void> run();
  Task<Result<Met>> attempt();
  Task<Result<Descriptor>> reach();
  Task<std::string> receive(std::string rest);
  bool take(std::string_view bytes);
  void answer();
  void take_page();
  void send_credit(uint64_t id, uint32_t bytes, uint8_t flags) noexcept;
  void stop_pages(const Call& call) noexcept;
  void send_waiting();
  void write(Call& call);
  void connection_ended(uint64_t bytes_sent) noexcept;
  void pause() noexcept;
  void end(Call& call, Status status) noexcept;
  void forget(Call& call) noexcept;
  void drop_id(Call& call) noexcept;
  void end_list(List& list, Status status) noexcept;
  void check() noexcept;
  void check_silence(Nanos now) noexcept;
  void ping() noexcept;
  bool is_hopeless(Nanos now) const;
  void check_deadlines() noexcept;
  void watch(Nanos deadline) noexcept;
  void want() noexcept;
  uint64_t new_id(Call& call);
  Call* find(uint64_t id) const;

  LocalNode& node_;
  LinkOptions options_;
  LinkState state_ = LinkState::idle;
  std::unique_ptr<Scope> scope_;
  std::unique_ptr<Socket> socket_;  // while connecting and connected
  FrameReader reader_;
  std::optional<Identity> peer_;
  std::string trouble_;

  List waiting_;  // not written yet
  List sent_;
  size_t calls_count_ = 0;
  size_t waiting_bytes_ = 0;
  // By id: the slot's number in the lower half, how often it was used in the upper.
  struct Slot {
    Call* call = nullptr;
    uint32_t uses = 0;
    uint32_t next_free = 0;
  };
  std::vector<Slot> slots_;
  uint32_t free_slot_ = UINT32_MAX;

  DeadlineTimer deadline_timer_{*this};
  PauseTimer pause_timer_{*this};
  Event wanted_;
  Event settled_;  // an attempt has ended
  bool stopping_ = false;
  bool tried_ = false;
  bool down_ = false;
  Nanos backoff_ = 0;
  Nanos attempted_at_ = INT64_MIN / 2;
  Nanos heard_at_ = 0;
  uint64_t peer_hlc_ = 0;
  Nanos unheard_since_ = 0;
  Nanos round_trip_ = nanos_never;
  Nanos ping_sent_at_ = 0;  // of the oldest one without an answer; 0: there is none
  Nanos pinged_at_ = 0;     // and nothing was heard since; 0: not
  Nanos connected_at_ = 0;
  bool postponed_ = false;  // the last look at deadlines left replies that had come go first
  LinkStats stats_;
};

// A call of a coroutine: `Status status = co_await asked;` then asked.text. A stop cancels it.
//
//   AskedCall asked(link); asked.verb = …; asked.deadline = …; asked.parts = …;
class AskedCall : public Call {
 public:
  explicit AskedCall(Link& link);
  Task<Status> ask();
  std::string text;  // the reply

 private:
  Link& to_;
  Event ended_;
};

}  // namespace gyre::peer
