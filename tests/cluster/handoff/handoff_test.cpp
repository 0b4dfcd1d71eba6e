// One shard's handoff, call by call: what is owed when, and how much is in doubt after a crash.
#include "cluster/handoff/handoff.hpp"

#include <doctest/doctest.h>

#include <cerrno>

#include "../../store/sim_rig.hpp"

namespace gyre::cluster {
namespace {

using gyre::test::SimRig;

UnconfirmedWrite write_of(uint32_t slot, Version version, PeerNumber coordinator = no_peer) {
  UnconfirmedWrite write{
      .version = version, .slot = slot, .coordinator = coordinator, .others = {}};
  write.others.add(0);
  return write;
}

Task<std::unique_ptr<Handoff>> open_handoff(HandoffOptions options) {
  auto handoff = co_await Handoff::open("data/handoff/shard-000", options);
  CHECK(handoff.has_value());
  if (!handoff) co_return nullptr;
  CHECK((*handoff)->log().peer(peer_id("http://b:1")) == 0);
  co_return std::move(*handoff);
}

Version now_version(uint64_t origin) {
  return {hlc_from_us(Reactor::current().wall_us()), origin};
}

Task<void> owed_when_due() {
  auto handoff = co_await open_handoff({.log = {.fresh = true}, .unconfirmed_max = 4});
  REQUIRE_OR_RETURN(handoff != nullptr);
  MissedLog& log = handoff->log();
  // In time, from one who is lost, and never.
  const Version confirmed = now_version(1);
  CHECK(handoff->take(write_of(1, confirmed)) == Taken::held);
  CHECK(handoff->take(write_of(2, now_version(2), 7)) == Taken::held);
  CHECK(handoff->take(write_of(3, now_version(3), 8)) == Taken::held);
  handoff->written(confirmed);
  handoff->coordinator_lost(7);
  CHECK(!log.owes(0));  // the shard does not show it yet
  handoff->written(now_version(2));
  handoff->coordinator_lost(7);
  CHECK(log.owed_count(0) == 1);
  CHECK(handoff->settled_before() <= confirmed.hlc);
  static_cast<void>(co_await sleep_for(milliseconds(1'900)));
  CHECK((co_await handoff->step()).has_value());
  handoff->confirm(confirmed);
  static_cast<void>(co_await sleep_for(milliseconds(200)));
  CHECK((co_await handoff->step()).has_value());
  CHECK(log.owed_count(0) == 1);
  CHECK(handoff->unconfirmed_count() == 1);  // still being written
  // There is room for three more; the fourth pushes out the oldest that is written.
  for (uint64_t i = 10; i < 13; ++i) {
    const Version version = now_version(i);
    CHECK(handoff->take(write_of(static_cast<uint32_t>(i), version)) == Taken::held);
    handoff->written(version);
  }
  CHECK(handoff->take(write_of(20, now_version(20))) == Taken::held);
  CHECK(handoff->counts().crowded_out == 1);
  CHECK(log.owed_count(0) == 2);
  static_cast<void>(handoff->take(write_of(21, now_version(21))));
  static_cast<void>(handoff->take(write_of(22, now_version(22))));
  CHECK(handoff->take(write_of(23, now_version(23))) == Taken::refused);
  CHECK((co_await handoff->close()).has_value());
}

Task<void> two_writes(uint64_t& first, uint64_t& second) {
  auto handoff = co_await open_handoff({.log = {.fresh = true}});
  REQUIRE_OR_RETURN(handoff != nullptr);
  const Version early = now_version(1);
  first = early.hlc;
  static_cast<void>(handoff->take(write_of(1, early)));
  handoff->written(early);
  handoff->confirm(early);
  static_cast<void>(co_await sleep_for(seconds(20)));
  const Version late = now_version(2);
  second = late.hlc;
  CHECK(handoff->take(write_of(2, late)) == Taken::held);
  CHECK((co_await handoff->step()).has_value());
  // One that was on its way for 20 seconds.
  CHECK(handoff->take(write_of(3, {early.hlc, 3})) == Taken::commit_first);
  CHECK((co_await handoff->commit()).has_value());
  handoff->confirm({early.hlc, 3});
  CHECK((co_await handoff->step()).has_value());
}

Task<void> doubt(uint64_t first, uint64_t second) {
  auto handoff = co_await open_handoff({});
  REQUIRE_OR_RETURN(handoff != nullptr);
  CHECK(handoff->in_doubt());
  CHECK(*handoff->log().in_doubt_from() > first);
  CHECK(*handoff->log().in_doubt_from() <= second);
  CHECK(handoff->settled_before() <= second);
  CHECK((co_await handoff->close()).has_value());
}

Task<void> nothing_open() {
  auto handoff = co_await open_handoff({.log = {.fresh = true}});
  REQUIRE_OR_RETURN(handoff != nullptr);
  CHECK((co_await handoff->close()).has_value());
}

// Ends without a close. The life before ended clean, and said so.
Task<void> written_with_room_again(SimRig& rig, uint64_t& hlc) {
  rig.disk().plan({.code = OpCode::write, .path_part = "missed", .error = ENOSPC, .times = 3});
  auto handoff = co_await open_handoff({});
  REQUIRE_OR_RETURN(handoff != nullptr);
  CHECK(!handoff->in_doubt());
  const Version version = now_version(1);
  hlc = version.hlc;
  for (unsigned i = 0; i < 3; ++i) {
    CHECK(handoff->take(write_of(1, version)) == Taken::commit_first);
    CHECK((co_await handoff->commit()).has_value() == (i == 2));
  }
  handoff->written(version);
  CHECK(handoff->take(write_of(2, now_version(2))) == Taken::held);
}

Task<void> in_doubt(uint64_t hlc) {
  auto handoff = co_await open_handoff({});
  REQUIRE_OR_RETURN(handoff != nullptr);
  CHECK(handoff->in_doubt());
  CHECK(handoff->log().in_doubt_from().value_or(~uint64_t{0}) <= hlc);
  CHECK((co_await handoff->close()).has_value());
}

TEST_CASE("a start on a full disk takes no write before there is room") {
  SimRig rig;
  rig.run(nothing_open());
  uint64_t hlc = 0;
  rig.run(written_with_room_again(rig, hlc));
  rig.cut_power(sim::CrashMode::lost);
  rig.run(in_doubt(hlc));
}

TEST_CASE("what nobody confirms is owed after two seconds, or once its coordinator is lost") {
  SimRig().run(owed_when_due());
}

TEST_CASE("after a crash only the last seconds are in doubt") {
  SimRig rig;
  uint64_t first = 0;
  uint64_t second = 0;
  rig.run(two_writes(first, second));
  rig.cut_power();
  rig.run(doubt(first, second));
}

}  // namespace
}  // namespace gyre::cluster
