// One replay to one peer: a value that can't be brought to it holds up nobody else's.
#include "cluster/handoff/replay.hpp"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <map>
#include <set>

#include "../../store/sim_rig.hpp"
#include "cluster/slot_table.hpp"

namespace gyre::cluster {
namespace {

using gyre::test::SimRig;

constexpr unsigned key_count = 600;  // several batches

std::string key_of(unsigned number) {
  return fmt::format("key{:03}", number);
}

// A shard with every key in version 1, and a peer.
struct Target final : ReplayTarget {
  Task<bool> reachable() override { co_return co_await sleep_for(milliseconds(1)); }
  Task<Result<WalkPage>> scan(const OwedSlots& slots, std::string after) override {
    WalkPage page;
    for (unsigned number = 0; number < key_count; ++number) {
      const std::string key = key_of(number);
      if (key <= after) continue;
      page.next = key;
      if (slots.covers(slot_of(key), version.hlc)) page.entries.push_back({key, version});
      if (page.entries.size() == 100) break;
    }
    page.at_end = page.entries.size() < 100;
    co_return page;
  }
  Task<Result<std::vector<bool>>> offer(const std::vector<KeyVersion>& entries) override {
    std::vector<bool> lacks;
    for (const KeyVersion& entry : entries) lacks.push_back(!there.contains(entry.key));
    co_return lacks;
  }
  Task<Result<uint64_t>> send(const std::string& key) override {
    if (stuck.contains(key)) {
      tried[key].push_back(Reactor::current().now());
      static_cast<void>(co_await sleep_for(milliseconds(500)));
      co_return fail(Errc::closed, "timed out");
    }
    there.insert(key);
    co_return uint64_t{100};
  }

  Version version{hlc_from_us(1'000'000), 1};
  std::set<std::string> there;
  std::set<std::string> stuck;
  std::map<std::string, std::vector<Nanos>> tried;
};

// Answers when all but the stuck ones had come.
Task<void> replay(bool walk, unsigned stuck_count, Target& target, Nanos& others_took) {
  auto log = co_await MissedLog::open("data/handoff/shard-000", {.fresh = true});
  REQUIRE_OR_RETURN(log.has_value());
  const PeerNumber peer = (*log)->peer(peer_id("http://b:1"));
  for (unsigned number = 0; number < key_count; ++number) {
    const std::string key = key_of(number);
    if (walk) {
      (*log)->owe(peer, slot_of(key), 0);
    } else {
      (*log)->missed(peer, slot_of(key), key, target.version);
    }
  }
  // Those that a walk or the order of records meets first.
  if (walk) {
    for (unsigned number = 0; number < stuck_count; ++number) target.stuck.insert(key_of(number));
  } else {
    for (const MissedWrite& record : (*log)->records_after(peer, 0, {}, stuck_count)) {
      target.stuck.insert(record.key);
    }
  }
  Replay replay(**log, peer, target);
  Scope scope;
  const Nanos begun = Reactor::current().now();
  scope.spawn(replay.run());
  while (target.there.size() < key_count - stuck_count &&
         Reactor::current().now() - begun < seconds(300)) {
    static_cast<void>(co_await sleep_for(milliseconds(10)));
  }
  others_took = Reactor::current().now() - begun;
  static_cast<void>(co_await sleep_for(seconds(120)));
  CHECK(replay.counts().sent == key_count - stuck_count);
  CHECK((*log)->owes(peer));
  CHECK((*log)->record_count(peer) == stuck_count);  // not a walk without end
  // New ones need not wait until those are due.
  const std::string late = "late";
  (*log)->missed(peer, slot_of(late), late, target.version);
  static_cast<void>(co_await sleep_for(seconds(4)));
  CHECK(target.there.contains(late));
  target.stuck.clear();
  static_cast<void>(co_await sleep_for(seconds(40)));
  CHECK(target.there.size() == key_count + 1);
  CHECK(!(*log)->owes(peer));
  scope.request_stop();
  co_await scope.join();
  CHECK((co_await (*log)->close(true)).has_value());
}

TEST_CASE("values that keep failing hold up no others, and are tried again less and less often") {
  for (const bool walk : {false, true}) {
    for (const unsigned stuck : {1u, 2u, 7u}) {
      CAPTURE(walk);
      CAPTURE(stuck);
      Target target;
      Nanos others_took = 0;
      SimRig().run(replay(walk, stuck, target, others_took));
      CHECK(others_took < seconds(10));
      CHECK(target.tried.size() == stuck);
      for (const auto& [key, times] : target.tried) {
        CHECK(times.size() >= 4);
        CHECK(times.size() <= 20);
      }
    }
  }
}

}  // namespace
}  // namespace gyre::cluster
