// One core's share of the proxy: the keys that it owns, what it remembers of them, and its one
// connection to Redis (or to each master of a cluster: upstream.hpp).
//
// Coherence. With CLIENT TRACKING, invalidations come on the same connection as replies, in order.
// A fetch is three commands, sent together: CLIENT CACHING YES, GET, PTTL. From the execution of GET on
// Redis owes us an invalidation for every change of the key, and it can only come behind the reply.
// So the epoch of the key is taken when the reply of GET is read, and an invalidation between that
// and the reply of PTTL keeps the value out of the cache, though it is a right answer for
// those who wait. PTTL comes last for that reason too: a time to live that is changed in between is
// a change of the key. It counts from when the fetch was sent, so nothing outlives its origin.
//
// What clients of the proxy write comes on other connections, and its acknowledgement may overtake
// a reply of GET from before it, and the invalidation behind that. So a write keeps out of the
// cache whatever was under way when it was acknowledged, however its epoch. Nor is remembered what
// comes while others wait for a later fetch of its key: who asks behind them would get less.
//
// OPTIN, not BCAST: Redis remembers only keys that we cache, each for the one connection of its
// owner core, and sends nothing about others; broadcasting would send every write of everybody to
// every core. Its price is one short command per miss and a table in Redis, which is bounded
// (tracking-table-max-keys) and invalidates what it forgets.
//
// Lost connection: what it tracked is not known any more, so everything is dropped, or kept only
// for when Redis does not answer, where a policy says so. Without tracking (an old server) a change
// shows when the time to live has passed, as in any cache.
//
// A cluster: what is remembered of a slot's keys came from the node that has the slot, over its
// present connection. So a lost connection drops what its slots hold and nothing else, and a slot
// that the topology gives to another node is dropped; what another node said (a redirect) is passed
// on and not remembered. A node that gives a slot away invalidates each key as it leaves. It
// can't for keys that it hasn't: those come to be on the other node unseen. So absence is
// remembered for absence_max at most. A slot that a replica takes over is dropped when the
// topology is next read, which is how long something older may be seen if the connection to
// the former master is still there.
//
// One fetch per key at a time: who asks meanwhile joins it, unless the key was invalidated since it
// began; up to a bound. A fetch has a deadline, and so have those who joined.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>

#include <gyre/reactor.hpp>
#include <gyre/task.hpp>

#include "proxy/cache.hpp"
#include "proxy/hot_keys.hpp"
#include "proxy/options.hpp"
#include "proxy/policy.hpp"
#include "proxy/upstream.hpp"
#include "resp/client.hpp"

namespace gyre::proxy {

struct Answer {
  enum class Status : uint8_t { found, absent, unavailable };
  enum class Source : uint8_t {
    hit,
    fetched,
    stale,     // fetched anew meanwhile
    on_error,  // Redis does not answer
  };
  Status status = Status::unavailable;
  Source source = Source::hit;
  std::string_view value;   // valid during the call
  std::string_view reason;  // of unavailable: a sentence
  std::string_view error;   // and what Redis itself said, if it was that: an error reply
};

// Somebody who waits for a key. Belongs to the caller, until `answered`.
class Waiter {
 public:
  virtual ~Waiter() = default;
  virtual std::string_view key() const = 0;
  virtual void answered(const Answer& answer) noexcept = 0;

 private:
  friend class Origin;
  Waiter* next_waiter_ = nullptr;
};

struct OriginStats {
  uint64_t fetches = 0;
  uint64_t refreshes = 0;  // of these, of what was served meanwhile
  uint64_t joined = 0;     // lookups that waited for another's fetch
  uint64_t fetches_failed = 0;
  uint64_t fetches_timed_out = 0;  // of these
  uint64_t error_replies = 0;      // of these
  uint64_t injected_failures = 0;
  uint64_t injected_delays = 0;
  uint64_t refused = 0;  // lookups: no connection, the breaker, or a bound
  uint64_t served_on_error = 0;
  uint64_t invalidations = 0;  // keys, by Redis
  uint64_t flushes = 0;        // by Redis, or for a lost connection
};

// Faults for tests, set by the administration only. They end by themselves.
struct InjectedFaults {
  uint32_t fail_permille = 0;   // of fetches, that fail without being sent
  uint32_t delay_permille = 0;  // of fetches, that are sent later
  Nanos delay = 0;              // by that, or up to their deadline
  Nanos until = 0;
  bool active(Nanos now) const { return now < until; }
};

class Origin final : public UpstreamListener {
 public:
  // Of a cluster's keys.
  static constexpr Nanos absence_max = seconds(1);
  // Longer keys are asked for, and not remembered: a longer word of a write can't be one that is.
  static constexpr size_t key_bytes_max = 64u << 10;

