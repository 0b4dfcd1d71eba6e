#include "proxy/origin.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/assert.hpp"
#include "base/printable.hpp"
#include "proxy/test_faults.hpp"

namespace gyre::proxy {

namespace {

constexpr Nanos sweep_interval = milliseconds(50);
constexpr Nanos sweep_interval_busy = milliseconds(1);  // more was due than was looked at
constexpr size_t sweep_entries_max = 512;
constexpr Nanos hot_keys_age_interval = seconds(10);

// Of one value for all who wait for it, each of whom gets a copy.
constexpr size_t copies_bytes_max = 128u << 20;

constexpr std::string_view no_connection = "Redis can't be reached";
constexpr std::string_view circuit_open = "Redis does not answer; it is asked again in a while";
constexpr std::string_view too_many = "too many lookups are under way; try again";
constexpr std::string_view too_late = "Redis did not answer in time";
constexpr std::string_view stopping = "shutting down";
constexpr std::string_view connection_lost = "the connection to Redis was lost";
constexpr std::string_view too_long = "the value is longer than --max-value allows";
constexpr std::string_view injected = "a fault was injected";
constexpr std::string_view no_owner = "no node of the cluster is known to have this key's slot";
constexpr std::string_view astray = "the cluster's nodes did not agree on who has this key's slot";

CacheOptions cache_options(const Options& options, unsigned cores) {
  return {.bytes_max = std::max<size_t>(options.cache_bytes_max / cores, 64u << 10),
          .keys_max = std::max<size_t>(options.keys_max / cores, 1),
          .eviction = options.eviction,
          .hash_seed = Reactor::current().random(),
          .groups = options.redis_cluster.empty() ? 0 : resp::cluster_slots};
}

resp::ClientOptions client_options(const Options& options, unsigned core) {
  resp::ClientOptions client;
  client.user = options.redis_user;
  client.name = fmt::format("gyre-proxy-{}", core);
  client.database = options.redis_database;
  client.tls_name = options.redis_server_name;
  client.tracking = options.tracking;
  client.kept_bytes_max = options.value_bytes_max + (64u << 10);
  client.limits.reply_bytes_max = std::max(client.kept_bytes_max, client.limits.reply_bytes_max);
  client.too_long_reply = fmt::format("-ERR gyre proxy: {}\r\n", too_long);
  return client;
}

// What says nothing about Redis' health: the key holds something else, or isn't ours to read.
bool is_about_the_key(std::string_view error) {
  return error.starts_with("WRONGTYPE") || error.starts_with("NOPERM");
}

}  // namespace

struct Origin::Flight : resp::ClientCommand, TopologyWaiter {
  struct DelayTimer : Timer {
    explicit DelayTimer(Flight& of)
        : Timer([](Timer& self) noexcept {
            Flight& flight = static_cast<DelayTimer&>(self).flight;
            flight.origin.send_delayed(flight);
          }),
          flight(of) {}
    Flight& flight;
  };
  explicit Flight(Origin& of) : origin(of) {}

  Origin& origin;
  UpstreamNode* node = nullptr;  // that is or was asked
  uint16_t slot = 0;
  unsigned hops = 0;
  bool is_asking = false;    // a node that does not have the slot yet
  resp::NodeAddress target;  // to go to when the topology names it
  std::string key;
  uint64_t hash = 0;
  uint64_t epoch = 0;   // for a reply that is tracked: of when it came
  uint64_t writes = 0;  // of when it was begun
  std::string encoded;
  bool asks_tracking = false;
  bool tracked = false;
  bool joinable = true;
  Waiter* first = nullptr;
  Waiter* last = nullptr;
  size_t waiters = 0;

  enum class Got : uint8_t { nothing, value, absent, error };
  Got got = Got::nothing;
  bool about_key = false;  // the error
  std::string value;       // or the error's text, for people
  std::string error;       // as Redis said it
  int64_t ttl_ms = 0;      // as PTTL says it: -1 none, -2 no such key
  uint64_t delay_number = 0;
  DelayTimer delay_timer{*this};

