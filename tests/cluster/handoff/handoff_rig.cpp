#include "handoff_rig.hpp"

#include <fmt/format.h>

#include <utility>

#include "cluster/slot_table.hpp"

namespace gyre::cluster::test {

namespace {

constexpr unsigned key_count = 16;
constexpr unsigned writer_count = 3;
constexpr const char* directory = "data/handoff/shard-000";
constexpr const char* urls[2] = {"http://b:1", "http://c:1"};

void raise(Contents& contents, const std::string& key, Version version) {
  Version& present = contents[key];
  present = std::max(present, version);
}

// One life of the program.
struct Life {
  HandoffRun& run;
  gyre::test::SimRig& rig;
  sim::Prng prng;
  bool last;  // no failures, no writes
  std::unique_ptr<Handoff> handoff;
  std::array<PeerNumber, 2> numbers{};

  bool dead() { return rig.disk().stopped() || rig.world().node(0).power() != sim::Power::on; }

  // What is settled is at every peer.
  void check_settled() {
    if (dead() || !run.error.empty()) return;
    const uint64_t settled = handoff->settled_before();
    for (const auto& [key, version] : run.shard) {
      if (version.hlc >= settled) continue;
      for (const Contents& peer : run.peers) {
        const auto there = peer.find(key);
        if (there == peer.end() || there->second < version) {
          run.error = fmt::format("{} is called settled, but a peer lacks it", key);
        }
      }
    }
  }
};

struct Target final : ReplayTarget {
  Target(Life& in, size_t peer) : life(in), contents(in.run.peers[peer]) {}

