// A disk that fails, a file that rots, a directory that is not ours: writes stop, reads go on,
// nothing acknowledged is lost, and nothing wrong is ever answered.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cerrno>

#include "../sim/crash_oracle.hpp"
#include "shard_rig.hpp"

namespace gyre::test {
namespace {

std::string key_of(uint64_t i) {
  return fmt::format("key{:02}", i % 12);
}

ShardOptions fault_options() {
  ShardOptions options = small_shard_options();
  options.memtable_bytes_max = 16u << 10;
  options.compaction.l0_trigger = 2;
  return options;
}

// --- operations that fail ------------------------------------------------------------------------

struct FaultRun {
  CrashOracle oracle;
  std::string error;
  bool became_read_only = false;
  bool opened = false;
  bool struck_at_work = false;  // not only in the close
};

Task<std::string> compare(Shard& shard, const CrashOracle& oracle) {
  const auto found = co_await scan_all(shard);
  if (!found) co_return found.error().message();
  co_return oracle.check(*found, shard.visible_seq());
}

Task<void> life_with_faults(FaultRun& run, sim::Disk& disk) {
  ShardHome home(2u << 20);
  auto shard = co_await Shard::open(fault_options(), home.context());
  if (!shard) co_return;  // the fault struck the start
  run.opened = true;
  for (uint64_t i = 0; i < 160 && !(*shard)->read_only(); ++i) {
    const size_t size = i % 15 == 7 ? 400'000 : 100 + i * 53 % 700;
    static_cast<void>(co_await write(**shard, home.memory, run.oracle, key_of(i * 5),
                                     i % 6 == 5 ? std::nullopt : std::optional(noise(i, size))));
    if (i % 20 == 19) static_cast<void>(co_await (*shard)->flush());
    if (i % 45 == 44) static_cast<void>(co_await (*shard)->compact());
  }
  run.became_read_only = (*shard)->read_only();
  run.struck_at_work = !disk.faults().empty();
  if (run.became_read_only) {
    // Reads go on, and every kind of write says so.
    run.error = co_await compare(**shard, run.oracle);
    const auto refused = co_await put(**shard, "late", "x");
    if (refused || refused.error().code != Errc::read_only) run.error += " a put was taken";
    if (co_await (*shard)->flush() || co_await (*shard)->compact()) run.error += " work was done";
    if ((*shard)->read_only_reason().empty()) run.error += " nobody knows why";
  }
  static_cast<void>(co_await (*shard)->close(true));
}

Task<void> life_after(FaultRun& run) {
  ShardHome home(2u << 20);
  auto shard = co_await Shard::open(fault_options(), home.context());
  if (!shard) {
    run.error = "it does not open again: " + shard.error().message();
    co_return;
  }
  run.error = co_await compare(**shard, run.oracle);
  // A full disk leaves a full level 0.
  if (Result<void> merged = co_await (*shard)->settle(); !merged) {
    run.error += " settling: " + merged.error().message();
  }
  const Result<Version> written = co_await put(**shard, "after", "1");
  if (!written) run.error += " no writes: " + written.error().message();
  if (Result<void> merged = co_await (*shard)->compact(); !merged) {
    run.error += " compaction: " + merged.error().message();
  }
  if (Result<void> closed = co_await (*shard)->close(false); !closed) run.error += " close";
}

enum class Stops : uint8_t {
  never,
  perhaps,
  sometimes,
  always
};  // if it strikes while the shard works

struct FaultKind {
  OpCode code;
  const char* path_part;
  int error;
  Stops stops_writes;
};

// Fails the nth such operation for every n, then restarts, half of the times after a power cut.
void sweep_faults(const FaultKind& kind) {
  CAPTURE(to_string(kind.code));
  CAPTURE(kind.path_part);
  unsigned struck = 0;
  unsigned read_only = 0;
  const uint32_t step = test_scale() >= 1.0 ? 1 : 3;
  for (uint32_t nth = 1; nth < 400; nth += step) {
    CAPTURE(nth);
    ShardRig rig(nth);
    FaultRun run;
    rig.disk().plan(
        {.code = kind.code, .path_part = kind.path_part, .nth = nth, .error = kind.error});
    CHECK(rig.live(life_with_faults(run, rig.disk())) == LifeEnd::finished);
    if (rig.disk().faults().empty()) break;
    ++struck;
    read_only += run.became_read_only;
    CHECK(run.error == "");
    if (kind.stops_writes == Stops::always && run.struck_at_work && nth > 12) {
      CHECK(run.became_read_only);
    }
    rig.disk().clear_plans();
    if (nth % 2 == 0) rig.cut_power(sim::CrashMode::lost);
    run.error.clear();
    CHECK(rig.live(life_after(run)) == LifeEnd::finished);
    CHECK(run.error == "");
    if (nth > 100) nth += 10;  // more of the same
  }
  CHECK(struck > 0);
  if (kind.stops_writes == Stops::never) CHECK(read_only == 0);
  if (kind.stops_writes == Stops::sometimes) CHECK((read_only > 0 && read_only < struck));
}

TEST_CASE("writes of the log fail") {
  sweep_faults({OpCode::write, ".log", EIO, Stops::always});
  sweep_faults({OpCode::write, ".log", ENOSPC, Stops::perhaps});  // not if it makes a segment
}

TEST_CASE("a segment can't be made") {
  sweep_faults({OpCode::fsync, ".log", EIO, Stops::perhaps});
  sweep_faults({OpCode::allocate, ".log", ENOSPC, Stops::never});
  sweep_faults({OpCode::open, ".log", EACCES, Stops::perhaps});
  sweep_faults({OpCode::rename, ".log", EIO, Stops::always});
}

TEST_CASE("a table can't be written") {
  // In a flush that ends the writes, in a compaction it does not; a full disk never does.
  sweep_faults({OpCode::open, ".table", EACCES, Stops::sometimes});
  sweep_faults({OpCode::write, ".table", ENOSPC, Stops::never});
  sweep_faults({OpCode::write, ".table", EIO, Stops::sometimes});
  sweep_faults({OpCode::fsync, ".table", EIO, Stops::sometimes});
}

TEST_CASE("descriptors that are missing for a moment stop nothing") {
  for (const char* file : {".log", ".table", "MANIFEST", "shard"}) {
    sweep_faults({OpCode::open, file, EMFILE, Stops::never});
  }
}

Task<void> close_on_full_disk(sim::Disk* disk) {
  ShardHome home;
  auto shard = co_await Shard::open(fault_options(), home.context());
  CO_OK(shard);
  CO_OK(co_await put(**shard, "key", "value"));
  disk->plan({.code = OpCode::write, .path_part = ".table", .error = ENOSPC, .times = UINT32_MAX});
  CO_OK(co_await (*shard)->close(true));
}

Task<void> open_after_full_disk() {
  ShardHome home;
  auto shard = co_await Shard::open(fault_options(), home.context());
  CO_OK(shard);
  const auto found = co_await get(**shard, "key");
  CO_OK(found);
  CHECK(*found == "value");
  CO_OK(co_await (*shard)->close(true));
}

TEST_CASE("closing on a full disk is a clean close: the log has what no table could take") {
  ShardRig rig;
  CHECK(rig.live(close_on_full_disk(&rig.disk())) == LifeEnd::finished);
  CHECK(!rig.disk().faults().empty());
  rig.disk().clear_plans();
  CHECK(rig.live(open_after_full_disk()) == LifeEnd::finished);
}

TEST_CASE("the manifest can't be written") {
  sweep_faults({OpCode::write, "MANIFEST", EIO, Stops::always});
  sweep_faults({OpCode::write, "MANIFEST", ENOSPC, Stops::always});
  sweep_faults({OpCode::allocate, "MANIFEST", ENOSPC, Stops::perhaps});
  sweep_faults({OpCode::fsync, "MANIFEST", EIO, Stops::perhaps});  // only a new one is synced
}

TEST_CASE("the directory can't be synced") {
  sweep_faults({OpCode::fsync, "shard", EIO, Stops::perhaps});
}

TEST_CASE("a table that can't be removed is removed later") {
  sweep_faults({OpCode::unlink, ".table", EIO, Stops::never});
}

// --- a full disk ---------------------------------------------------------------------------------

// Writes until the disk is full and for a while after. What a full disk refuses it refuses at once,
// and says why; what was taken is there, and with room again writes are taken, in the same life.
Task<void> fill_disk(FaultRun& run, sim::Disk* disk) {
  ShardHome home(2u << 20);
  auto shard = co_await Shard::open(fault_options(), home.context());
  if (!shard) co_return;
  uint64_t refused = 0;
  for (uint64_t i = 0; i < 1000 && refused < 20; ++i) {
    const Errc status = co_await write(**shard, home.memory, run.oracle, fmt::format("fill{}", i),
                                       noise(i, 50'000));
    CHECK((status == Errc::ok || status == Errc::overloaded));
    if (status == Errc::overloaded) {
      ++refused;
      // Before the disk is full merging may be behind.
      if (refused > 5) CHECK((*shard)->refusal_reason().starts_with("the disk is full"));
      co_await sleep_for(milliseconds(200));
    }
  }
  CHECK(refused == 20);
  CHECK(!(*shard)->read_only());
  run.error = co_await compare(**shard, run.oracle);
  disk->options.capacity_bytes = 100u << 20;
  co_await sleep_for(seconds(20));
  const auto written = co_await put(**shard, "with room", "1");
  if (!written) run.error += " with room: " + written.error().message();
  if (written) CO_OK(co_await (*shard)->remove("with room"));
  CO_OK(co_await (*shard)->flush());
  run.error += co_await compare(**shard, run.oracle);
  static_cast<void>(co_await (*shard)->close(true));
}

TEST_CASE("a full disk refuses writes, serves reads, and with room again takes writes") {
  for (uint64_t seed = 1; seed <= scaled(6, 2); ++seed) {
    CAPTURE(seed);
    ShardRig rig(seed, {.capacity_bytes = (10u << 20) + seed * 100'000});
    FaultRun run;
    CHECK(rig.live(fill_disk(run, &rig.disk())) == LifeEnd::finished);
    CHECK(run.error == "");
    run.error.clear();
    rig.live(life_after(run));
    CHECK(run.error == "");
  }
}

// --- reads that fail -----------------------------------------------------------------------------

Task<void> fill_tables(bool flush) {
  ShardHome home;
  ShardOptions options = fault_options();
  auto shard = co_await Shard::open(options, home.context());
  CO_OK(shard);
  for (uint64_t i = 0; i < 60; ++i) {
    CO_OK(co_await put(**shard, fmt::format("k{:03}", i), noise(i, i == 30 ? 200'000 : 400)));
  }
  if (flush) CO_OK(co_await (*shard)->compact());
  CO_OK(co_await (*shard)->close(flush));
}

// Right or an error, never wrong. Answers how many reads failed.
Task<void> read_rotten(unsigned& failed, std::string& message, bool& opened) {
  ShardHome home;
  auto shard = co_await Shard::open(fault_options(), home.context());
  opened = shard.has_value();
  if (!shard) {
    ++failed;
    message = shard.error().message();
    CHECK(shard.error().code == Errc::corrupt);
    co_return;
  }
  for (uint64_t i = 0; i < 60; ++i) {
    const auto read = co_await get(**shard, fmt::format("k{:03}", i));
    if (!read) {
      ++failed;
      message = read.error().message();
      CHECK(read.error().code == Errc::corrupt);
      continue;
    }
    CO_CHECK(*read == noise(i, i == 30 ? 200'000 : 400));
  }
  const auto all = co_await scan_all(**shard);
  if (!all) CHECK(all.error().code == Errc::corrupt);
  if (all) CHECK(all->size() == 60);
  // Writes are not disturbed.
  CO_OK(co_await put(**shard, "new", "1"));
  CO_OK(co_await (*shard)->close(true));
}

TEST_CASE("bit rot in a table is noticed wherever it is") {
  sim::Prng prng(1, "offsets");
  unsigned noticed = 0;
  const uint64_t cases = scaled(80, 20);
  for (uint64_t i = 0; i < cases; ++i) {
    ShardRig rig(2);
    rig.live(fill_tables(true));
    std::vector<DirEntry> entries;
    rig.disk().list_dir("shard", entries);
    std::erase_if(entries, [](const DirEntry& e) { return !e.name.ends_with(".table"); });
    REQUIRE(!entries.empty());
    const DirEntry& victim = entries[prng.below(entries.size())];
    const std::string path = "shard/" + victim.name;
    const uint64_t offset = prng.below(victim.size_bytes);
    CAPTURE(path);
    CAPTURE(offset);
    REQUIRE(rig.disk().corrupt(path, offset, static_cast<char>(1 << prng.below(8))));
    unsigned failed = 0;
    std::string message;
    bool opened = false;
    rig.live(read_rotten(failed, message, opened));
    if (failed == 0) continue;  // padding, or a filter that now says yes more often
    ++noticed;
    CHECK(message.find(victim.name) != std::string::npos);
    CHECK(message.find("offset") != std::string::npos);
  }
  CHECK(noticed > cases / 2);
}

Task<void> read_with_errors(unsigned& failed) {
  ShardHome home;
  auto shard = co_await Shard::open(fault_options(), home.context());
  if (!shard) {
    ++failed;
    co_return;
  }
  for (uint64_t i = 0; i < 60; ++i) {
    const auto read = co_await get(**shard, fmt::format("k{:03}", i));
    if (read) CO_CHECK(*read == noise(i, i == 30 ? 200'000 : 400));
    if (!read) ++failed;
  }
  CHECK(!(*shard)->read_only());  // a read that fails says nothing about writes
  CO_OK(co_await (*shard)->close(false));
}

TEST_CASE("a read that fails fails alone") {
  ShardRig rig(3);
  rig.live(fill_tables(true));
  rig.disk().options.read_error_ppm = 100'000;
  unsigned failed = 0;
  for (unsigned i = 0; i < 10; ++i) rig.live(read_with_errors(failed));
  CHECK(failed > 0);
  rig.disk().options.read_error_ppm = 0;
  failed = 0;
  rig.live(read_with_errors(failed));
  CHECK(failed == 0);
}

Task<void> compact_rotten(bool& recovers) {
  ShardHome home;
  auto shard = co_await Shard::open(fault_options(), home.context());
  CO_OK(shard);
  const Result<void> done = co_await (*shard)->compact();
  CHECK(!done);
  if (!done) CHECK(done.error().code == Errc::io);
  CHECK((*shard)->stats().compactions_failed > 0);
  CHECK(!(*shard)->read_only());
  CO_OK(co_await put(**shard, "written", "meanwhile"));
  recovers = false;
  for (unsigned i = 0; i < 10 && !recovers; ++i) {
    co_await sleep_for(seconds(20));
    recovers = (*shard)->stats().compactions > (*shard)->stats().compactions_failed;
  }
  CO_OK(co_await (*shard)->settle());
  CO_CHECK((*co_await scan_all(**shard)).size() == 61);
  CO_OK(co_await (*shard)->close(false));
}

Task<void> write_tombstones() {
  ShardHome home;
  auto shard = co_await Shard::open(fault_options(), home.context());
  CO_OK(shard);
  for (uint64_t i = 0; i < 60; ++i) {
    CO_OK(co_await put(**shard, fmt::format("k{:03}", i), noise(i, i == 30 ? 200'000 : 400)));
  }
  CO_OK(co_await (*shard)->close(true));
}

TEST_CASE("a compaction that can't read a table is tried again, and writes go on") {
  ShardRig rig(9);
  rig.live(fill_tables(true));
  rig.live(write_tombstones());
  rig.disk().plan({.code = OpCode::read, .path_part = ".table", .nth = 12, .times = 1});
  bool recovers = false;
  rig.live(compact_rotten(recovers));
  CHECK(recovers);
}

// --- the log rots --------------------------------------------------------------------------------

// A frame of 4 KiB per record; the clean end promises them all.
Task<void> fill_log(unsigned records) {
  ShardHome home;
  auto shard = co_await Shard::open(small_shard_options(), home.context());
  CO_OK(shard);
  for (unsigned i = 0; i < records; ++i) CO_OK(co_await put(**shard, key_of(i), noise(i, 500)));
  CO_OK(co_await (*shard)->close(false));
}

// For a rig that kills it: no clean end.
Task<void> fill_log_and_wait(unsigned records) {
  ShardHome home;
  auto shard = co_await Shard::open(small_shard_options(), home.context());
  CO_OK(shard);
  for (unsigned i = 0; i < records; ++i) CO_OK(co_await put(**shard, key_of(i), noise(i, 500)));
  co_await sleep_for(seconds(3));
  static_cast<void>(co_await (*shard)->close(false));
}

Task<void> open_once(std::string& message, uint64_t& records) {
  ShardHome home;
  auto shard = co_await Shard::open(small_shard_options(), home.context());
  if (!shard) {
    CHECK(shard.error().code == Errc::corrupt);
    message = shard.error().message();
    co_return;
  }
  records = (*shard)->stats().records_recovered;
  CO_OK(co_await (*shard)->close(false));
}

TEST_CASE(
    "damage to acknowledged records is no torn tail: the start is refused, file and offset named") {
  for (uint64_t frame = 0; frame < 10; ++frame) {
    CAPTURE(frame);
    ShardRig rig(4);
    rig.live(fill_log(10));
    const std::string before = rig.disk().content("shard/000001.log");
    REQUIRE(rig.disk().corrupt("shard/000001.log", frame * 4096 + 100 + frame * 40, 0x10));
    const std::string damaged = rig.disk().content("shard/000001.log");
    std::string message;
    uint64_t records = 0;
    rig.live(open_once(message, records));
    CHECK(message.find("000001.log") != std::string::npos);
    CHECK(message.find(fmt::format("{}", frame * 4096)) != std::string::npos);
    CHECK(rig.disk().content("shard/000001.log") == damaged);  // nothing was changed
    // Undone by hand, the data is back.
    REQUIRE(rig.disk().corrupt("shard/000001.log", frame * 4096 + 100 + frame * 40, 0x10));
    CHECK(rig.disk().content("shard/000001.log") == before);
    message.clear();
    rig.live(open_once(message, records));
    CHECK(message == "");
    CHECK(records == 10);
  }
}

TEST_CASE("behind the end of the log anything may lie") {
  ShardRig rig(5);
  rig.live(fill_log(10));
  for (uint64_t offset = 12 * 4096; offset < 40 * 4096; offset += 3001) {
    REQUIRE(rig.disk().corrupt("shard/000001.log", offset, 0x55));
  }
  std::string message;
  uint64_t records = 0;
  rig.live(open_once(message, records));
  CHECK(message == "");
  CHECK(records == 10);
}

TEST_CASE("an end that nobody promised is a torn tail") {
  ShardRig rig(6);
  rig.kill_after(seconds(2));
  CHECK(rig.live(fill_log_and_wait(10)) == LifeEnd::killed);
  // The last record's frame and the empty one that promises it, as after a crash.
  for (const uint64_t frame : {9, 10}) {
    for (uint64_t at = 0; at < 4096; at += 7) {
      REQUIRE(rig.disk().corrupt("shard/000001.log", frame * 4096 + at, 0x3c));
    }
  }
  std::string message;
  uint64_t records = 0;
  rig.live(open_once(message, records));
  CHECK(message == "");
  CHECK(records == 9);
}

// --- a directory that is not ours ----------------------------------------------------------------

Task<void> open_as(ShardIdentity identity, Errc& code, std::string& message) {
  ShardHome home;
  ShardOptions options = small_shard_options();
  options.identity = identity;
  auto shard = co_await Shard::open(options, home.context());
  code = shard ? Errc::ok : shard.error().code;
  if (!shard) message = shard.error().message();
  if (shard) CO_OK(co_await (*shard)->close(false));
}

TEST_CASE("a shard of another directory, or another shard of this one, is refused") {
  ShardRig rig(7);
  rig.live(fill_log(3));
  ShardIdentity identity = small_shard_options().identity;
  Errc code = Errc::ok;
  std::string message;
  rig.live(open_as(identity, code, message));
  CHECK(code == Errc::ok);
  for (unsigned change = 0; change < 3; ++change) {
    ShardIdentity other = identity;
    if (change == 0) other.uuid[5] ^= 1;
    if (change == 1) other.index = 1, other.count = 2;
    if (change == 2) other.count = 2;
    rig.live(open_as(other, code, message));
    CHECK(code == Errc::invalid);
    CHECK(message.find("shard") != std::string::npos);
  }
  rig.live(open_as(identity, code, message));
  CHECK(code == Errc::ok);
}

}  // namespace
}  // namespace gyre::test