  void add(Waiter& waiter) {
    waiter.next_waiter_ = nullptr;
    (last != nullptr ? last->next_waiter_ : first) = &waiter;
    last = &waiter;
    ++waiters;
  }
};

Origin::SweepTimer::SweepTimer(Origin& of)
    : Timer([](Timer& self) noexcept { static_cast<SweepTimer&>(self).origin.sweep(); }),
      origin(of) {}

Origin::Origin(const Options& options, unsigned core, unsigned cores)
    : options_(options),
      policies_(options.others, options.policies),
      cache_(cache_options(options, cores)),
      flights_max_(std::max<size_t>(options.in_flight_max / cores, 1)),
      upstream_(options, client_options(options, core), *this) {}

Origin::~Origin() {
  GYRE_ASSERT(flights_count_ == 0);
}

void Origin::open(const std::string& password, const tls::Context* tls) {
  upstream_.open(password, tls);
}

Task<void> Origin::close() {
  upstream_.close_soon();
  while (!delayed_.empty()) {
    Flight* const flight = delayed_.begin()->second;
    delayed_.erase(delayed_.begin());
    Reactor::current().disarm(flight->delay_timer);
    flight->outcome = Errc::cancelled;
    end_flight(flight);
  }
  co_await upstream_.close();
  Reactor::current().disarm(sweep_timer_);
}

// --- lookups ------------------------------------------------------------------------------------

bool Origin::try_answer(std::string_view key, Answer& answer) {
  const Nanos now = Reactor::current().now();
  const uint64_t hash = cache_.hash_of(key);
  note_lookup(key, hash);
  const Found found = cache_.lookup(key, hash, now);
  if (found.freshness != Freshness::fresh && found.freshness != Freshness::revalidate) return false;
  answer.status = found.negative ? Answer::Status::absent : Answer::Status::found;
  answer.value = found.value;
  answer.source = Answer::Source::hit;
  if (found.freshness == Freshness::fresh) return true;
  answer.source = Answer::Source::stale;
  if (!flights_.contains(key)) {
    std::string_view reason;
    if (begin_flight(key, hash, reason) != nullptr) ++stats_.refreshes;
  }
  return true;
}

// At random, since lookups may come at a beat.
void Origin::note_lookup(std::string_view key, uint64_t hash) {
  if (hot_keys_looked_at_ < hot_keys_exact) {
    ++hot_keys_looked_at_;
    hot_keys_.add(key, hash);
  } else if (hot_keys_skip_ != 0) {
    --hot_keys_skip_;
  } else {
    hot_keys_.add(key, hash, hot_keys_sample);
    hot_keys_skip_ = static_cast<uint32_t>(Reactor::current().random() % (2 * hot_keys_sample - 1));
  }
}

void Origin::expect(std::span<const std::string_view> keys) const noexcept {
  for (const std::string_view key : keys) cache_.expect(cache_.hash_of(key));
  for (const std::string_view key : keys) cache_.at_hand(cache_.hash_of(key));
}

void Origin::ask(Waiter& waiter) noexcept {
  const std::string_view key = waiter.key();
  const uint64_t hash = cache_.hash_of(key);
  if (const auto under_way = flights_.find(key); under_way != flights_.end()) {
    Flight& flight = *under_way->second;
    if (flight.waiters >= options_.waiters_max) {
      ++stats_.refused;
      answer_failure(waiter, hash, too_many);
      return;
    }
    ++stats_.joined;
    flight.add(waiter);
    return;
  }
  std::string_view reason;
  Flight* const flight = begin_flight(key, hash, reason);
  if (flight == nullptr) {
    ++stats_.refused;
    answer_failure(waiter, hash, reason);
    return;
  }
  flight->add(waiter);
}

// What may be served when Redis does not answer, or that it doesn't.
void Origin::answer_failure(Waiter& waiter, uint64_t hash, std::string_view reason,
                            std::string_view error) noexcept {
  const Found found = cache_.peek(waiter.key(), hash, Reactor::current().now());
  Answer answer;
  if (found.freshness == Freshness::absent) {
    answer.reason = reason;
    answer.error = error;
  } else {
    ++stats_.served_on_error;
    answer.status = found.negative ? Answer::Status::absent : Answer::Status::found;
    answer.source = Answer::Source::on_error;
    answer.value = found.value;
  }
  waiter.answered(answer);
}

Origin::Flight* Origin::begin_flight(std::string_view key, uint64_t hash,
                                     std::string_view& reason) {
  Reactor& reactor = Reactor::current();
  if (flights_count_ >= flights_max_) {
    reason = too_many;
    return nullptr;
  }
  if (strikes(faults.fail_permille)) {
    ++stats_.injected_failures;
    reason = injected;
    return nullptr;
  }
  auto flight = std::make_unique<Flight>(*this);
  flight->slot = upstream_.slot_of(key);
  UpstreamNode* const node = upstream_.node_of(flight->slot);
  if (node == nullptr) {
    upstream_.refresh_soon();
    reason = no_owner;
    return nullptr;
  }
  flight->key.assign(key);
  flight->hash = hash;
  flight->epoch = cache_.epoch(hash);
  flight->writes = writes_of(hash);
  flight->deadline = reactor.after(milliseconds(static_cast<int64_t>(options_.redis_timeout_ms)));
  flight->reply = &Origin::on_reply;
  flight->done = &Origin::on_done;
  if (strikes(faults.delay_permille)) {
    delay(*flight);
  } else if (!send(*flight, *node, reason)) {
    return nullptr;
  }
  ++stats_.fetches;
  ++flights_count_;
  Flight* const begun = flight.release();
  flights_.emplace(begun->key, begun);
  return begun;
}

bool Origin::send(Flight& flight, UpstreamNode& node, std::string_view& reason) {
  if (!node.breaker.admit(Reactor::current().now())) {
    reason = circuit_open;
    return false;
  }
  flight.node = &node;
  flight.got = Flight::Got::nothing;
  flight.tracked = false;
  // Whether the server can is known once there is a connection.
  flight.asks_tracking =
      !flight.is_asking && options_.tracking &&
      (node.client.state() != resp::ClientState::ready || node.client.tracking());
  flight.encoded.clear();
  if (flight.is_asking) {
    resp::append_command(flight.encoded, {"ASKING"});
  } else if (flight.asks_tracking) {
    flight.encoded = "*3\r\n$6\r\nCLIENT\r\n$7\r\nCACHING\r\n$3\r\nYES\r\n";
  }
  resp::append_command(flight.encoded, {"GET", flight.key});
  if (!flight.is_asking) resp::append_command(flight.encoded, {"PTTL", flight.key});
  flight.bytes = flight.encoded;
  flight.replies = flight.asks_tracking ? 3 : 2;
  if (node.client.start(flight)) return true;
  node.breaker.forgotten();  // that is known without asking
  switch (flight.outcome) {
    case Errc::overloaded:
      reason = too_many;
      break;
    case Errc::cancelled:
      reason = stopping;
      break;
    case Errc::timed_out:
      reason = too_late;
      break;
    default:
      reason = no_connection;
      upstream_.refresh_soon();
  }
  return false;
}

bool Origin::strikes(uint32_t permille) const {
  if (permille == 0) return false;
  Reactor& reactor = Reactor::current();
  return faults.active(reactor.now()) && reactor.random() % 1000 < permille;
}

void Origin::delay(Flight& flight) {
  Reactor& reactor = Reactor::current();
  ++stats_.injected_delays;
  flight.delay_number = delays_++;
  delayed_.emplace(flight.delay_number, &flight);
  reactor.arm(flight.delay_timer, std::min(reactor.after(faults.delay), flight.deadline));
}

void Origin::send_delayed(Flight& flight) noexcept {
  delayed_.erase(flight.delay_number);
  std::string_view reason = no_owner;
  UpstreamNode* const node = upstream_.node_of(flight.slot);
  if (node != nullptr && send(flight, *node, reason)) return;
  if (flight.outcome != Errc::ok) {
    end_flight(&flight);
  } else {
    fail_flight(flight, reason);
  }
}

void Origin::on_reply(resp::ClientCommand& self, uint32_t index,
                      const resp::Reply& reply) noexcept {
  auto& flight = static_cast<Flight&>(self);
  switch (index + (flight.asks_tracking || flight.is_asking ? 0 : 1)) {
    case 0:
      flight.tracked = flight.asks_tracking && !reply.is_error();
      break;
    case 1:
      flight.origin.note_get(flight, reply);
      break;
    default:
      flight.ttl_ms = reply.integer().value_or(-2);
  }
}

void Origin::note_get(Flight& flight, const resp::Reply& reply) {
  switch (reply.type()) {
    case resp::ReplyType::bulk:
      flight.got = Flight::Got::value;
      flight.value.assign(reply.text());
      break;
    case resp::ReplyType::null:
      flight.got = Flight::Got::absent;
      break;
    case resp::ReplyType::error:
      flight.got = Flight::Got::error;
      flight.about_key = flight.too_long || is_about_the_key(reply.text());
      flight.error.assign(reply.text());
      flight.value = flight.too_long ? std::string(too_long)
                                     : "Redis answered " + printable(reply.text(), 200);
      break;
    default:
      flight.got = Flight::Got::error;
      flight.value = "Redis answered GET with something that is no value";
      return;
  }
  // Every change from here on is told, behind this reply.
  if (flight.tracked) flight.epoch = cache_.epoch(flight.hash);
}

void Origin::on_done(resp::ClientCommand& self) noexcept {
  auto& flight = static_cast<Flight&>(self);
  if (!flight.origin.redirect(flight)) flight.origin.end_flight(&flight);
}

// --- redirects ----------------------------------------------------------------------------------

bool Origin::redirect(Flight& flight) {
  if (!upstream_.is_cluster() || flight.outcome != Errc::ok || flight.got != Flight::Got::error) {
    return false;
  }
  auto to = resp::parse_redirect(flight.error);
  if (!to) {
    if (flight.error.starts_with("CLUSTERDOWN")) upstream_.refresh_soon();
    return false;
  }
  flight.node->breaker.succeeded();
  upstream_.note(*to);
  if (to->node.host.empty()) to->node.host = Upstream::address_of(*flight.node).host;
  flight.is_asking = to->ask;
  flight.target = std::move(to->node);
  if (!flight.is_asking) upstream_.refresh_soon(flight.target);
  send_again(flight);
  return true;
}

// To its target, now or when the topology was read. May end it.
void Origin::send_again(Flight& flight) {
  std::string_view reason = astray;
  if (++flight.hops > Upstream::hops_max) {
    upstream_.refresh_soon();
  } else if (UpstreamNode* const node = upstream_.find(flight.target); node != nullptr) {
    if (send(flight, *node, reason)) return;
  } else if (!upstream_.is_closing() && Reactor::current().now() < flight.deadline) {
    flight.ended = [](TopologyWaiter& self) noexcept {
      auto& waiting = static_cast<Flight&>(self);
      waiting.origin.send_again(waiting);
    };
    upstream_.wait_for_topology(flight);
    return;
  } else {
    reason = upstream_.is_closing() ? stopping : too_late;
  }
  fail_flight(flight, reason);
}

// Without having been sent, the last time.
void Origin::fail_flight(Flight& flight, std::string_view reason) noexcept {
  flight.got = Flight::Got::error;
  flight.outcome = Errc::ok;
  flight.about_key = false;
  flight.value.assign(reason);
  flight.error.clear();
  flight.node = nullptr;
  end_flight(&flight);
}

void Origin::detach(Flight& flight) noexcept {
  if (std::exchange(flight.joinable, false)) flights_.erase(flight.key);
}

void Origin::detach_all() noexcept {
  for (const auto& [key, flight] : flights_) flight->joinable = false;
  flights_.clear();
}

void Origin::land(Flight& flight) {
  const Nanos now = Reactor::current().now();
  const bool negative = flight.got == Flight::Got::absent;
  if (!negative && flight.ttl_ms == -2) return;  // gone meanwhile
  if (flight.key.size() > key_bytes_max) return;
  if (flight.writes != writes_of(flight.hash) && !proxy_test_faults.overtaken_fill_lands) return;
  // Somebody waits for a later fetch: who asks after him must not be answered with less.
  if (flights_.contains(flight.key) && !proxy_test_faults.old_fill_beside_fetch) return;
  if (flight.is_asking || upstream_.node_of(flight.slot) != flight.node) return;
  if (proxy_test_faults.late_fill_lands) flight.epoch = cache_.epoch(flight.hash);
  const Policy& policy = policies_.of(flight.key);
  Lifetime lifetime = lifetime_of(policy, negative, flight.ttl_ms, flight.sent_at, now,
                                  Reactor::current().random());
  if (negative && upstream_.is_cluster()) {
    lifetime.fresh_until = std::min(lifetime.fresh_until, flight.sent_at + absence_max);
    lifetime.revalidate_until = lifetime.fresh_until;
  }
  static_cast<void>(cache_.insert(flight.key, flight.hash, flight.epoch, flight.value, negative,
                                  lifetime, now, flight.slot));
  watch_expiry();
}

void Origin::end_flight(Flight* ended) noexcept {
  const std::unique_ptr<Flight> flight(ended);
  const Nanos now = Reactor::current().now();
  detach(*flight);
  --flights_count_;
  CircuitBreaker not_asked;
  CircuitBreaker& breaker = flight->node != nullptr ? flight->node->breaker : not_asked;
  std::string_view reason;
  bool failed = true;
  if (flight->outcome == Errc::ok && flight->got != Flight::Got::error) {
    failed = false;
    breaker.succeeded();
    land(*flight);
  } else if (flight->outcome == Errc::ok) {
    stats_.error_replies += flight->node != nullptr;
    reason = flight->value;
    if (flight->about_key) {
      breaker.succeeded();
    } else {
      breaker.failed(now);
    }
  } else if (flight->outcome == Errc::cancelled) {
    breaker.forgotten();
    reason = upstream_.is_closing() ? stopping : connection_lost;  // or its node has left
  } else {
    breaker.failed(now);
    reason = flight->outcome == Errc::timed_out ? too_late : connection_lost;
    stats_.fetches_timed_out += flight->outcome == Errc::timed_out;
  }
  stats_.fetches_failed += failed;
  Answer answer;
  answer.source = Answer::Source::fetched;
  answer.status =
      flight->got == Flight::Got::absent ? Answer::Status::absent : Answer::Status::found;
  answer.value = flight->value;
  size_t copied_bytes = 0;
  for (Waiter* at = flight->first; at != nullptr;) {
    Waiter& waiter = *at;
    at = at->next_waiter_;
    if (!failed && copied_bytes != 0 && copied_bytes + flight->value.size() > copies_bytes_max) {
      Answer refused;
      refused.reason = too_many;
      waiter.answered(refused);
      continue;
    }
    copied_bytes += flight->value.size();
    if (failed) {
      answer_failure(waiter, flight->hash, reason, flight->error);
    } else {
      waiter.answered(answer);
    }
  }
}

// --- invalidation -------------------------------------------------------------------------------

void Origin::invalidate(std::string_view key) noexcept {
  const uint64_t hash = cache_.hash_of(key);
  ++writes_[hash % writes_.size()];
  drop(key, hash);
}

void Origin::drop(std::string_view key, uint64_t hash) noexcept {
  static_cast<void>(cache_.invalidate(key, hash));
  if (const auto under_way = flights_.find(key); under_way != flights_.end()) {
    detach(*under_way->second);
  }
}

void Origin::invalidate_all() noexcept {
  ++stats_.flushes;
  ++writes_of_all_;
  cache_.invalidate_all(false);
  detach_all();
}

void Origin::forget(UpstreamNode& node, bool keep_for_errors) noexcept {
  if (!upstream_.is_cluster()) {
    cache_.invalidate_all(keep_for_errors);
    detach_all();
    return;
  }
  cache_.invalidate_groups(upstream_.slots_of(node), keep_for_errors);
  std::erase_if(flights_, [&](const auto& entry) {
    Flight& flight = *entry.second;
    const bool touched = flight.node == &node || upstream_.node_of(flight.slot) == &node;
    if (touched) flight.joinable = false;
    return touched;
  });
}

void Origin::connected(UpstreamNode& node, bool tracking) noexcept {
  // What came without tracking is not known to be true.
  if (tracking && !node.tracked_before) forget(node, true);
}

void Origin::pushed(UpstreamNode& node, const resp::Reply& push) noexcept {
  if (push.size() != 2 || push[0].text() != "invalidate") return;
  const resp::Reply keys = push[1];
  if (keys.is_null()) {  // FLUSHALL, FLUSHDB
    ++stats_.flushes;
    forget(node, false);
    return;
  }
  for (const resp::Reply key : keys) {
    ++stats_.invalidations;
    if (proxy_test_faults.drop_invalidation) continue;
    drop(key.text(), cache_.hash_of(key.text()));
  }
}

void Origin::lost(UpstreamNode& node) noexcept {
  if (!node.tracked_before || proxy_test_faults.keep_after_loss) return;
  ++stats_.flushes;
  forget(node, true);
}

void Origin::slots_changed(const std::vector<uint16_t>& slots) noexcept {
  ++stats_.flushes;
  cache_.invalidate_groups(slots, true);
  std::erase_if(flights_, [&](const auto& entry) {
    Flight& flight = *entry.second;
    const bool touched = std::ranges::binary_search(slots, flight.slot);
    if (touched) flight.joinable = false;
    return touched;
  });
}

// --- expiry -------------------------------------------------------------------------------------

void Origin::watch_expiry() noexcept {
  Reactor& reactor = Reactor::current();
  if (!sweep_timer_.armed()) reactor.arm(sweep_timer_, reactor.after(sweep_interval));
}

void Origin::sweep() noexcept {
  Reactor& reactor = Reactor::current();
  const bool more = cache_.expire(reactor.now(), sweep_entries_max);
  if (reactor.now() - aged_at_ > hot_keys_age_interval) {
    aged_at_ = reactor.now();
    hot_keys_.age();
    hot_keys_looked_at_ = 0;
  }
  if (cache_.keys() == 0) return;
  reactor.arm(sweep_timer_, reactor.after(more ? sweep_interval_busy : sweep_interval));
}

}  // namespace gyre::proxy
