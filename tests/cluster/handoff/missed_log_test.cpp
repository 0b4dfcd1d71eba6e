// The missed log's file: its bytes, what damage of every kind leads to, and the bounds of the state.
#include "cluster/handoff/missed_log.hpp"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <string>

#include "../../store/sim_rig.hpp"
#include "base/coding.hpp"
#include "cluster/handoff/missed_format.hpp"

namespace gyre::cluster {
namespace {

using gyre::test::SimRig;

constexpr const char* directory = "data/handoff/shard-000";
const PeerId peer_b = peer_id("http://b:1");

std::string two_frames() {
  std::string state;
  append_missed_entry(state, {.kind = MissedEntryKind::watermark, .version = {500, 0}});
  append_missed_entry(state, {.kind = MissedEntryKind::peer, .id = peer_b});
  append_missed_entry(state, {.kind = MissedEntryKind::owed, .slot = 300, .version = {77, 0}});
  append_missed_entry(state, {.kind = MissedEntryKind::complete});
  std::string later;
  append_missed_entry(
      later, {.kind = MissedEntryKind::missed, .slot = 3, .key = "key", .version = {600, 9}});
  std::string file;
  append_missed_frame(file, 0x1122334455667788, 0, state);
  append_missed_frame(file, 0x1122334455667788, 1, later);
  return file;
}

TEST_CASE("the bytes of a frame are those of the format") {
  std::string entries;
  append_missed_entry(entries, {.kind = MissedEntryKind::missed,
                                .peer = 1,
                                .slot = 300,
                                .key = "ab",
                                .version = {0x0102030405060708, 9}});
  append_missed_entry(entries, {.kind = MissedEntryKind::walk, .peer = 200});
  const std::string expected(
      "\x02\x01\xac\x02\x02"
      "ab\x08\x07\x06\x05\x04\x03\x02\x01\x09\0\0\0\0\0\0\0\x05\xc8\x01",
      26);
  CHECK(entries == expected);
  std::string frame;
  append_missed_frame(frame, 7, 1, entries);
  CHECK(frame.size() == 4096);
  CHECK(frame.substr(0, 32) == std::string("GyMi\1\0\0\0\x1a\0\0\0\0\0\0\0\7\0\0\0\0\0\0\0\1\0\0\0"
                                           "\0\0\0\0",
                                           32));
  CHECK(get_fixed<uint64_t>(frame.data() + 32) == 17212567918506842728u);
  CHECK(frame.substr(40, entries.size()) == entries);
  CHECK(frame.find_first_not_of('\0', 40 + entries.size()) == frame.npos);
}

size_t entries_of(std::string_view file, bool& damaged) {
  MissedReader reader(file);
  for (size_t count = 0;; ++count) {
    MissedEntry entry;
    const auto step = reader.next(entry);
    damaged = !step;
    if (!step || *step != MissedReader::Step::entry) return count;
  }
}

TEST_CASE("a torn last frame is dropped, whatever is left of it; other damage is told") {
  const std::string file = two_frames();
  bool damaged = false;
  CHECK(entries_of(file, damaged) == 5);
  CHECK(!damaged);
  for (size_t bit = 0; bit < (40 + 23) * 8; ++bit) {
    std::string flipped = file;
    flipped[4096 + bit / 8] = static_cast<char>(flipped[4096 + bit / 8] ^ (1 << bit % 8));
    const size_t count = entries_of(flipped, damaged);
    CHECK(count == 4);
    CHECK(!damaged);
    // The same in the frame before it, which was acknowledged.
    flipped = file;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    CHECK(entries_of(flipped, damaged) == 0);
    CHECK(damaged);
  }
  CHECK(entries_of(file.substr(0, 4096), damaged) == 4);
  CHECK(!damaged);
}

Task<std::unique_ptr<MissedLog>> open_log(MissedLogOptions options = {}) {
  Result<std::unique_ptr<MissedLog>> log = co_await MissedLog::open(directory, options);
  CHECK(log.has_value());
  if (!log) co_return nullptr;
  co_return std::move(*log);
}

Task<void> put_file(std::string content) {
  CHECK((co_await make_directories(directory)).has_value());
  CHECK((co_await replace_file(directory, "missed", std::move(content))).has_value());
}

Task<void> close_log(MissedLog& log, bool clean) {
  CHECK((co_await log.close(clean)).has_value());
}

Task<void> state_is_kept() {
  auto log = co_await open_log({.fresh = true});
  REQUIRE_OR_RETURN(log != nullptr);
  CHECK(!log->in_doubt_from());
  const PeerNumber b = log->peer(peer_b);
  const PeerNumber c = log->peer(peer_id("http://c:1"));
  log->missed(b, 3, "key", {100, 1});
  log->missed(b, 3, "key", {90, 1});
  log->missed(b, 3, "gone", {91, 1});
  log->replayed(b, 3, "gone", {90, 9});
  CHECK(log->record_count(b) == 2);
  log->replayed(b, 3, "gone", {91, 1});
  log->owe(c, 7, 50);
  log->owe(c, 7, 60);
  CHECK(log->walk(c)->since(7) == 50);
  log->missed(c, 7, "meanwhile", {70, 1});  // the walk may have passed it
  CHECK(log->record_count(c) == 1);
  log->set_watermark(40);
  CHECK(log->oldest_hlc() == 50);
  CHECK((co_await log->commit()).has_value());
  co_await close_log(*log, false);

  log = co_await open_log();
  REQUIRE_OR_RETURN(log != nullptr);
  CHECK(log->in_doubt_from() == 40);
  CHECK(log->damage() == "");
  const PeerNumber again = log->peer(peer_b);
  const PeerNumber c_again = log->peer(peer_id("http://c:1"));
  const std::vector<MissedWrite> records = log->records_after(again, 0, "", 10);
  REQUIRE_OR_RETURN(records.size() == 1);
  CHECK(records[0].key == "key");
  CHECK(records[0].version == Version{100, 1});
  CHECK(log->owed_count(c_again) == 1);
  CHECK(log->record_count(c_again) == 1);
  log->doubt_resolved();
  co_await close_log(*log, true);

  log = co_await open_log();
  REQUIRE_OR_RETURN(log != nullptr);
  CHECK(!log->in_doubt_from());
  CHECK(log->owes(log->peer(peer_b)));
  log->forget(log->peer(peer_b));
  CHECK(!log->owes(log->peer(peer_b)));
  co_await close_log(*log, false);
}

Task<void> damage_leaves_all_in_doubt() {
  auto log = co_await open_log();
  REQUIRE_OR_RETURN(log != nullptr);
  CHECK(log->in_doubt_from() == 0);
  CHECK(log->damage().ends_with("missing"));
  co_await close_log(*log, true);  // not clean: the doubt is not resolved
  log = co_await open_log();
  REQUIRE_OR_RETURN(log != nullptr);
  CHECK(log->in_doubt_from() == 0);
  co_await close_log(*log, false);

  std::string file = two_frames();
  co_await put_file(file);
  log = co_await open_log();
  REQUIRE_OR_RETURN(log != nullptr);
  CHECK(log->in_doubt_from() == 500);
  CHECK(log->owed_count(log->peer(peer_b)) == 1);
  CHECK(log->record_count(log->peer(peer_b)) == 1);
  co_await close_log(*log, false);

  file[50] ^= 1;
  co_await put_file(file);
  log = co_await open_log();
  REQUIRE_OR_RETURN(log != nullptr);
  CHECK(log->in_doubt_from() == 0);
  CHECK(log->damage() != "");
  co_await close_log(*log, false);

  file = two_frames();
  file[4] = 2;
  co_await put_file(file);
  const auto later = co_await MissedLog::open(directory, {});
  REQUIRE_OR_RETURN(!later.has_value());
  CHECK(later.error().code == Errc::unsupported);
}

Task<void> too_many_become_slots() {
  MissedLogOptions options{.record_bytes_max = 20 * (MissedLog::record_overhead_bytes + 6),
                           .fresh = true};
  auto log = co_await open_log(options);
  REQUIRE_OR_RETURN(log != nullptr);
  const PeerNumber b = log->peer(peer_b);
  const PeerNumber c = log->peer(peer_id("http://c:1"));
  for (uint64_t i = 0; i < 5; ++i) log->missed(c, 9, fmt::format("key{:03}", i), {1000 + i, 1});
  for (uint64_t i = 0; i < 100; ++i) {
    log->missed(b, static_cast<uint32_t>(i % 10), fmt::format("key{:03}", i), {1000 - i, 1});
    CHECK(log->record_bytes() <= options.record_bytes_max);
  }
  CHECK(log->record_count(c) == 5);  // the peer with the most is the one
  CHECK(log->counts().degraded >= 16);
  log->missed(b, 20, std::string(limits::stored_key_bytes_max + 1, 'k'), {5, 1});
  for (uint64_t i = 0; i < 100; ++i) {
    bool kept = false;
    for (const MissedWrite& record : log->records_after(b, 0, "", 1000)) {
      kept |= record.key == fmt::format("key{:03}", i);
    }
    CHECK((kept || log->walk(b)->covers(static_cast<uint32_t>(i % 10), 1000 - i)));
  }
  CHECK(log->walk(b)->since(20) == 5);
  CHECK((co_await log->commit()).has_value());
  co_await close_log(*log, true);
}

Task<void> one_failed_write(SimRig& rig) {
  auto log = co_await open_log({.fresh = true});
  REQUIRE_OR_RETURN(log != nullptr);
  const PeerNumber b = log->peer(peer_b);
  log->missed(b, 1, "key", {10, 1});
  rig.disk().plan({.code = OpCode::write, .path_part = "missed"});
  CHECK(!(co_await log->commit()).has_value());
  CHECK(log->counts().failures == 1);
  CHECK((co_await log->commit()).has_value());  // a new file
  CHECK(log->counts().files == 2);
  co_await close_log(*log, false);
}

Task<void> key_is_there() {
  auto log = co_await open_log();
  REQUIRE_OR_RETURN(log != nullptr);
  CHECK(log->record_count(log->peer(peer_b)) == 1);
  co_await close_log(*log, false);
}

TEST_CASE("the state outlasts lives, and a walk that was not ended is owed") {
  SimRig().run(state_is_kept());
}
TEST_CASE("without its file, or with a damaged one, everything is in doubt") {
  SimRig().run(damage_leaves_all_in_doubt());
}
TEST_CASE("records that don't fit become owed slots") {
  SimRig().run(too_many_become_slots());
}
TEST_CASE("a failed write fails the commit, and the next one writes a new file") {
  SimRig rig;
  rig.run(one_failed_write(rig));
  rig.cut_power(sim::CrashMode::lost);
  rig.run(key_is_there());
}

}  // namespace
}  // namespace gyre::cluster
