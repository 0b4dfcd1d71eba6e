// Starts on a disk that has no room: for the tables of a long log, for a segment, for a manifest
// edit. Everything is there and can be read, writes are refused with the reason, and are taken once
// there is room, in the same life or in a later one.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cerrno>

#include "../sim/crash_oracle.hpp"
#include "shard_rig.hpp"
#include "store/file_names.hpp"

namespace gyre::test {
namespace {

// With little of it the memory for writes ends before the log's segments do.
constexpr uint64_t little_memory = 2u << 20;
constexpr uint64_t much_memory = 8u << 20;

// As a core has it: what a flush gives back while it writes is on credit.
struct Home : ShardHome {
  explicit Home(uint64_t memory_bytes) : ShardHome(memory_bytes), credit(memory_bytes / 4) {}
  ~Home() { CHECK(credit.available() == credit.capacity()); }
  ShardContext context() {
    ShardContext out = ShardHome::context();
    out.flush_credit = &credit;
    return out;
  }
  Semaphore credit;
};

ShardOptions start_options() {
  ShardOptions options = small_shard_options();
  options.memtable_bytes_max = 128u << 10;
  options.compaction.l0_trigger = 2;
  return options;
}

struct FullRun {
  uint64_t memory_bytes = little_memory;
  CrashOracle oracle;
  uint64_t writes = 0;
  std::string error;
  uint64_t records_recovered = 0;
  uint64_t flushes_without_space = 0;  // by the start
  bool began_without_segment = false;
};

Task<std::string> compare(Shard& shard, const CrashOracle& oracle) {
  const auto found = co_await scan_all(shard);
  if (!found) co_return found.error().message();
  co_return oracle.check(*found, shard.visible_seq());
}

Task<Errc> write_some(Shard& shard, Home& home, FullRun& run, size_t value_bytes) {
  const uint64_t i = run.writes++;
  co_return co_await write(shard, home.memory, run.oracle, fmt::format("key{}", i % 700),
                           i % 9 == 8 ? std::nullopt : std::optional(noise(i, value_bytes)));
}

Task<bool> is_killed() {
  const Result<FileStatus> status = co_await file_status("shard");
  co_return !status;
}

// As much as is free, or nothing.
void leave_room(sim::Disk& disk, uint64_t bytes) {
  disk.options.capacity_bytes -= disk.free_bytes();
  disk.options.capacity_bytes += bytes;
}

// Until it is killed. After so many writes nothing more fits on the disk.
Task<void> write_until_killed(FullRun* run, sim::Disk* disk, uint64_t writes,
                              size_t value_bytes = 20'000) {
  Home home(run->memory_bytes);
  auto shard = co_await Shard::open(start_options(), home.context());
  CO_OK(shard);
  for (;;) {
    if (run->writes == writes) leave_room(*disk, 0);
    const Errc status = co_await write_some(**shard, home, *run, value_bytes);
    if (status == Errc::ok) continue;
    if (status != Errc::overloaded || co_await is_killed()) break;
    static_cast<void>(co_await sleep_for(milliseconds(200)));
  }
  static_cast<void>(co_await (*shard)->close(false));
}

Task<void> check_refusals(Shard& shard, Home& home, FullRun& run) {
  unsigned refused = 0;
  for (unsigned i = 0; i < 1000 && refused < 10; ++i) {
    const Errc status = co_await write_some(shard, home, run, 20'000);
    CHECK((status == Errc::ok || status == Errc::overloaded));
    if (status != Errc::overloaded) continue;
    ++refused;
    if (refused > 5) CHECK(shard.refusal_reason().starts_with("the disk is full"));
    static_cast<void>(co_await sleep_for(milliseconds(200)));
  }
  CHECK(refused == 10);
  CHECK(!shard.full_disk_reason().empty());
  CHECK(!shard.read_only());
}

Task<void> start_when_full(FullRun* run, sim::Disk* disk, bool room_comes) {
  Home home(run->memory_bytes);
  auto shard = co_await Shard::open(start_options(), home.context());
  if (!shard) {
    run->error = "it does not start: " + shard.error().message();
    co_return;
  }
  run->records_recovered = (*shard)->stats().records_recovered;
  run->flushes_without_space = (*shard)->stats().flushes_without_space;
  run->began_without_segment = (*shard)->full_disk_reason().find(".log") != std::string::npos;
  run->error = co_await compare(**shard, run->oracle);
  run->oracle.adopt((*shard)->visible_seq());
  co_await check_refusals(**shard, home, *run);
  run->error += co_await compare(**shard, run->oracle);
  if (room_comes) {
    disk->options.capacity_bytes = 200u << 20;
    co_await sleep_for(seconds(20));
    CO_OK(co_await (*shard)->flush());
    CHECK((*shard)->full_disk_reason().empty());
    for (unsigned i = 0; i < 100; ++i) {
      CO_CHECK(co_await write_some(**shard, home, *run, 5'000) == Errc::ok);
    }
    run->error += co_await compare(**shard, run->oracle);
  }
  CO_OK(co_await (*shard)->close(run->writes % 2 == 0));
}

Task<void> start_with_room(FullRun* run) {
  Home home(run->memory_bytes);
  auto shard = co_await Shard::open(start_options(), home.context());
  if (!shard) {
    run->error = "it does not start with room: " + shard.error().message();
    co_return;
  }
  run->error = co_await compare(**shard, run->oracle);
  run->oracle.adopt((*shard)->visible_seq());
  CO_OK(co_await (*shard)->flush());
  CO_OK(co_await (*shard)->settle());  // a full disk leaves a full level 0
  for (unsigned i = 0; i < 20; ++i) {
    CO_CHECK(co_await write_some(**shard, home, *run, 5'000) == Errc::ok);
  }
  run->error += co_await compare(**shard, run->oracle);
  CO_OK(co_await (*shard)->close(true));
}

}  // namespace

TEST_CASE("a start on a full disk keeps the log in memory, reads, refuses writes, and goes on") {
  unsigned without_table = 0;
  unsigned without_segment = 0;
  for (uint64_t seed = 1; seed <= scaled(6, 3); ++seed) {
    for (const uint64_t room_bytes : {0u, 4'096u, 100'000u, 400'000u, 2'000'000u}) {
      CAPTURE(seed);
      CAPTURE(room_bytes);
      ShardRig rig(seed);
      FullRun run;
      run.memory_bytes = seed % 2 == 0 ? little_memory : much_memory;
      rig.kill_after(seconds(60));
      CHECK(rig.live(write_until_killed(&run, &rig.disk(), 30 + seed * 37)) == LifeEnd::killed);
      if (seed % 4 < 2) rig.cut_power(sim::CrashMode::lost);
      leave_room(rig.disk(), room_bytes);
      CHECK(rig.live(start_when_full(&run, &rig.disk(), seed % 3 != 0)) == LifeEnd::finished);
      CHECK(run.error == "");
      CHECK(run.records_recovered > 0);
      without_table += run.flushes_without_space != 0;
      without_segment += run.began_without_segment;
      rig.disk().options.capacity_bytes = 200u << 20;
      run.error.clear();
      CHECK(rig.live(start_with_room(&run)) == LifeEnd::finished);
      CHECK(run.error == "");
    }
  }
  MESSAGE(without_table << " starts without room for a table, " << without_segment
                        << " without a segment");
  CHECK(without_table > 0);
  CHECK(without_segment > 0);
}

// --- and is killed as soon as there is room ------------------------------------------------------

namespace {

Task<void> start_and_get_room(FullRun* run, sim::Disk* disk) {
  Home home(run->memory_bytes);
  auto shard = co_await Shard::open(start_options(), home.context());
  if (!shard) co_return;  // killed already
  run->began_without_segment = (*shard)->full_disk_reason().find(".log") != std::string::npos;
  run->oracle.adopt((*shard)->visible_seq());
  disk->options.capacity_bytes = 200u << 20;
  while (!co_await is_killed()) {
    if (co_await write_some(**shard, home, *run, 5'000) != Errc::ok) {
      static_cast<void>(co_await sleep_for(milliseconds(10)));
    }
  }
  static_cast<void>(co_await (*shard)->close(false));
}

}  // namespace

TEST_CASE("a log that was kept in memory stays on the disk until its tables are there") {
  unsigned without_segment = 0;
  for (uint64_t step = 1; step <= scaled(30, 10); ++step) {
    CAPTURE(step);
    ShardRig rig(step);
    FullRun run;
    run.memory_bytes = much_memory;
    rig.kill_after(seconds(60));
    CHECK(rig.live(write_until_killed(&run, &rig.disk(), 100)) == LifeEnd::killed);
    leave_room(rig.disk(), 0);
    rig.kill_after(milliseconds(static_cast<int64_t>(20 * step)));
    CHECK(rig.live(start_and_get_room(&run, &rig.disk())) == LifeEnd::killed);
    without_segment += run.began_without_segment;
    rig.disk().options.capacity_bytes = 200u << 20;
    CHECK(rig.live(start_with_room(&run)) == LifeEnd::finished);
    CHECK(run.error == "");
  }
  MESSAGE(without_segment << " starts without a segment");
  CHECK(without_segment > 0);
}

// --- with less memory ----------------------------------------------------------------------------

namespace {

Task<void> start_with_memory(FullRun* run, uint64_t bytes) {
  Home home(bytes);
  auto shard = co_await Shard::open(start_options(), home.context());
  if (!shard) {
    CHECK(shard.error().code == Errc::no_space);
    run->error = shard.error().message();
    co_return;
  }
  run->error = "it starts";
  CO_OK(co_await (*shard)->close(false));
}

}  // namespace

TEST_CASE("a start on a full disk without the memory for its log is refused, and loses nothing") {
  ShardRig rig(5);
  FullRun run;
  const sim::PlannedFault no_tables{
      .code = OpCode::write, .path_part = ".table", .error = ENOSPC, .times = UINT32_MAX};
  rig.disk().plan(no_tables);
  rig.kill_after(seconds(60));
  CHECK(rig.live(write_until_killed(&run, &rig.disk(), UINT64_MAX, 400)) == LifeEnd::killed);
  rig.disk().clear_plans();
  for (const uint64_t bytes : {run.memory_bytes / 4, run.memory_bytes}) {
    rig.disk().plan(no_tables);
    CHECK(rig.live(start_with_memory(&run, bytes)) == LifeEnd::finished);
    CAPTURE(run.error);
    const bool refused = run.error.find("as much --memory as before") != std::string::npos;
    CHECK(refused == (bytes < run.memory_bytes));
    rig.disk().clear_plans();
  }
  rig.disk().options.capacity_bytes = 200u << 20;
  CHECK(rig.live(start_with_room(&run)) == LifeEnd::finished);
  CHECK(run.error == "");
}

// --- no room for a manifest edit -----------------------------------------------------------------

namespace {

Task<void> write_and_flush(FullRun* run, bool flush) {
  Home home(run->memory_bytes);
  auto shard = co_await Shard::open(start_options(), home.context());
  CO_OK(shard);
  for (unsigned i = 0; i < 10; ++i) {
    CO_CHECK(co_await write_some(**shard, home, *run, 5'000) == Errc::ok);
  }
  if (flush) CO_OK(co_await (*shard)->flush());
  co_await sleep_for(seconds(1'000));  // until it is killed
  static_cast<void>(co_await (*shard)->close(false));
}

const std::string manifest_path = "shard/" + manifest_file_name(1);

// As a copy has it: edits are no longer allocated ahead.
Task<void> cut_allocation(std::string content) {
  const size_t used = content.find_last_not_of('\0') + 1;
  auto file = co_await File::open(manifest_path, flag_write);
  CO_OK(file);
  CO_OK(co_await file->truncate((used + 4095) / 4096 * 4096));
  CO_OK(co_await file->sync());
  CO_OK(co_await file->close());
}

Task<void> start_and_compare(FullRun* run) {
  Home home(run->memory_bytes);
  auto shard = co_await Shard::open(start_options(), home.context());
  CO_OK(shard);
  run->error = co_await compare(**shard, run->oracle);
  CO_OK(co_await (*shard)->close(false));
}

}  // namespace

TEST_CASE("a start that finds no room for its manifest edit goes without, and keeps its log") {
  for (const bool flush : {false, true}) {
    CAPTURE(flush);
    // The flush takes so long that the log ends with an empty frame, which the manifest promises.
    ShardRig rig(3, {.sync = {seconds(1), seconds(1)}});
    FullRun run;
    rig.kill_after(seconds(100));
    CHECK(rig.live(write_and_flush(&run, flush)) == LifeEnd::killed);
    for (unsigned start = 0; start < 2; ++start) {
      CHECK(rig.live(cut_allocation(rig.disk().content(manifest_path))) == LifeEnd::finished);
      leave_room(rig.disk(), 0);
      CHECK(rig.live(start_and_compare(&run)) == LifeEnd::finished);
      CHECK(run.error == "");
      FileStatus status;
      CHECK(rig.disk().stat(manifest_path, status) == 0);
      CHECK(status.size_bytes < 100'000);
    }
    rig.disk().options.capacity_bytes = 200u << 20;
    CHECK(rig.live(start_with_room(&run)) == LifeEnd::finished);
    CHECK(run.error == "");
  }
}

}  // namespace gyre::test
