#include "store/manifest_log.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <functional>

#include "sim_rig.hpp"
#include "store/file_names.hpp"
#include "store/table_format.hpp"

namespace gyre {
using namespace test;

namespace {

const std::string directory = "shard";
const std::string current_path = directory + "/CURRENT";

ShardIdentity identity() {
  ShardIdentity out;
  out.uuid = {9, 8, 7};
  out.index = 1;
  out.count = 4;
  return out;
}

TableRecord table(uint64_t number, size_t key_bytes = 10) {
  TableRecord record;
  record.level = 0;
  record.file_number = number;
  record.size_bytes = 1000 + number;
  record.smallest_key = fmt::format("{:06}", number) + std::string(key_bytes, 'a');
  record.largest_key = fmt::format("{:06}", number) + std::string(key_bytes, 'b');
  record.version_min = {10, 1};
  record.version_max = {20 + number, 2};
  record.entry_count = 5;
  return record;
}

// Adds a table, and removes the one added `keep` edits before.
VersionEdit step(ManifestLog& log, uint64_t keep = 5) {
  VersionEdit edit;
  const uint64_t number = log.take_file_number();
  edit.added.push_back(table(number, number % 7 == 0 ? 9'000 : 10));
  edit.hlc_max = 20 + number;
  edit.log_start_position = 4096 * number;
  edit.flushed_through_seq = 10 * number;
  edit.log_promised_position = 4096 * number + 1;
  if (number > keep) edit.removed.push_back({0, number - keep});
  return edit;
}

struct Seen {
  bool opened = false;
  Error error;
  uint64_t edit_number = 0;
  uint64_t tables = 0;
  uint64_t next_file_number = 0;
  uint64_t log_start_position = 0;
  uint64_t flushed_through_seq = 0;
  uint64_t log_promised_position = 0;
  uint64_t hlc_max = 0;
  uint64_t manifest_number = 0;
  bool torn = false;
  ShardIdentity identity;
};

void look(const ManifestLog& log, Seen& seen) {
  const LevelState& state = log.state();
  seen = {true,
          {},
          state.edit_number(),
          state.table_count(),
          state.next_file_number(),
          state.log_start_position(),
          state.flushed_through_seq(),
          state.log_promised_position(),
          state.hlc_max(),
          log.manifest_number(),
          log.found_torn_tail(),
          state.identity()};
}

Task<void> create(Seen& seen) {
  static_cast<void>(co_await make_directories(directory));
  Result<std::unique_ptr<ManifestLog>> log = co_await ManifestLog::create(directory, identity());
  seen = Seen();
  if (!log) {
    seen.error = log.error();
    co_return;
  }
  look(**log, seen);
  static_cast<void>(co_await (*log)->close());  // cancelled, if the power is cut
}

Task<void> open_and_append(uint64_t edits, Seen& seen, uint64_t& acknowledged) {
  Result<std::unique_ptr<ManifestLog>> log = co_await ManifestLog::open(directory);
  seen = Seen();
  if (!log) {
    seen.error = log.error();
    co_return;
  }
  for (uint64_t i = 0; i < edits; ++i) {
    const Result<void> appended = co_await (*log)->append(step(**log));
    if (!appended) {
      seen.error = appended.error();
      break;
    }
    acknowledged = (*log)->state().edit_number();
  }
  const Error error = seen.error;
  look(**log, seen);
  seen.error = error;
  static_cast<void>(co_await (*log)->close());
}

Seen open(SimRig& rig, uint64_t edits = 0) {
  Seen seen;
  uint64_t acknowledged = 0;
  rig.run(open_and_append(edits, seen, acknowledged));
  return seen;
}

Seen make_new(SimRig& rig) {
  Seen seen;
  rig.run(create(seen));
  return seen;
}

std::vector<std::string> names(SimRig& rig) {
  std::vector<DirEntry> entries;
  rig.disk().list_dir(directory, entries);
  std::vector<std::string> out;
  for (const DirEntry& entry : entries) out.push_back(entry.name);
  std::sort(out.begin(), out.end());
  return out;
}

void put_file(SimRig& rig, const std::string& path, std::string_view content) {
  sim::InodeId inode = 0;
  rig.disk().execute({.code = OpCode::open,
                      .flags = flag_write | flag_create | flag_truncate,
                      .path = path.c_str()},
                     &inode);
  if (!content.empty())
    rig.disk().execute({.code = OpCode::write, .inode = inode, .data = content});
  rig.disk().close(inode, false);
}

}  // namespace

TEST_CASE("a new manifest is opened again with all its edits") {
  SimRig rig;
  Seen seen = make_new(rig);
  REQUIRE(seen.opened);
  CHECK(seen.edit_number == 1);
  CHECK(names(rig) == std::vector<std::string>{"CURRENT", "MANIFEST-000001"});
  CHECK(rig.disk().content(current_path) == "MANIFEST-000001\n");

  seen = open(rig, 20);
  CHECK(seen.error.detail == "");
  rig.cut_power(sim::CrashMode::lost);
  const Seen again = open(rig);
  REQUIRE(again.opened);
  CHECK(again.edit_number == 21);
  CHECK(again.tables == 5);
  CHECK(again.next_file_number == 21);
  CHECK(again.log_start_position == 4096 * 20);
  CHECK(again.flushed_through_seq == 200);
  CHECK(again.log_promised_position == 4096 * 20 + 1);
  CHECK(again.hlc_max == 40);
  CHECK(again.identity == identity());
  CHECK_FALSE(again.torn);
}

TEST_CASE("a manifest with more edits than tables is begun anew") {
  SimRig rig;
  make_new(rig);
  const Seen seen = open(rig, 200);
  CHECK(seen.manifest_number >= 3);
  CHECK(names(rig) ==
        std::vector<std::string>{"CURRENT", manifest_file_name(seen.manifest_number)});
  rig.cut_power(sim::CrashMode::lost);
  const Seen again = open(rig, 1);
  CHECK(again.edit_number == 202);
  CHECK(again.tables == 5);
  CHECK(again.next_file_number == 202);
}

// --- crashes -------------------------------------------------------------------------------------

namespace {

Task<void> create_and_append(Seen& seen, uint64_t& acknowledged) {
  co_await create(seen);
  if (!seen.opened) co_return;
  acknowledged = 1;
  co_await open_and_append(70, seen, acknowledged);
}

struct Sweep {
  uint64_t points = 0;
  uint64_t torn = 0;
  std::vector<std::string> violations;
};

// What one crash made of the manifest, and whether it can be gone on with.
void judge(SimRig& rig, uint64_t acknowledged, Sweep& sweep) {
  const auto violation = [&](std::string text) { sweep.violations.push_back(std::move(text)); };
  const Seen before = open(rig);
  if (!before.opened) {
    // Not even created: then nothing was acknowledged, and it can be.
    if (before.error.code != Errc::not_found || acknowledged != 0) {
      return violation(before.error.message());
    }
    const Seen made = make_new(rig);
    if (!made.opened) return violation(made.error.message());
  } else {
    sweep.torn += before.torn;
    if (before.edit_number < acknowledged || before.edit_number > acknowledged + 1) {
      violation(fmt::format("{} edits of {}", before.edit_number, acknowledged));
    }
    if (before.next_file_number != before.edit_number) violation("not a state that ever was");
    rig.cut_power(sim::CrashMode::random);  // can't take back what one open has seen
  }
  const Seen after = open(rig, 3);
  if (!after.opened || after.error.detail != "" || after.torn) {
    return violation("then " + after.error.message());
  }
  if (before.opened && after.edit_number != before.edit_number + 3) violation("an edit went away");
  if (names(rig).size() != 2) violation("files are left over");
}

Sweep sweep_crashes(uint8_t skip_durability) {
  Sweep sweep;
  bool ended = false;
  for (uint64_t point = 1; !ended; ++point) {
    for (const auto phase :
         {sim::CrashPhase::before, sim::CrashPhase::during, sim::CrashPhase::after}) {
      SimRig rig(point);
      rig.disk().options.skip_durability = skip_durability;
      rig.disk().stop_at(point, phase);
      Seen seen;
      uint64_t acknowledged = 0;
      ended = rig.run(create_and_append(seen, acknowledged));
      rig.disk().stop_at(0, phase);
      ++sweep.points;
      judge(rig, acknowledged, sweep);
    }
  }
  return sweep;
}

}  // namespace

TEST_CASE("a power cut at any point keeps every acknowledged edit and invents none") {
  const Sweep sweep = sweep_crashes(sim::skip_nothing);
  CHECK(sweep.violations == std::vector<std::string>{});
  CHECK(sweep.points > 250);
  CHECK(sweep.torn > 5);
}

TEST_CASE("the sweep over power cuts notices each kind of sync that is missing") {
  CHECK_FALSE(sweep_crashes(sim::skip_dsync).violations.empty());
  CHECK_FALSE(sweep_crashes(sim::skip_fsync).violations.empty());
  CHECK_FALSE(sweep_crashes(sim::skip_dir_fsync).violations.empty());
}

TEST_CASE("a killed process's unsynced manifest is made durable before it is built on") {
  SimRig rig;
  make_new(rig);
  rig.disk().options.skip_durability = sim::skip_dsync;  // as if each write was killed in mid-sync
  open(rig, 10);
  rig.disk().options.skip_durability = sim::skip_nothing;
  CHECK(open(rig).edit_number == 11);
  rig.cut_power(sim::CrashMode::lost);
  CHECK(open(rig).edit_number == 11);
}

// --- errors --------------------------------------------------------------------------------------

namespace {

Task<void> fail_once(SimRig& rig, sim::PlannedFault fault, Error& first, Error& second,
                     bool& poisoned, uint64_t& edit_number) {
  Result<std::unique_ptr<ManifestLog>> log = co_await ManifestLog::open(directory);
  REQUIRE_OR_RETURN(log.has_value());
  rig.disk().plan(std::move(fault));
  const Result<void> failed = co_await (*log)->append(step(**log));
  first = failed ? Error::of(Errc::ok) : failed.error();
  const Result<void> next = co_await (*log)->append(step(**log));
  second = next ? Error::of(Errc::ok) : next.error();
  poisoned = (*log)->poisoned();
  edit_number = (*log)->state().edit_number();
  const Result<void> closed = co_await (*log)->close();
  CHECK(closed.has_value());
}

Task<void> roll_with_fault(SimRig& rig, sim::PlannedFault fault, bool& poisoned,
                           uint64_t& acknowledged) {
  Result<std::unique_ptr<ManifestLog>> log = co_await ManifestLog::open(directory);
  REQUIRE_OR_RETURN(log.has_value());
  rig.disk().plan(std::move(fault));
  for (unsigned i = 0; i < 66; ++i) {
    const Result<void> appended = co_await (*log)->append(step(**log));
    if (!appended) {
      CHECK(appended.error().code == Errc::read_only);
      break;
    }
    acknowledged = (*log)->state().edit_number();
  }
  poisoned = (*log)->poisoned();
  const Result<void> closed = co_await (*log)->close();
  CHECK(closed.has_value());
}

Task<void> append_concurrently(ManifestLog& log, unsigned& done) {
  const Result<void> appended = co_await log.append(step(log, 1'000));
  if (appended) ++done;
}

Task<void> many_at_once() {
  Result<std::unique_ptr<ManifestLog>> log = co_await ManifestLog::open(directory);
  REQUIRE_OR_RETURN(log.has_value());
  unsigned done = 0;
  Scope scope;
  for (unsigned i = 0; i < 100; ++i) scope.spawn(append_concurrently(**log, done));
  co_await scope.join();
  CHECK(done == 100);
  CHECK((*log)->state().table_count() == 100);
  CHECK((*log)->state().edit_number() == 101);
  const Result<void> closed = co_await (*log)->close();
  CHECK(closed.has_value());
}

Task<void> refuse_nonsense() {
  Result<std::unique_ptr<ManifestLog>> log = co_await ManifestLog::open(directory);
  REQUIRE_OR_RETURN(log.has_value());
  VersionEdit edit;
  edit.removed.push_back({0, 4711});
  const Result<void> refused = co_await (*log)->append(edit);
  REQUIRE_OR_RETURN(!refused.has_value());
  CHECK(refused.error().code == Errc::corrupt);
  CHECK_FALSE((*log)->poisoned());
  const Result<void> appended = co_await (*log)->append(step(**log));
  CHECK(appended.has_value());
  const Result<void> closed = co_await (*log)->close();
  CHECK(closed.has_value());
}

}  // namespace

namespace {

constexpr uint64_t many_tables = 3'000;

// More than a megabyte of tables: the manifest is begun anew right behind them.
VersionEdit many_at_a_time(ManifestLog& log) {
  VersionEdit edit;
  for (uint64_t i = 0; i < many_tables; ++i) {
    edit.added.push_back(table(log.take_file_number(), 200));
  }
  edit.hlc_max = 20 + many_tables;
  return edit;
}

Task<void> append_many(ManifestLog* log, bool* ended) {
  const Result<void> appended = co_await log->append(many_at_a_time(*log));
  CHECK(appended.has_value());
  *ended = true;
}

// Turns of another task while the snapshot is measured, before its file is there.
Task<void> count_turns(sim::Disk* disk, const bool* ended, const ManifestLog* log,
                       uint64_t* turns) {
  const std::string next = directory + "/" + manifest_file_name(2);
  for (FileStatus status; !*ended && !status.exists; disk->stat(next, status)) {
    if (log->edits_since_snapshot() == 1) ++*turns;
    co_await yield();
  }
}

Task<void> roll_beside_others(sim::Disk* disk, uint64_t* turns) {
  Result<std::unique_ptr<ManifestLog>> log = co_await ManifestLog::open(directory);
  REQUIRE_OR_RETURN(log.has_value());
  bool ended = false;
  Scope scope;
  scope.spawn(append_many(log->get(), &ended));
  scope.spawn(count_turns(disk, &ended, log->get(), turns));
  co_await scope.join();
  CHECK((*log)->manifest_number() == 2);
  CHECK((*log)->edits_since_snapshot() == 0);
  static_cast<void>(co_await (*log)->close());
}

}  // namespace

TEST_CASE("others have the core while the snapshot of many tables is made") {
  // Every look at the clock finds the slice at its end, or nearly.
  SimRig rig({.seed = 1, .now_step_max = milliseconds(2)}, {.name = {0, 0}});
  make_new(rig);
  uint64_t turns = 0;
  rig.run(roll_beside_others(&rig.disk(), &turns));
  CHECK(turns >= many_tables / SnapshotRecord::tables_per_step_max / 2);
  CHECK(open(rig).tables == many_tables);
}

namespace {

struct Arrivals {
  uint64_t acknowledged = 0;
  bool many_ended = false;
  bool many_acknowledged = false;
  bool waited = false;  // some came while the snapshot was written
};

Task<void> append_one(ManifestLog* log, Arrivals* arrivals) {
  const Result<void> appended = co_await log->append(step(*log, UINT64_MAX));
  if (appended) ++arrivals->acknowledged;
}

Task<void> arrive(sim::Disk* disk, ManifestLog* log, Arrivals* arrivals) {
  const std::string next = directory + "/" + manifest_file_name(2);
  FileStatus status;
  while (!status.exists && !arrivals->many_ended) {
    if (!co_await sleep_for(microseconds(50))) co_return;
    disk->stat(next, status);
  }
  Scope scope;
  for (unsigned i = 0; i < 5; ++i) {
    scope.spawn(append_one(log, arrivals));
    if (!co_await sleep_for(microseconds(200))) break;
    arrivals->waited |= log->edits_since_snapshot() == 1 && log->manifest_number() == 1;
  }
  co_await scope.join();
}

Task<void> roll_while_edits_arrive(sim::Disk* disk, Arrivals* arrivals) {
  Result<std::unique_ptr<ManifestLog>> log = co_await ManifestLog::open(directory);
  if (!log) co_return;
  Scope scope;
  scope.spawn(arrive(disk, log->get(), arrivals));
  const Result<void> appended = co_await (*log)->append(many_at_a_time(**log));
  arrivals->many_acknowledged = appended.has_value();
  arrivals->many_ended = true;
  co_await scope.join();
  static_cast<void>(co_await (*log)->close());
}

}  // namespace

TEST_CASE("edits that arrive while a long snapshot is written follow it, whenever the power goes") {
  uint64_t points = 0;
  bool ended = false;
  for (uint64_t point = 1; !ended; ++point) {
    for (const auto phase :
         {sim::CrashPhase::before, sim::CrashPhase::during, sim::CrashPhase::after}) {
      CAPTURE(point);
      CAPTURE(static_cast<int>(phase));
      SimRig rig(point);
      make_new(rig);
      Arrivals arrivals;
      rig.disk().stop_at(rig.disk().write_points() + point, phase);
      ended = rig.run(roll_while_edits_arrive(&rig.disk(), &arrivals));
      rig.disk().stop_at(0, phase);
      ++points;
      if (ended) {
        CHECK(arrivals.waited);
        CHECK(arrivals.acknowledged == 5);
        rig.cut_power(sim::CrashMode::lost);
      }
      const Seen seen = open(rig);
      REQUIRE(seen.opened);
      const uint64_t edits = seen.edit_number - 1;
      CHECK(edits >= arrivals.acknowledged + arrivals.many_acknowledged);
      CHECK(edits <= 6);
      CHECK(seen.tables == (edits == 0 ? 0 : many_tables + edits - 1));
      CHECK(names(rig).size() == 2);
    }
  }
  CHECK(points > 3 * 15);
}

TEST_CASE("after a failed write the manifest is poisoned until the next open") {
  for (const int error : {EIO, ENOSPC}) {
    SimRig rig;
    make_new(rig);
    open(rig, 3);
    Error first, second;
    bool poisoned = false;
    uint64_t edit_number = 0;
    rig.run(fail_once(rig, {.code = OpCode::write, .path_part = "MANIFEST", .error = error}, first,
                      second, poisoned, edit_number));
    CHECK(first.code == Errc::read_only);
    CHECK(first.os_error == error);
    CHECK(first.detail.find("shard/MANIFEST-000001") != std::string::npos);
    CHECK(second.code == Errc::read_only);
    CHECK(poisoned);
    const Seen seen = open(rig, 2);
    CHECK(seen.opened);
    CHECK(seen.edit_number >= 6);
  }
}

TEST_CASE("no room for the next edit leaves no mark and can be tried again") {
  SimRig rig;
  make_new(rig);
  open(rig, 30);  // with an edit of some blocks among them: see how far the allocation reaches
  Error first, second;
  bool poisoned = true;
  uint64_t edit_number = 0;
  uint64_t tried = 0;
  // The allocation of 256 KiB ends somewhere within the next edits.
  for (first.code = Errc::ok; first.code == Errc::ok && tried < 64; ++tried) {
    rig.disk().clear_plans();
    rig.run(fail_once(rig,
                      {.code = OpCode::allocate, .path_part = "MANIFEST-000001", .error = ENOSPC},
                      first, second, poisoned, edit_number));
  }
  CHECK(first.code == Errc::no_space);
  CHECK(second.code == Errc::ok);
  CHECK_FALSE(poisoned);
  CHECK(open(rig).edit_number == edit_number);
}

TEST_CASE("a new manifest that can't be written leaves the old one in use") {
  for (const sim::PlannedFault& fault :
       {sim::PlannedFault{.code = OpCode::open, .path_part = "MANIFEST-000002", .error = ENOSPC},
        sim::PlannedFault{
            .code = OpCode::allocate, .path_part = "MANIFEST-000002", .error = ENOSPC},
        sim::PlannedFault{.code = OpCode::write, .path_part = "MANIFEST-000002"},
        sim::PlannedFault{.code = OpCode::fsync, .path_part = "MANIFEST-000002"},
        sim::PlannedFault{.code = OpCode::write, .path_part = "CURRENT.tmp", .error = ENOSPC}}) {
    SimRig rig;
    make_new(rig);
    CAPTURE(to_string(fault.code));
    bool poisoned = true;
    uint64_t acknowledged = 0;
    rig.run(roll_with_fault(rig, fault, poisoned, acknowledged));
    CHECK_FALSE(rig.disk().faults().empty());
    CHECK_FALSE(poisoned);
    CHECK(acknowledged == 67);
    rig.cut_power(sim::CrashMode::random);
    CHECK(open(rig).edit_number == 67);
  }
}

TEST_CASE("a rename of CURRENT that fails poisons, and loses nothing") {
  SimRig rig;
  make_new(rig);
  bool poisoned = false;
  uint64_t acknowledged = 0;
  rig.run(roll_with_fault(rig, {.code = OpCode::rename, .path_part = ""}, poisoned, acknowledged));
  CHECK(poisoned);
  CHECK(acknowledged == 66);
  rig.cut_power(sim::CrashMode::random);
  CHECK(open(rig).edit_number == 66);
}

TEST_CASE("edits from many tasks are written one after the other") {
  SimRig rig;
  make_new(rig);
  rig.run(many_at_once());
  rig.cut_power(sim::CrashMode::lost);
  CHECK(open(rig).tables == 100);
}

TEST_CASE("an edit that breaks a rule is refused and leaves no mark") {
  SimRig rig;
  make_new(rig);
  rig.run(refuse_nonsense());
  CHECK(open(rig).edit_number == 2);
}

// --- what is found at start ----------------------------------------------------------------------

TEST_CASE("damage to an acknowledged edit is refused with file, offset and remedy") {
  SimRig rig;
  make_new(rig);
  open(rig, 10);
  const std::string path = directory + "/MANIFEST-000001";
  for (const uint64_t block : {0u, 1u, 5u}) {
    REQUIRE(rig.disk().corrupt(path, block * 4096 + 41, 2));
    const Seen seen = open(rig);
    CHECK_FALSE(seen.opened);
    CHECK(seen.error.code == Errc::corrupt);
    CHECK(seen.error.detail.find(path) != std::string::npos);
    CHECK(seen.error.detail.find(fmt::format("offset {}", block * 4096)) != std::string::npos);
    CHECK(seen.error.detail.find("checkpoint") != std::string::npos);
    REQUIRE(rig.disk().corrupt(path, block * 4096 + 41, 2));
  }
  CHECK(open(rig).edit_number == 11);
}

TEST_CASE("a torn last edit is dropped, and a new manifest begun") {
  SimRig rig;
  make_new(rig);
  open(rig, 10);
  // Edits 2 to 11, the one that adds table 7 in five more blocks.
  const std::string path = directory + "/MANIFEST-000001";
  const std::string content = rig.disk().content(path);
  const size_t last = content.rfind("GyMa");
  REQUIRE(last % 4096 == 0);
  REQUIRE(rig.disk().corrupt(path, last + 50, 1));
  const Seen seen = open(rig, 1);
  CHECK(seen.torn);
  CHECK(seen.manifest_number == 2);
  CHECK(seen.edit_number == 11);
  const Seen again = open(rig);
  CHECK_FALSE(again.torn);
  CHECK(again.edit_number == 11);
  CHECK(names(rig) == std::vector<std::string>{"CURRENT", "MANIFEST-000002"});
}

namespace {

// Opens without room for a new manifest, and gets some later.
Task<void> append_behind_torn_tail(sim::Disk* disk, bool room_comes, Seen* opened, Seen* then) {
  Result<std::unique_ptr<ManifestLog>> log = co_await ManifestLog::open(directory);
  REQUIRE_OR_RETURN(log.has_value());
  look(**log, *opened);
  for (unsigned i = 0; i < 2; ++i) {
    const Result<void> refused = co_await (*log)->append(step(**log));
    REQUIRE_OR_RETURN(!refused);
    CHECK(refused.error().code == Errc::no_space);
    CHECK((*log)->state().edit_number() == opened->edit_number);
  }
  if (room_comes) {
    disk->clear_plans();
    for (unsigned i = 0; i < 3; ++i) {
      const Result<void> appended = co_await (*log)->append(step(**log));
      CHECK(appended.has_value());
    }
  }
  CHECK_FALSE((*log)->poisoned());
  look(**log, *then);
  static_cast<void>(co_await (*log)->close());
}

}  // namespace

TEST_CASE("behind a torn last edit nothing is written until there is room for a new manifest") {
  for (const bool room_comes : {false, true}) {
    CAPTURE(room_comes);
    SimRig rig;
    make_new(rig);
    open(rig, 10);
    const std::string path = directory + "/MANIFEST-000001";
    const std::string before = rig.disk().content(path);
    REQUIRE(rig.disk().corrupt(path, before.rfind("GyMa") + 50, 1));
    const std::string torn = rig.disk().content(path);
    rig.disk().plan(
        {.code = OpCode::allocate, .path_part = "MANIFEST", .error = ENOSPC, .times = UINT32_MAX});
    Seen opened, then;
    rig.run(append_behind_torn_tail(&rig.disk(), room_comes, &opened, &then));
    CHECK(opened.torn);
    CHECK(opened.edit_number == 10);
    if (!room_comes) CHECK(rig.disk().content(path) == torn);
    rig.disk().clear_plans();
    rig.cut_power(sim::CrashMode::lost);
    const Seen again = open(rig);
    REQUIRE(again.opened);
    CHECK(again.torn == !room_comes);
    CHECK(again.edit_number == (room_comes ? 13 : 10));
    CHECK(names(rig).size() == 2);
  }
}

TEST_CASE("leftovers are removed and foreign files are not touched") {
  SimRig rig;
  make_new(rig);
  for (const char* name : {"MANIFEST-000007", "CURRENT.tmp", "000003.table", "000001.log", "notes",
                           "MANIFEST-7", "CURRENT.bak"}) {
    put_file(rig, join_path(directory, name), "what was left");
  }
  CHECK(open(rig, 70).manifest_number == 8);  // no number that was seen is used again
  CHECK(names(rig) == std::vector<std::string>{"000001.log", "000003.table", "CURRENT",
                                               "CURRENT.bak", "MANIFEST-000008", "MANIFEST-7",
                                               "notes"});
}

TEST_CASE("a directory without CURRENT is new only if it holds no data") {
  SimRig rig;
  CHECK(make_new(rig).opened);
  CHECK(make_new(rig).error.code == Errc::already_exists);
  rig.disk().execute({.code = OpCode::unlink, .path = current_path.c_str()});
  CHECK(open(rig).error.code == Errc::not_found);
  put_file(rig, "shard/000003.table", "");
  const Seen seen = make_new(rig);
  CHECK(seen.error.code == Errc::corrupt);
  CHECK(seen.error.detail.find("CURRENT") != std::string::npos);
  rig.disk().execute({.code = OpCode::unlink, .path = "shard/000003.table"});
  CHECK(make_new(rig).manifest_number == 2);
}

TEST_CASE("a CURRENT that names nothing is refused") {
  SimRig rig;
  make_new(rig);
  for (const char* content :
       {"", "MANIFEST-000001", "MANIFEST-1\n", "000001.log\n", "\n", "MANIFEST-000001\nx"}) {
    CAPTURE(content);
    put_file(rig, current_path, content);
    CHECK(open(rig).error.code == Errc::corrupt);
  }
  put_file(rig, current_path, "MANIFEST-000009\n");
  const Seen seen = open(rig);
  CHECK(seen.error.code == Errc::corrupt);
  CHECK(seen.error.detail.find("MANIFEST-000009: missing") != std::string::npos);
}

}  // namespace gyre