  Origin(const Options& options, unsigned core, unsigned cores);
  ~Origin() override;

  // On this core, once its reactor runs. "": no AUTH; null: no TLS.
  void open(const std::string& password, const tls::Context* tls = nullptr);
  Task<void> close();

  // From memory, without waiting: true and the answer. It is valid until the next call.
  bool try_answer(std::string_view key, Answer& answer);
  // Keys of lookups to come, of this core: lets their cache misses begin.
  void expect(std::span<const std::string_view> keys) const noexcept;
  // After try_answer has said no: answers now or later, once.
  void ask(Waiter& waiter) noexcept;
  // A client of ours is about to change the key, or has.
  void invalidate(std::string_view key) noexcept;
  void invalidate_all() noexcept;

  // Whether lookups that miss can be answered at the moment.
  bool is_up() const { return upstream_.is_up(); }
  bool is_coherent() const { return upstream_.is_coherent(); }

  const Cache& cache() const { return cache_; }
  Upstream& upstream() { return upstream_; }
  const Upstream& upstream() const { return upstream_; }
  const HotKeys& hot_keys() const { return hot_keys_; }
  const OriginStats& stats() const { return stats_; }
  InjectedFaults faults;

  // --- UpstreamListener -------------------------------------------------------------------------
  void connected(UpstreamNode& node, bool tracking) noexcept override;
  void pushed(UpstreamNode& node, const resp::Reply& push) noexcept override;
  void lost(UpstreamNode& node) noexcept override;
  void slots_changed(const std::vector<uint16_t>& slots) noexcept override;

 private:
  struct Flight;
  struct SweepTimer : Timer {
    explicit SweepTimer(Origin& of);
    Origin& origin;
  };

  static void on_reply(resp::ClientCommand& self, uint32_t index,
                       const resp::Reply& reply) noexcept;
  static void on_done(resp::ClientCommand& self) noexcept;
  // Null if none can be begun now; then `reason` says why.
  Flight* begin_flight(std::string_view key, uint64_t hash, std::string_view& reason);
  // False, with `reason`: it is not under way.
  bool send(Flight& flight, UpstreamNode& node, std::string_view& reason);
  // Whether it goes on elsewhere.
  bool redirect(Flight& flight);
  void send_again(Flight& flight);
  void fail_flight(Flight& flight, std::string_view reason) noexcept;
  bool strikes(uint32_t permille) const;
  void delay(Flight& flight);
  void send_delayed(Flight& flight) noexcept;
  void note_get(Flight& flight, const resp::Reply& reply);
  void land(Flight& flight);
  void end_flight(Flight* flight) noexcept;
  void detach(Flight& flight) noexcept;
  void detach_all() noexcept;
  void drop(std::string_view key, uint64_t hash) noexcept;
  uint64_t writes_of(uint64_t hash) const {
    return writes_of_all_ + writes_[hash % writes_.size()];
  }
  // What came from the node may have changed.
  void forget(UpstreamNode& node, bool keep_for_errors) noexcept;
  void answer_failure(Waiter& waiter, uint64_t hash, std::string_view reason,
                      std::string_view error = {}) noexcept;
  void sweep() noexcept;
  void watch_expiry() noexcept;

  const Options& options_;
  Policies policies_;
  Cache cache_;
  HotKeys hot_keys_;
  // Counting a key costs as much as answering it: after so many of an interval, only some are.
  static constexpr uint32_t hot_keys_exact = 10'000;
  static constexpr uint32_t hot_keys_sample = 8;
  uint32_t hot_keys_looked_at_ = 0;  // in this interval
  uint32_t hot_keys_skip_ = 0;
  void note_lookup(std::string_view key, uint64_t hash);
  std::unordered_map<std::string_view, Flight*> flights_;  // that may be joined, by their own key
  size_t flights_count_ = 0;                               // these and the others
  size_t flights_max_;
  std::array<uint32_t, 4096> writes_{};  // by our clients; keys share them, as epochs
  uint64_t writes_of_all_ = 0;
  std::map<uint64_t, Flight*> delayed_;  // by an injected fault, in the order of their beginnings
  uint64_t delays_ = 0;
  Nanos aged_at_ = 0;
  SweepTimer sweep_timer_{*this};
  OriginStats stats_;
  Upstream upstream_;
};

}  // namespace gyre::proxy