  Task<bool> reachable() override {
    co_return co_await sleep_for(microseconds(static_cast<int64_t>(life.prng.below(20'000))));
  }
  Task<Result<WalkPage>> scan(const OwedSlots& slots, std::string after) override {
    WalkPage page;
    auto at = life.run.shard.upper_bound(after);
    for (unsigned looked = 0; at != life.run.shard.end() && looked < 3; ++at, ++looked) {
      page.next = at->first;
      if (slots.covers(slot_of(at->first), at->second.hlc)) {
        page.entries.push_back({at->first, at->second});
      }
    }
    page.at_end = at == life.run.shard.end();
    if (!co_await pause()) co_return fail(Errc::cancelled);
    co_return page;
  }
  Task<Result<std::vector<bool>>> offer(const std::vector<KeyVersion>& entries) override {
    if (!co_await pause()) co_return fail(Errc::cancelled);
    if (fails(4)) co_return fail(Errc::closed);
    std::vector<bool> lacks;
    for (const KeyVersion& entry : entries) {
      const auto there = contents.find(entry.key);
      lacks.push_back(there == contents.end() || there->second < entry.version);
    }
    co_return lacks;
  }
  Task<Result<uint64_t>> send(const std::string& key) override {
    const auto here = life.run.shard.find(key);
    if (here == life.run.shard.end()) co_return fail(Errc::not_found);
    const Version version = here->second;
    if (!co_await pause()) co_return fail(Errc::cancelled);
    if (life.dead() || fails(3)) co_return fail(Errc::closed);
    raise(contents, key, version);
    ++life.run.sent;
    co_return uint64_t{100};
  }

  bool fails(unsigned one_in) { return !life.last && life.prng.below(one_in) == 0; }
  Sleep pause() { return sleep_for(microseconds(static_cast<int64_t>(life.prng.below(3'000)))); }

  Life& life;
  Contents& contents;
};

struct Doubts final : DoubtSource {
  explicit Doubts(Life& in) : life(in) {}
  Task<Result<void>> slots_since(uint64_t hlc, OwedSlots& slots) override {
    static_cast<void>(co_await yield());
    for (const auto& [key, version] : life.run.shard) {
      if (version.hlc >= hlc) slots.add(slot_of(key), hlc);
    }
    co_return Result<void>{};
  }
  PeerSet others(uint32_t) override {
    PeerSet set;
    for (const PeerNumber number : life.numbers) set.add(number);
    return set;
  }
  Life& life;
};

Task<void> pause(Life& life, int64_t up_to_us) {
  static_cast<void>(co_await sleep_for(
      microseconds(static_cast<int64_t>(life.prng.below(static_cast<uint64_t>(up_to_us))))));
}

// Keeps the write's version until it is known whether the shard took it. False: the node is dead.
Task<bool> store(Life& life, const UnconfirmedWrite& write, const std::string& key) {
  Handoff& handoff = *life.handoff;
  const Taken taken = handoff.take(write);
  if (taken == Taken::refused) co_return true;
  if (taken == Taken::commit_first) {
    ++life.run.late;
    if (!co_await handoff.commit()) {
      handoff.confirm(write.version);
      co_return !life.dead();
    }
  }
  co_await pause(life, 3'000);
  if (life.dead()) co_return false;
  const auto present = life.run.shard.find(key);
  if (present != life.run.shard.end() && present->second > write.version) {
    handoff.confirm(write.version);
    co_return true;
  }
  raise(life.run.shard, key, write.version);
  handoff.written(write.version);
  ++life.run.stored;
  co_return true;
}

// False: the node is dead.
Task<bool> write_one(Life& life) {
  const std::string key = fmt::format("key{}", life.prng.below(key_count));
  UnconfirmedWrite write;
  // Some have been on their way for long.
  const uint64_t late_us = life.prng.below(5) == 0 ? life.prng.below(1'000'000) : 0;
  write.version = {hlc_from_us(Reactor::current().wall_us() - late_us), life.run.next_origin++};
  write.slot = slot_of(key);
  write.coordinator = life.prng.below(2) == 0 ? no_peer : life.numbers[0];
  for (const PeerNumber number : life.numbers) write.others.add(number);
  if (!co_await store(life, write, key)) co_return false;
  const auto stored = life.run.shard.find(key);
  if (stored == life.run.shard.end() || stored->second != write.version) co_return true;

  bool everywhere = true;
  std::array<bool, 2> reached{};
  for (size_t peer = 0; peer < 2; ++peer) {
    reached[peer] = life.prng.below(3) != 0;
    everywhere &= reached[peer];
    if (reached[peer]) raise(life.run.peers[peer], key, write.version);
  }
  co_await pause(life, 3'000);
  if (life.dead()) co_return false;
  const bool coordinator_dies = life.prng.below(4) == 0;
  if (coordinator_dies) {
    ++life.run.unconfirmed_ends;
    if (life.prng.below(4) == 0) life.handoff->coordinator_lost(write.coordinator);
    co_return true;
  }
  if (!everywhere) {
    for (size_t peer = 0; peer < 2; ++peer) {
      if (!reached[peer]) life.handoff->missed(life.numbers[peer], write.slot, key, write.version);
    }
    if (!co_await life.handoff->commit()) co_return !life.dead();
    ++life.run.recorded;
  }
  life.handoff->confirm(write.version);
  co_return true;
}

Task<void> write_some(Life& life, unsigned count) {
  for (unsigned i = 0; i < count; ++i) {
    co_await pause(life, 30'000);
    if (!co_await write_one(life)) co_return;
    life.check_settled();
  }
}

Task<void> resolve(Life& life, bool& resolved) {
  Doubts doubts(life);
  const Result<void> done = co_await life.handoff->resolve_doubt(doubts);
  resolved = done.has_value();
}

bool idle(Life& life) {
  for (const PeerNumber number : life.numbers) {
    if (life.handoff->log().owes(number)) return false;
  }
  return life.handoff->unconfirmed_count() == 0;
}

Task<void> live(Life& life) {
  ++life.run.lives;
  HandoffOptions options = life.run.options;
  options.log.fresh = life.run.lives == 1;
  Result<std::unique_ptr<Handoff>> opened = co_await Handoff::open(directory, options);
  if (!opened) {
    if (!life.dead()) life.run.error = "it does not open: " + opened.error().message();
    co_return;
  }
  life.handoff = std::move(*opened);
  for (size_t peer = 0; peer < 2; ++peer) {
    life.numbers[peer] = life.handoff->log().peer(peer_id(urls[peer]));
  }
  Target first(life, 0);
  Target second(life, 1);
  Replay replays[2] = {{life.handoff->log(), life.numbers[0], first, {.batch = 3}},
                       {life.handoff->log(), life.numbers[1], second, {.batch = 3}}};
  bool resolved = false;
  Scope scope;
  scope.spawn(life.handoff->run());
  for (Replay& replay : replays) scope.spawn(replay.run());
  Scope writers;
  writers.spawn(resolve(life, resolved));
  for (unsigned i = 0; !life.last && i < writer_count; ++i) {
    writers.spawn(write_some(life, life.run.writes / writer_count));
  }
  co_await writers.join();
  for (unsigned i = 0; life.last && i < 1'000 && !idle(life); ++i) {
    static_cast<void>(co_await sleep_for(milliseconds(100)));
    life.check_settled();
  }
  if (life.last && !idle(life)) life.run.error = "something is still owed";
  if (life.last && !resolved) life.run.error = "what was in doubt stays so";
  scope.request_stop();
  co_await scope.join();
  life.check_settled();
  life.run.degraded += life.handoff->log().counts().degraded;
  life.run.files += life.handoff->log().counts().files;
  life.run.expired += life.handoff->counts().expired;
  life.run.doubtful_slots += life.handoff->counts().slots_in_doubt;
  const Result<void> closed = co_await life.handoff->close();
  if (!closed && !life.dead()) life.run.error = "the close: " + closed.error().message();
}

void check_peers(HandoffRun& run) {
  for (size_t peer = 0; run.error.empty() && peer < 2; ++peer) {
    for (const auto& [key, version] : run.shard) {
      const auto there = run.peers[peer].find(key);
      if (there == run.peers[peer].end() || there->second < version) {
        run.error = fmt::format("peer {} lacks {} of {}", peer, key, version.origin);
      }
    }
  }
}

}  // namespace

HandoffOptions small_handoff_options() {
  HandoffOptions options;
  options.log.record_bytes_max = 5 * (MissedLog::record_overhead_bytes + 5);
  options.log.file_bytes_min = 8u << 10;
  options.unconfirmed_max = 8;
  options.unconfirmed_for_max = milliseconds(200);
  options.step = milliseconds(20);
  options.watermark_lag_us = 50'000;
  return options;
}

RunEnd run_handoff(HandoffRun& run, const std::vector<CrashPoint>& crashes) {
  RunEnd end;
  gyre::test::SimRig rig(run.seed, run.disk);
  for (size_t i = 0; i <= crashes.size() + 1 && run.error.empty(); ++i) {
    Life life{run, rig, sim::Prng(run.seed + 1000 * i, "life"), i == crashes.size() + 1, {}, {}};
    const uint64_t before = rig.disk().write_points();
    sim::CrashMode mode = sim::CrashMode::random;
    if (i < crashes.size()) {
      if (crashes[i].point != 0) rig.disk().stop_at(before + crashes[i].point, crashes[i].phase);
      mode = crashes[i].mode;
    }
    const bool ended = rig.run(live(life), mode);
    if (i == 0) end.write_points = rig.disk().write_points() - before;
    if (i < crashes.size() && crashes[i].point != 0 && ended) {
      end.reached = false;
      return end;
    }
  }
  check_peers(run);
  return end;
}

std::string sweep_handoff(uint64_t seed, uint64_t stride, uint64_t& cases, HandoffRun* totals) {
  const auto fresh_run = [&] {
    HandoffRun run{.seed = seed, .options = small_handoff_options()};
    return run;
  };
  HandoffRun first = fresh_run();
  const uint64_t points = run_handoff(first, {}).write_points;
  ++cases;
  if (!first.error.empty()) return fmt::format("seed {}: {}", seed, first.error);
  if (totals != nullptr) *totals = first;
  for (uint64_t point = 1; point <= points; point += stride) {
    for (const sim::CrashPhase phase :
         {sim::CrashPhase::before, sim::CrashPhase::during, sim::CrashPhase::after}) {
      for (const sim::CrashMode mode :
           {sim::CrashMode::lost, sim::CrashMode::torn, sim::CrashMode::garbled}) {
        HandoffRun run = fresh_run();
        run_handoff(run, {{point, phase, mode}});
        ++cases;
        if (totals != nullptr) totals->doubtful_slots += run.doubtful_slots;
        if (!run.error.empty()) {
          return fmt::format("seed {}, write point {}, phase {}, mode {}: {}", seed, point,
                             static_cast<int>(phase), static_cast<int>(mode), run.error);
        }
      }
    }
    HandoffRun run = fresh_run();
    run_handoff(run, {{point, sim::CrashPhase::during, sim::CrashMode::torn},
                      {1 + point % 7, sim::CrashPhase::after, sim::CrashMode::lost}});
    ++cases;
    if (!run.error.empty()) {
      return fmt::format("seed {}, write point {} and {}: {}", seed, point, 1 + point % 7,
                         run.error);
    }
  }
  return "";
}

}  // namespace gyre::cluster::test
