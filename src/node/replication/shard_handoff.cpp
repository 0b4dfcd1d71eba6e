#include "node/replication/shard_handoff.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <span>
#include <utility>

#include <gyre/call.hpp>
#include <gyre/sync.hpp>
#include <gyre/time.hpp>

#include "base/hash.hpp"
#include "node/core.hpp"
#include "node/memory_wait.hpp"
#include "node/node.hpp"
#include "node/replication/coordinator.hpp"
#include "node/replication/replica_access.hpp"
#include "node/replication/test_faults.hpp"
#include "store/scan.hpp"

namespace gyre {

using cluster::ConfirmedWrite;
using cluster::KeyVersion;
using cluster::MissedBy;
using cluster::NodeIndex;
using cluster::Notices;
using cluster::OwedSlots;
using cluster::PeerNumber;
using cluster::PeerSet;
using cluster::Taken;
using cluster::WalkPage;

namespace {

constexpr Nanos reach_interval = milliseconds(250);
constexpr Nanos replay_patience = seconds(5);                // of one request
constexpr Nanos replay_patience_per_byte = microseconds(1);  // 1 MB/s
constexpr Nanos memory_patience = milliseconds(250);
constexpr Nanos doubt_retry_interval = seconds(1);
// Twice what a write or repair may take on its way: the rest is for what the receiver does with it.
constexpr uint64_t purge_age_min_us = 60'000'000;
constexpr Nanos settled_for_min = seconds(60);
static_assert(purge_age_min_us >= 2 * write_age_max_us && settled_for_min >= 2 * repair_age_max);
constexpr size_t page_entries_max = 256;
constexpr size_t page_key_bytes_max = 64u << 10;
constexpr size_t page_looked_at_max = 8192;

}  // namespace

// --- replay to one peer -------------------------------------------------------------------------

namespace {

// A read of this core's own shard, for a coroutine.
struct OwnGet final : ReplicaGet {
  explicit OwnGet(Core& core)
      : ReplicaGet(core,
                   [](ReplicaAccess& self) noexcept { static_cast<OwnGet&>(self).ended.set(); }) {}
  Event ended;
};

// A value on its way to a peer, with the transit memory it takes, for as long as the replay or the
// link's socket needs it.
struct SentValue {
  SentValue(Core& of, std::string_view of_key) : core(of), key(of_key) {}
  ~SentValue() {
    if (transit_bytes != 0) core.transit_memory().release(transit_bytes);
  }
  static void retain(void* self) noexcept { ++static_cast<SentValue*>(self)->users; }
  static void release(void* self) noexcept {
    auto* value = static_cast<SentValue*>(self);
    if (--value->users == 0) delete value;
  }

  Task<Result<void>> read();
  Task<Result<void>> reserve(uint64_t bytes);

  Core& core;
  const std::string key;
  std::optional<OwnGet> get;
  uint64_t transit_bytes = 0;
  unsigned users = 1;
};

Task<Result<void>> SentValue::reserve(uint64_t bytes) {
  const uint64_t wanted = std::min(bytes, core.transit_memory().capacity());
  core.transit_awaited();
  if (!co_await with_timeout<void>(memory_patience, acquire(core.transit_memory(), wanted))) {
    co_return fail(Errc::overloaded, "no memory for a value to be replayed");
  }
  transit_bytes = wanted;
  co_return Result<void>{};
}

// Short values first come without memory being reserved, as in other answers.
Task<Result<void>> SentValue::read() {
  for (uint64_t bytes_max = Memtable::large_value_bytes_min;;) {
    get.emplace(core);
    get->start(key, static_cast<uint32_t>(bytes_max));
    co_await gyre::detail::Uninterrupted{get->ended};
    const cluster::GetReply& found = get->reply();
    if (found.state == cluster::ReadState::failed) co_return fail(Errc::io, "a read failed");
    if (found.has_value()) co_return Result<void>{};
    // It may have been replaced by a longer one meanwhile.
    if (transit_bytes != 0) co_return fail(Errc::busy, "the value changes");
    bytes_max = found.value_bytes;
    if (Result<void> reserved = co_await reserve(bytes_max); !reserved) co_return reserved;
  }
}

}  // namespace

class PeerReplay final : public cluster::ReplayTarget {
 public:
  PeerReplay(Core& core, uint32_t shard, NodeIndex node, cluster::MissedLog& log, PeerNumber number)
      : core_(core), shard_(shard), node_(node), replay_(log, number, *this) {}

