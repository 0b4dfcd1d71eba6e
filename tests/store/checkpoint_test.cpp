// Checkpoints on the simulated machine: what they hold while the original is written to and merged,
// and what a crash, or an error, in the middle of one leaves.
#include "store/checkpoint.hpp"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include "../sim/crash_oracle.hpp"
#include "base/hash.hpp"
#include "shard_rig.hpp"

namespace gyre::test {
namespace {

constexpr uint32_t shard_count = 2;
constexpr const char* copy_path = "copies/first";

ShardOptions options_of(const DataDirectory& directory, const std::string& root, uint32_t shard) {
  ShardOptions options = small_shard_options(DataDirectory::shard_path(root, shard));
  options.identity = directory.shard_identity(shard);
  options.log_salt = directory.log_salt(shard);
  options.memtable_bytes_max = 16u << 10;
  options.compaction.l0_trigger = 2;
  options.compaction.fanout = 2;
  options.compaction.base_bytes_min = 16u << 10;
  options.compaction.table_bytes_target = 8u << 10;
  return options;
}

// A data directory with its shards, all on one core.
struct Store {
  ShardHome home;
  DataDirectory directory;
  std::vector<std::unique_ptr<Shard>> shards;

  Task<Result<void>> open(std::string path) {
    Result<DataDirectory> opened = co_await DataDirectory::open(path, shard_count);
    if (!opened) co_return fail(opened.error());
    directory = std::move(*opened);
    for (uint32_t i = 0; i < directory.shard_count(); ++i) {
      auto shard = co_await Shard::open(options_of(directory, path, i), home.context());
      if (!shard) co_return fail(shard.error());
      shards.push_back(std::move(*shard));
    }
    co_return Result<void>{};
  }
  Task<void> close() {
    for (auto& shard : shards) static_cast<void>(co_await shard->close(false));
    shards.clear();
    co_await directory.close();
  }
  Task<Result<void>> checkpoint(std::string path) {
    Result<CheckpointDirectory> copy = co_await CheckpointDirectory::begin(directory, path);
    if (!copy) co_return fail(copy.error());
    Result<void> done{};
    for (uint32_t i = 0; done && i < shards.size(); ++i) {
      done = co_await shards[i]->checkpoint(copy->shard_path(i));
    }
    if (done) done = co_await copy->finish();
    if (!done) co_await copy->abandon();
    co_return done;
  }
};

// Of each shard; they are asked for the past.
struct Oracles : std::array<CrashOracle, shard_count> {
  Oracles() {
    for (CrashOracle& oracle : *this) oracle.keep_all();
  }
};

struct Writing {
  Store& store;
  Oracles& oracles;
  bool stop = false;
  uint64_t count = 0;
  uint64_t pause_ms = 0;
};

Task<void> write_on(Writing& writing, uint64_t writer) {
  for (uint64_t i = 0; !writing.stop; ++i) {
    const uint64_t dice = hash64(fmt::format("{}/{}", writer, i));
    const uint32_t shard = dice % shard_count;
    const auto value =
        dice % 5 == 0 ? std::nullopt : std::optional(noise(dice, 20 + (dice >> 8) % 600));
    const Errc status =
        co_await write(*writing.store.shards[shard], writing.store.home.memory,
                       writing.oracles[shard], fmt::format("key{}", (dice >> 20) % 200), value);
    if (status == Errc::read_only || status == Errc::closed) co_return;
    ++writing.count;
    if (writing.pause_ms != 0) {
      static_cast<void>(co_await sleep_for(milliseconds(static_cast<int64_t>(writing.pause_ms))));
    }
  }
}

// "" if the shards of `path` hold a prefix of what the oracles know, from `at_least` on.
Task<std::string> check_copy(std::string path, const Oracles& oracles,
                             std::array<uint64_t, shard_count> at_least) {
  Store copy;
  std::string wrong;
  const Result<void> opened = co_await copy.open(std::move(path));
  if (!opened) wrong = "it does not open: " + opened.error().message();
  for (uint32_t i = 0; wrong.empty() && i < copy.shards.size(); ++i) {
    const Result<Contents> found = co_await scan_all(*copy.shards[i]);
    if (!found) {
      wrong = "the scan: " + found.error().message();
      break;
    }
    const uint64_t through = copy.shards[i]->visible_seq();
    const CrashOracle::View expected = oracles[i].view_at(through, 0);
    if (through < at_least[i]) wrong = fmt::format("{} instead of {}", through, at_least[i]);
    if (wrong.empty()) wrong = CrashOracle::differences(expected, *found);
  }
  if (wrong.empty()) {  // it goes on from there
    const Result<Version> put = co_await copy.shards[0]->put("key1", buffer_of("later"));
    if (!put) wrong = "a write: " + put.error().message();
    const auto read = co_await get(*copy.shards[0], "key1");
    if (wrong.empty() && (!read || *read != "later")) wrong = "a write does not show";
  }
  co_await copy.close();
  co_return wrong;
}

Task<void> checkpoint_while_writing(Oracles& oracles) {
  Store store;
  CO_OK(co_await store.open("data"));
  CO_OK(co_await make_directories("copies"));
  Writing writing{store, oracles};
  Scope scope;
  for (uint64_t writer = 0; writer < 4; ++writer) scope.spawn(write_on(writing, writer));
  for (const unsigned copy : {1, 2, 3}) {
    static_cast<void>(co_await sleep_for(milliseconds(400)));
    const uint64_t written_before = writing.count;
    const uint64_t merged_before = store.shards[1]->stats().compactions;
    const std::array<uint64_t, shard_count> acknowledged = {oracles[0].acknowledged_seq(),
                                                            oracles[1].acknowledged_seq()};
    const std::string path = fmt::format("copies/{}", copy);
    CO_OK(co_await store.checkpoint(path));
    CO_CHECK(writing.count > written_before);
    CO_CHECK(store.shards[0]->checkpoint_progress().tables_done > 0);
    CO_CHECK(store.shards[0]->checkpoint_progress().bytes_done ==
             store.shards[0]->checkpoint_progress().bytes);
    if (copy == 3) CO_CHECK(store.shards[1]->stats().compactions > merged_before);
    const std::string wrong = co_await check_copy(path, oracles, acknowledged);
    CHECK_MESSAGE(wrong.empty(), path << ": " << wrong);
  }
  writing.stop = true;
  co_await scope.join();
  for (uint32_t i = 0; i < shard_count; ++i) {
    CO_OK(co_await store.shards[i]->compact());  // removes what the copies have linked
    const Result<Contents> found = co_await scan_all(*store.shards[i]);
    CO_OK(found);
    const CrashOracle::View expected = oracles[i].view_at(UINT64_MAX, 0);
    CHECK(CrashOracle::differences(expected, *found) == "");
  }
  co_await store.close();
}

// The copies were opened, and written to, before.
Task<void> check_copies_again() {
  for (const unsigned copy : {1, 2, 3}) {
    Store store;
    CO_OK(co_await store.open(fmt::format("copies/{}", copy)));
    CO_CHECK(!store.directory.created());
    for (auto& shard : store.shards) CO_OK(co_await scan_all(*shard));
    const auto read = co_await get(*store.shards[0], "key1");
    CO_CHECK(read && *read == "later");
    co_await store.close();
  }
}

}  // namespace

TEST_CASE("a checkpoint is a prefix of each shard's writes while writes and merges go on") {
  for (uint64_t seed = 1; seed <= scaled(4); ++seed) {
    CAPTURE(seed);
    ShardRig rig(seed);
    Oracles oracles;
    CHECK(rig.live(checkpoint_while_writing(oracles)) == LifeEnd::finished);
    rig.cut_power(sim::CrashMode::lost);  // a finished checkpoint is durable
    CHECK(rig.live(check_copies_again()) == LifeEnd::finished);
  }
}

// --- crashes -------------------------------------------------------------------------------------

namespace {

struct CrashCase {
  Oracles oracles;
  std::array<uint64_t, shard_count> acknowledged{};
  bool began = false;
  bool finished = false;
  uint64_t points_before = 0;
  sim::Disk* disk = nullptr;
};

Task<void> fill_and_copy(CrashCase& run) {
  Store store;
  CO_OK(co_await store.open("data"));
  CO_OK(co_await make_directories("copies"));
  Writing writing{store, run.oracles};
  writing.pause_ms = 2;
  Scope scope;
  scope.spawn(write_on(writing, 1));
  static_cast<void>(co_await sleep_for(milliseconds(300)));
  run.points_before = run.disk->write_points();
  run.acknowledged = {run.oracles[0].acknowledged_seq(), run.oracles[1].acknowledged_seq()};
  run.began = true;
  const Result<void> copied = co_await store.checkpoint(copy_path);
  run.finished = copied.has_value();
  writing.stop = true;
  co_await scope.join();
  co_await store.close();
}

Task<void> look_after_crash(CrashCase& run, std::string& wrong) {
  const Result<FileStatus> whole = co_await file_status(copy_path);
  CO_OK(whole);
  if (whole->exists) wrong = co_await check_copy(copy_path, run.oracles, run.acknowledged);
  if (!whole->exists && run.finished) wrong = "it was finished, and is gone";
  if (!wrong.empty()) co_return;
  const std::string incomplete = std::string(copy_path) + ".incomplete";
  const Result<FileStatus> half = co_await file_status(incomplete);
  CO_OK(half);
  bool was_started = false;  // on the incomplete one: then it is no longer a leftover
  if (half->exists) {
    // Its identity is the last thing that is written: with it everything is there.
    const Result<DataDirectory> identity = co_await DataDirectory::read(incomplete);
    if (identity) {
      was_started = true;
      wrong = co_await check_copy(incomplete, run.oracles, run.acknowledged);
      if (!wrong.empty()) wrong = "the incomplete one: " + wrong;
    }
  }
  if (!wrong.empty()) co_return;
  Store original;
  const Result<void> opened = co_await original.open("data");
  if (!opened) {
    wrong = "the original does not open: " + opened.error().message();
    co_return;
  }
  for (uint32_t i = 0; wrong.empty() && i < shard_count; ++i) {
    const Result<Contents> found = co_await scan_all(*original.shards[i]);
    wrong = found ? run.oracles[i].check(*found, original.shards[i]->visible_seq())
                  : found.error().message();
  }
  if (!wrong.empty()) wrong = "the original: " + wrong;
  if (wrong.empty()) {
    const Result<void> again = co_await original.checkpoint(copy_path);
    const bool in_the_way = whole->exists || was_started;
    if (again.has_value() == in_the_way) wrong = "the next checkpoint: unexpected";
    if (!again && (!in_the_way || again.error().code != Errc::already_exists)) {
      wrong = again.error().message();
    }
    // What it replaced is gone for good, and what is there is whole.
    const Result<FileStatus> left = co_await file_status(incomplete);
    if (wrong.empty() && left && left->exists != (in_the_way && half->exists)) {
      wrong = "the leftover";
    }
  }
  co_await original.close();
}

}  // namespace

TEST_CASE("a crash during a checkpoint leaves a whole one or none, and the original unharmed") {
  uint64_t first = 0;
  uint64_t last = 0;
  // Dice for every write, so that what crashes keep differs from one to the next.
  const sim::DiskOptions dice{.short_write_ppm = 1};
  {
    ShardRig rig(1, dice);
    CrashCase run;
    run.disk = &rig.disk();
    REQUIRE(rig.live(fill_and_copy(run)) == LifeEnd::finished);
    REQUIRE(run.finished);
    first = run.points_before;
    last = rig.disk().write_points();
  }
  REQUIRE(last - first > 20);
  unsigned whole = 0;
  unsigned none = 0;
  for (uint64_t point = first; point <= last; ++point) {
    for (const sim::CrashPhase phase :
         {sim::CrashPhase::before, sim::CrashPhase::during, sim::CrashPhase::after}) {
      for (const sim::CrashMode mode : {sim::CrashMode::lost, sim::CrashMode::random}) {
        ShardRig rig(1, dice);
        CrashCase run;
        run.disk = &rig.disk();
        rig.disk().stop_at(point, phase);
        if (rig.live(fill_and_copy(run), mode) != LifeEnd::power_cut) continue;
        FileStatus status;
        rig.disk().stat(copy_path, status);
        (status.exists ? whole : none) += 1;
        std::string wrong;
        CHECK(rig.live(look_after_crash(run, wrong)) == LifeEnd::finished);
        CHECK_MESSAGE(wrong.empty(), "point " << point << " of " << first << " to " << last
                                              << ", phase " << static_cast<int>(phase) << ": "
                                              << wrong);
      }
    }
  }
  CHECK(whole > 0);
  CHECK(none > 0);
}

// --- refusals and errors -------------------------------------------------------------------------

namespace {

Task<void> refusals(sim::Disk& disk) {
  Store store;
  CO_OK(co_await store.open("data"));
  CO_OK(co_await make_directories("copies"));
  CO_OK(co_await put(*store.shards[0], "a", "1"));
  CO_OK(co_await put(*store.shards[1], "b", "2"));

  for (const char* path : {"", "/", "//"}) {
    const Result<void> refused = co_await store.checkpoint(path);
    CO_CHECK(!refused && refused.error().code == Errc::invalid);
  }
  Result<void> refused = co_await store.checkpoint("data");
  CO_CHECK(!refused && refused.error().code == Errc::already_exists);
  refused = co_await store.checkpoint("nowhere/copy");
  CO_CHECK(!refused &&
           refused.error().message().find("nowhere does not exist") != std::string::npos);

  // What fails leaves nothing, and takes nothing from the original.
  for (const OpCode code : {OpCode::link, OpCode::rename, OpCode::make_dir}) {
    const char* part = code == OpCode::link ? "data" : "copies";  // a link is known by its source
    disk.plan({.code = code, .path_part = part, .nth = 2, .error = 28});
    const Result<void> failed = co_await store.checkpoint("copies/x");
    CO_CHECK(!failed && failed.error().os_error == 28);
    disk.clear_plans();
    const Result<std::vector<DirEntry>> left = co_await list_directory("copies");
    CO_OK(left);
    CO_CHECK(left->empty());
    CO_CHECK(!store.shards[0]->read_only() && !store.shards[1]->read_only());
  }
  CO_OK(co_await store.checkpoint("copies/x/"));
  refused = co_await store.checkpoint("copies/x");
  CO_CHECK(!refused && refused.error().code == Errc::already_exists);
  co_await store.close();
}

Task<void> copy_empty_store() {
  Store store;
  CO_OK(co_await store.open("data"));
  CO_OK(co_await store.checkpoint("copy"));
  co_await store.close();
  Store copy;
  CO_OK(co_await copy.open("copy"));
  CO_CHECK(copy.directory.uuid() == store.directory.uuid());
  const Result<Contents> found = co_await scan_all(*copy.shards[0]);
  CO_CHECK(found && found->empty());
  CO_OK(co_await put(*copy.shards[0], "a", "1"));
  co_await copy.close();
}

}  // namespace

TEST_CASE("a checkpoint that can't be made says why and leaves nothing") {
  ShardRig rig;
  CHECK(rig.live(refusals(rig.disk())) == LifeEnd::finished);
}

namespace {

// A directory that a crash left, and one change to it by somebody else.
enum class Change : uint8_t {
  none,
  only_directory,  // the crash was early
  other_node,      // the mark names another data directory
  no_mark,
  foreign_file,
  foreign_in_shard,
  started,    // a node was started on it: it has a log
  under_way,  // the lock is held
};

Task<void> write_text(std::string path, std::string text) {
  auto file = co_await File::open(path, flag_write | flag_create | flag_truncate);
  CO_OK(file);
  CO_OK(co_await file->write_full(0, text));
  CO_OK(co_await file->close());
}

Task<void> meet_leftover(Change change, bool whole) {
  const std::string left = "copies/x.incomplete";
  Store store;
  CO_OK(co_await store.open("data"));
  CO_OK(co_await put(*store.shards[0], "a", "1"));
  CO_OK(co_await make_directories("copies"));
  File held;
  if (change == Change::only_directory) {
    CO_OK(co_await make_directories(left));
  } else {
    Result<CheckpointDirectory> copy =
        co_await CheckpointDirectory::begin(store.directory, "copies/x");
    CO_OK(copy);
    CHECK_FALSE(copy->removed_leftover());
    CO_OK(co_await store.shards[0]->checkpoint(copy->shard_path(0)));
    if (whole) {  // a crash before the rename
      CO_OK(co_await store.directory.write_identity_to(left));
      CO_OK(co_await unlink_file(left + "/CHECKPOINT"));
    }
    if (change == Change::under_way) {
      const Result<void> refused = co_await store.checkpoint("copies/x");
      CHECK(!refused);
      if (!refused) CHECK(refused.error().code == Errc::busy);
      co_await copy->abandon();
      CO_OK(co_await store.checkpoint("copies/x"));
      co_await store.close();
      co_return;
    }
  }
  if (change == Change::other_node) {
    auto other = co_await DataDirectory::open("other", shard_count);
    CO_OK(other);
    CO_OK(co_await other->write_identity_to(left, whole ? "GYRE" : "CHECKPOINT"));
    co_await other->close();
  }
  if (change == Change::no_mark) {
    CO_OK(co_await unlink_file(left + (whole ? "/GYRE" : "/CHECKPOINT")));
  }
  if (change == Change::foreign_file) co_await write_text(left + "/notes", "mine");
  if (change == Change::foreign_in_shard) co_await write_text(left + "/shard-001/notes", "mine");
  if (change == Change::started) co_await write_text(left + "/shard-000/000001.log", "");

  const auto before = co_await list_directory(left + "/shard-000");
  const Result<void> done = co_await store.checkpoint("copies/x");
  const bool is_own = change == Change::none || change == Change::only_directory;
  CHECK(done.has_value() == is_own);
  const Result<FileStatus> status = co_await file_status(left);
  CO_OK(status);
  CHECK(status->exists == !is_own);
  if (!is_own) {
    CHECK(done.error().code == Errc::already_exists);
    CHECK(done.error().message().find(left) != std::string::npos);
    const auto after = co_await list_directory(left + "/shard-000");
    CO_OK(after);
    CHECK(after->size() == before->size());
  }
  for (auto& shard : store.shards) CO_CHECK((co_await shard->verify())->damage_count == 0);
  co_await store.close();
}

}  // namespace

TEST_CASE("a checkpoint removes what an earlier one left of itself, and nothing else") {
  for (const Change change :
       {Change::none, Change::only_directory, Change::other_node, Change::no_mark,
        Change::foreign_file, Change::foreign_in_shard, Change::started, Change::under_way}) {
    for (const bool whole : {false, true}) {
      CAPTURE(static_cast<int>(change));
      CAPTURE(whole);
      ShardRig rig;
      CHECK(rig.live(meet_leftover(change, whole)) == LifeEnd::finished);
    }
  }
}

TEST_CASE("an empty store can be copied") {
  ShardRig rig;
  CHECK(rig.live(copy_empty_store()) == LifeEnd::finished);
}

}  // namespace gyre::test