  Task<void> run() { return replay_.run(); }
  const cluster::Replay& replay() const { return replay_; }

  Task<bool> reachable() override;
  Task<Result<WalkPage>> scan(const OwedSlots& slots, std::string after) override;
  Task<Result<std::vector<bool>>> offer(const std::vector<KeyVersion>& entries) override;
  Task<Result<uint64_t>> send(const std::string& key) override;

 private:
  peer::Link& link() const { return core_.coordinator().link(node_); }
  unsigned copies_of(const Version& version) const;
  bool is_for_both(std::string_view key, const Version& version) const;
  // The reply.
  Task<Result<std::string>> ask(cluster::Verb verb, std::span<const std::string_view> parts,
                                SentValue* value, Nanos patience);

  Core& core_;
  uint32_t shard_;
  NodeIndex node_;
  cluster::Replay replay_;
};

// A lone node's writes don't say.
unsigned PeerReplay::copies_of(const Version& version) const {
  return version.copies() != 0 ? version.copies() : core_.coordinator().default_replicas();
}

// Whether this node and the peer are among the replicas that it was written for. Others must not be
// given a copy: no tombstone would reach it, and once that is purged they would bring the value back.
bool PeerReplay::is_for_both(std::string_view key, const Version& version) const {
  if (node_test_faults.walk_gives_to_all) return true;
  const Coordinator& coordinator = core_.coordinator();
  const std::span<const NodeIndex> replicas = coordinator.replicas(key, copies_of(version));
  return std::ranges::find(replicas, node_) != replicas.end() &&
         std::ranges::find(replicas, coordinator.self()) != replicas.end();
}

Task<bool> PeerReplay::reachable() {
  while (link().state() != peer::LinkState::connected && !co_await link().try_once()) {
    if (!co_await sleep_for(reach_interval)) co_return false;
  }
  co_return true;
}

Task<Result<WalkPage>> PeerReplay::scan(const OwedSlots& slots, std::string after) {
  ScanRange range;
  if (!after.empty()) range.start = after + '\0';
  Result<std::unique_ptr<Scan>> opened = co_await core_.shard(shard_).scan(
      std::move(range), Reactor::current().wall_ms(), slots.since_min());
  if (!opened) co_return fail(opened.error());
  Scan& scan = **opened;
  scan.include_dead();
  scan.keys_only();
  WalkPage page;
  page.next = std::move(after);
  size_t key_bytes = 0;
  for (size_t looked_at = 0; looked_at < page_looked_at_max;) {
    const Scan::Step step = scan.try_next();
    if (step == Scan::Step::end) {
      page.at_end = true;
      break;
    }
    if (step == Scan::Step::wait) {
      if (Result<void> loaded = co_await scan.load(); !loaded) co_return fail(loaded.error());
      continue;
    }
    const Entry& entry = scan.entry();
    ++looked_at;
    page.next.assign(entry.key);
    if (!slots.covers(cluster::slot_of(entry.key), entry.version.hlc)) continue;
    if (!is_for_both(entry.key, entry.version)) continue;
    page.entries.push_back({std::string(entry.key), entry.version});
    key_bytes += entry.key.size();
    if (page.entries.size() >= page_entries_max || key_bytes >= page_key_bytes_max) break;
  }
  co_return page;
}

Task<Result<std::string>> PeerReplay::ask(cluster::Verb verb,
                                          std::span<const std::string_view> parts, SentValue* value,
                                          Nanos patience) {
  peer::AskedCall asked(link());
  asked.verb = static_cast<uint8_t>(verb);
  asked.idempotent = true;
  asked.deadline = Reactor::current().now() + patience;
  asked.parts = parts;
  if (value != nullptr) {
    asked.owner = value;
    asked.retain = SentValue::retain;
    asked.release = SentValue::release;
  }
  const peer::Status status = co_await asked.ask();
  if (status == peer::Status::ok) co_return std::move(asked.text);
  co_return fail(status == peer::Status::cancelled ? Errc::cancelled : Errc::closed,
                 std::string(peer::to_string(status)));
}

Task<Result<std::vector<bool>>> PeerReplay::offer(const std::vector<KeyVersion>& entries) {
  const std::string payload = cluster::encode_offer(entries);
  const std::string_view parts[] = {payload};
  const Result<std::string> reply =
      co_await ask(cluster::Verb::offer, parts, nullptr, replay_patience);
  if (!reply) co_return fail(reply.error());
  std::vector<bool> lacks;
  if (!cluster::decode_offer_reply(*reply, lacks)) {
    co_return fail(Errc::corrupt, "the answer to an offer");
  }
  co_return lacks;
}

Task<Result<uint64_t>> PeerReplay::send(const std::string& key) {
  const Nanos read_at = Reactor::current().now();  // or later
  const std::unique_ptr<SentValue, void (*)(SentValue*)> value(
      new SentValue(core_, key), [](SentValue* of) { SentValue::release(of); });
  if (Result<void> read = co_await value->read(); !read) co_return fail(read.error());
  const cluster::GetReply& found = value->get->reply();
  if (found.state == cluster::ReadState::never) co_return fail(Errc::not_found);
  // What the peer has missed was replaced by what is for fewer.
  if (!is_for_both(key, found.version)) co_return fail(Errc::not_found);
  const bool live = found.state == cluster::ReadState::live;
  const cluster::PutRequest put{.tombstone = !live,
                                .repair = true,
                                .from = static_cast<uint8_t>(copies_of(found.version)),
                                .coordinator = core_.coordinator().self(),
                                .version = found.version,
                                .expire_at_ms = live ? found.expire_at_ms : 0,
                                .as_of = core_.coordinator().repair_as_of(node_, read_at),
                                .key = value->key,
                                .value = found.value};
  char head[cluster::PutRequest::head_bytes];
  put.encode_head(head);
  const std::string_view parts[] = {{head, sizeof head}, put.key, put.value};
  const Result<std::string> text = co_await ask(
      cluster::Verb::put, parts, value.get(),
      std::min(replay_patience + static_cast<Nanos>(put.value.size()) * replay_patience_per_byte,
               repair_age_max));
  if (!text) co_return fail(text.error());
  cluster::PutReply reply;
  if (!cluster::PutReply::decode(*text, reply)) {
    co_return fail(Errc::corrupt, "the answer to a write");
  }
  if (reply.outcome != cluster::WriteOutcome::stored &&
      reply.outcome != cluster::WriteOutcome::superseded) {
    co_return fail(Errc::overloaded, "the peer takes no writes");
  }
  co_return sizeof head + put.key.size() + put.value.size();
}

// --- life ---------------------------------------------------------------------------------------

ShardHandoff::ShardHandoff(Core& core, uint32_t shard)
    : core_(core), shard_(shard), settled_(settled_for_min) {}

ShardHandoff::~ShardHandoff() = default;

Task<Result<std::unique_ptr<ShardHandoff>>> ShardHandoff::open(Core& core, uint32_t shard,
                                                               bool fresh) {
  std::unique_ptr<ShardHandoff> self(new ShardHandoff(core, shard));
  cluster::HandoffOptions options;
  options.log.fresh = fresh;
  const std::string directory = DataDirectory::shard_path(
      fmt::format("{}/{}", core.node().directory().path(), directory_name), shard);
  Result<std::unique_ptr<cluster::Handoff>> opened =
      co_await cluster::Handoff::open(directory, options);
  if (!opened) co_return fail(opened.error());
  self->handoff_ = std::move(*opened);
  const cluster::MissedLog& log = self->handoff_->log();
  if (!log.damage().empty()) {
    Reactor::current().log("warn",
                           fmt::format("event=missed_log_damaged file={}/{} reason=\"{}\" "
                                       "remedy=\"none is needed: all that it may have said is "
                                       "compared with the peers again\"",
                                       directory, cluster::MissedLog::file_name, log.damage()));
  }
  if (!log.begun()) {
    Reactor::current().log("warn", fmt::format("event=missed_log_without_space file={}/{} "
                                               "advice=\"writes are taken once there is room\"",
                                               directory, cluster::MissedLog::file_name));
  }
  const Membership& membership = core.node().membership();
  for (NodeIndex node = 0; node < membership.node_count(); ++node) {
    const std::string& url = membership.topology().nodes[node].url;
    self->numbers_.push_back(node == membership.self()
                                 ? cluster::no_peer
                                 : self->handoff_->log().peer(cluster::peer_id(url)));
  }
  self->update_purge_limit();
  co_return self;
}

void ShardHandoff::begin() {
  scope_ = std::make_unique<Scope>(nullptr, "handoff");
  replays_.resize(numbers_.size());
  for (NodeIndex node = 0; node < numbers_.size(); ++node) {
    if (numbers_[node] == cluster::no_peer) continue;
    replays_[node] =
        std::make_unique<PeerReplay>(core_, shard_, node, handoff_->log(), numbers_[node]);
    scope_->spawn(replays_[node]->run());
  }
  scope_->spawn(run());
}

Task<void> ShardHandoff::run() {
  Nanos doubt_due = 0;
  while (co_await sleep_for(cluster::HandoffOptions{}.step)) {
    // Doubt that can't be resolved, since a table is damaged, must not keep anything from being owed.
    const Nanos now = Reactor::current().now();
    if (handoff_->in_doubt() && now >= doubt_due) {
      static_cast<void>(co_await handoff_->resolve_doubt(*this));
      doubt_due = now + doubt_retry_interval;
    }
    static_cast<void>(co_await handoff_->step());  // counted; the next step tries again
    update_purge_limit();
  }
}

Task<void> ShardHandoff::stop() {
  if (!scope_) co_return;
  scope_->request_stop();
  co_await scope_->join();
}

Task<Result<void>> ShardHandoff::close() {
  replays_.clear();
  return handoff_->close();
}

const cluster::Replay* ShardHandoff::replay(NodeIndex node) const {
  return node < replays_.size() && replays_[node] ? &replays_[node]->replay() : nullptr;
}

// --- as a replica -------------------------------------------------------------------------------

PeerSet ShardHandoff::others_of(uint32_t slot, unsigned from) const {
  PeerSet others;
  bool is_replica = false;
  for (const NodeIndex node : core_.node().membership().topology().table.replicas(slot, from)) {
    const PeerNumber number = numbers_[node];
    is_replica = is_replica || number == cluster::no_peer;
    if (number != cluster::no_peer && others.count < others.peers.size()) others.add(number);
  }
  return is_replica ? others : PeerSet{};
}

PeerSet ShardHandoff::others(uint32_t slot) {
  return others_of(slot, limits::cluster_replicas_max);
}

bool ShardHandoff::take(std::string_view key, Version version, unsigned from, NodeIndex coordinator,
                        Taken& taken) {
  const uint32_t slot = cluster::slot_of(key);
  const PeerSet others = others_of(slot, std::min(from, core_.node().membership().node_count()));
  if (others.count == 0) return false;
  taken = handoff_->take(
      {.version = version,
       .slot = slot,
       .coordinator = coordinator < numbers_.size() ? numbers_[coordinator] : cluster::no_peer,
       .others = others});
  if (taken != Taken::refused && !node_test_faults.purge_at_once) {
    purge_hlc_max_ = std::min(purge_hlc_max_, version.hlc - std::min<uint64_t>(version.hlc, 1));
    settled_.lower(version.hlc);
  }
  return true;
}

void ShardHandoff::missed(const MissedBy& write) {
  const uint32_t slot = cluster::slot_of(write.key);
  for (unsigned i = 0; i < write.count; ++i) {
    if (write.nodes[i] >= numbers_.size() || numbers_[write.nodes[i]] == cluster::no_peer) continue;
    handoff_->missed(numbers_[write.nodes[i]], slot, write.key, write.version);
  }
}

void ShardHandoff::coordinator_lost(NodeIndex node) {
  handoff_->coordinator_lost(numbers_[node]);
}

Task<Result<void>> ShardHandoff::owe_all(NodeIndex node) {
  for (uint32_t slot = 0; slot < cluster::slot_count; ++slot) {
    const PeerSet others = others_of(slot, limits::cluster_replicas_max);
    if (std::ranges::find(others, numbers_[node]) == others.end()) continue;
    // Nobody else may know what others missed: it was the one to record it.
    for (const PeerNumber number : others) handoff_->log().owe(number, slot, 0);
  }
  co_return co_await handoff_->commit();
}

ShardHandoff::Owed ShardHandoff::owed(NodeIndex node) const {
  const cluster::MissedLog& log = handoff_->log();
  const cluster::PeerNumber peer = numbers_[node];
  return {.writes = log.record_count(peer), .slots = log.owed_count(peer)};
}

bool ShardHandoff::owes(NodeIndex node) const {
  return handoff_->in_doubt() || handoff_->log().owes(numbers_[node]);
}

// Before a crash's doubt is resolved, what is in doubt counts as lacked.
void ShardHandoff::update_purge_limit() {
  uint64_t settled = handoff_->settled_before();
  if (const auto from = handoff_->log().in_doubt_from()) settled = std::min(settled, *from);
  // A copy of something older may still be on its way to a replica, read from another one before that
  // had the tombstone, or from a client.
  const Nanos now = Reactor::current().now();
  settled_.add(now, settled);
  if (!node_test_faults.purge_when_settled) settled = settled_.least(now);
  const uint64_t now_us = Reactor::current().wall_us();
  settled = std::min(settled, hlc_from_us(now_us - std::min(now_us, purge_age_min_us)));
  purge_hlc_max_ =
      node_test_faults.purge_at_once ? UINT64_MAX : settled - std::min<uint64_t>(settled, 1);
}

Task<Result<void>> ShardHandoff::slots_since(uint64_t hlc, OwedSlots& slots) {
  Result<std::unique_ptr<Scan>> opened =
      co_await core_.shard(shard_).scan({}, Reactor::current().wall_ms(), hlc);
  if (!opened) co_return fail(opened.error());
  Scan& scan = **opened;
  scan.include_dead();
  scan.keys_only();
  for (Scan::Step step; (step = scan.try_next()) != Scan::Step::end;) {
    if (step == Scan::Step::wait) {
      if (Result<void> loaded = co_await scan.load(); !loaded) co_return fail(loaded.error());
      continue;
    }
    const Entry& entry = scan.entry();
    if (entry.version.hlc >= hlc) slots.add(cluster::slot_of(entry.key), hlc);
  }
  co_return Result<void>{};
}

// --- what coordinators and replicas say ---------------------------------------------------------

namespace {

// On the core of the writes' shards.
Task<bool> take_here(Core& core, Notices notices) {
  Node& node = core.node();
  const auto shard_of_write = [&node](uint64_t hash) {
    return shard_of_hash(hash, node.directory().shard_count());
  };
  for (const ConfirmedWrite& write : notices.confirmed) {
    if (ShardHandoff* handoff = core.handoff(shard_of_write(write.shard_hash))) {
      handoff->confirm(write.version);
    }
  }
  std::vector<ShardHandoff*> touched;
  for (const MissedBy& write : notices.missed) {
    ShardHandoff* handoff = core.handoff(node.shard_for(write.key));
    if (handoff == nullptr) co_return false;
    handoff->missed(write);
    if (std::ranges::find(touched, handoff) == touched.end()) touched.push_back(handoff);
  }
  bool durable = true;
  for (ShardHandoff* handoff : touched)
    durable = (co_await handoff->commit()).has_value() && durable;
  if (!durable) co_return false;
  for (const MissedBy& write : notices.missed) {
    if (ShardHandoff* handoff = core.handoff(node.shard_for(write.key))) {
      handoff->confirm(write.version);
    }
  }
  co_return true;
}

// The greatest version below, so that "newer than that" is "not older".
Version just_below(const Version& version) {
  if (version.origin != 0) return {version.hlc, version.origin - 1};
  return {version.hlc - 1, UINT64_MAX};
}

struct Question {
  std::string key;
  Version version;
  size_t at = 0;  // its place in the offer
  bool lacked = false;
};

// On the core that has the keys' shards. False: not all could be read.
Task<bool> look_up(Core& core, std::vector<Question>& questions) {
  for (Question& question : questions) {
    Shard& shard = core.shard(core.node().shard_for(question.key));
    const Version below = just_below(question.version);
    Version newest;
    const ReadOutcome outcome = shard.try_find_newer(question.key, below, newest);
    if (outcome != ReadOutcome::wait) {
      question.lacked = outcome == ReadOutcome::absent;
      continue;
    }
    const Result<bool> found = co_await shard.find_newer(question.key, below, newest);
    if (!found) co_return false;
    question.lacked = !*found;
  }
  co_return true;
}

}  // namespace

Task<bool> take_notices(Core& core, Notices notices) {
  Node& node = core.node();
  if (node.cores() == 1) co_return co_await take_here(core, std::move(notices));
  const uint32_t shards = node.directory().shard_count();
  std::vector<Notices> parts(node.cores());
  for (const ConfirmedWrite& write : notices.confirmed) {
    parts[node.owner_of(shard_of_hash(write.shard_hash, shards))].confirmed.push_back(write);
  }
  for (MissedBy& write : notices.missed) {
    parts[node.owner_of(node.shard_for(write.key))].missed.push_back(std::move(write));
  }
  bool recorded = true;
  for (unsigned owner = 0; owner < parts.size(); ++owner) {
    if (parts[owner].empty()) continue;
    Notices& part = parts[owner];
    const auto take = [&node, owner, &part] {
      return take_here(node.core(owner), std::move(part));
    };
    recorded = co_await spawn_on(owner, take) && recorded;
  }
  co_return recorded;
}

Task<std::vector<bool>> lacked_of(Core& core, std::vector<KeyVersion> entries) {
  Node& node = core.node();
  std::vector<std::vector<Question>> by_core(node.cores());
  for (size_t at = 0; at < entries.size(); ++at) {
    KeyVersion& entry = entries[at];
    const unsigned owner = node.owner_of(node.shard_for(entry.key));
    by_core[owner].push_back({std::move(entry.key), entry.version, at, false});
  }
  std::vector<bool> lacks(entries.size());
  for (unsigned owner = 0; owner < by_core.size(); ++owner) {
    std::vector<Question>& questions = by_core[owner];
    if (questions.empty()) continue;
    const auto ask = [&node, owner, &questions] { return look_up(node.core(owner), questions); };
    const bool known =
        owner == core.index() ? co_await look_up(core, questions) : co_await spawn_on(owner, ask);
    if (!known) co_return std::vector<bool>{};
    for (const Question& question : questions) lacks[question.at] = question.lacked;
  }
  co_return lacks;
}

}  // namespace gyre
