// inspect against files that a real shard wrote, whole and with a byte changed.
#include "node/commands/inspect.hpp"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <memory>
#include <string>
#include <vector>

#include "../../store/shard_rig.hpp"
#include "cluster/handoff/missed_log.hpp"
#include "cluster/peers_text.hpp"
#include "cluster/topology_text.hpp"
#include "store/data_directory.hpp"
#include "store/log_format.hpp"

using namespace gyre;
using namespace gyre::test;

namespace {

const std::string shard_path = "data/shard-000";

struct OpenShard {
  DataDirectory directory;
  HybridClock clock{1, 0};
  Semaphore write_memory{64u << 20};
  std::unique_ptr<Shard> shard;
};

Task<Result<void>> open_shard(OpenShard& open) {
  Result<DataDirectory> directory = co_await DataDirectory::open("data", 2);
  if (!directory) co_return fail(directory.error());
  open.directory = std::move(*directory);
  ShardOptions options = small_shard_options(open.directory.shard_path(0));
  options.identity = open.directory.shard_identity(0);
  options.log_salt = open.directory.log_salt(0);
  options.memtable_bytes_max = 8u << 20;  // flushed when the test says so
  options.table.block_bytes_target = 1024;
  options.table.partition_blocks_max = 8;
  Result<std::unique_ptr<Shard>> shard =
      co_await Shard::open(options, {open.write_memory, open.clock});
  if (!shard) co_return fail(shard.error());
  open.shard = std::move(*shard);
  co_return Result<void>{};
}

Task<Result<void>> close_shard(OpenShard& open, bool flush) {
  Result<void> closed = co_await open.shard->close(flush);
  open.shard.reset();
  co_await open.directory.close();
  co_return closed;
}

// 300 keys, the odd ones deleted again, every tenth one expiring, one large value.
Task<Result<void>> write_some(Shard& shard) {
  for (int i = 0; i < 300; ++i) {
    Result<Version> put =
        co_await shard.put(fmt::format("key{:04}", i), ValueBuffer(std::string(100, 'v')),
                           i % 10 == 0 ? 9'000'000'000'000 : 0);
    if (!put) co_return fail(put.error());
  }
  for (int i = 1; i < 300; i += 2) {
    Result<Version> removed = co_await shard.remove(fmt::format("key{:04}", i));
    if (!removed) co_return fail(removed.error());
  }
  Result<Version> large = co_await shard.put("large", ValueBuffer(std::string(150'000, 'L')));
  if (!large) co_return fail(large.error());
  co_return Result<void>{};
}

// A data directory with a table of the writes above, and a log that has them again.
Task<void> make_data() {
  OpenShard open;
  CO_OK(co_await open_shard(open));
  CO_OK(co_await write_some(*open.shard));
  CO_OK(co_await open.shard->flush());
  CO_OK(co_await write_some(*open.shard));
  CO_OK(co_await close_shard(open, false));
}

struct Inspected {
  Result<void> done;
  std::string text;
  std::vector<std::string> damage;
};

Task<Inspected> inspect(std::string path, bool records = false) {
  InspectReport report;
  Result<void> done = co_await inspect_file(std::move(path), records, report);
  co_return Inspected{std::move(done), std::move(report.text), std::move(report.damage)};
}

bool has(const std::string& text, std::string_view part) {
  const bool found = text.find(part) != std::string::npos;
  if (!found) MESSAGE("not found: " << std::string(part) << "\nin: " << text);
  return found;
}

Task<Result<std::string>> load(std::string name) {
  return read_file(shard_path + "/" + name, 64u << 20);
}

// The table without what its last write was padded with.
Task<Result<std::string>> load_table() {
  Result<std::string> content = co_await load("000001.table");
  if (content) content->resize(content->rfind("GyreTabl") + 8);
  co_return content;
}

std::string flipped(std::string content, size_t at) {
  content[at] = static_cast<char>(content[at] ^ 0x10);
  return content;
}

// The segments that hold frames, oldest first.
Task<Result<std::vector<std::string>>> used_segments() {
  Result<std::vector<DirEntry>> entries = co_await list_directory(shard_path);
  if (!entries) co_return fail(entries.error());
  std::vector<std::string> names;
  for (const DirEntry& entry : *entries) {
    if (parse_file_name(entry.name).kind != FileKind::log) continue;
    const Inspected log = co_await inspect(shard_path + "/" + entry.name);
    if (log.text.find("begins at") != std::string::npos) names.push_back(entry.name);
  }
  co_return names;
}

// Offsets of the frames, from what inspect prints of them.
std::vector<size_t> frame_offsets(const std::string& text) {
  std::vector<size_t> offsets;
  constexpr std::string_view mark = " at offset ";
  for (size_t at = text.find("    frame "); at != std::string::npos;
       at = text.find("    frame ", at + 1)) {
    offsets.push_back(std::stoul(text.substr(text.find(mark, at) + mark.size())));
  }
  return offsets;
}

Task<void> check_whole_files() {
  const Inspected table = co_await inspect(shard_path + "/000001.table", true);
  CO_OK(table.done);
  CO_CHECK(table.damage.empty());
  CO_CHECK(has(table.text, "301, of these 150 tombstones, 0 large values, 30 that expire"));
  CO_CHECK(has(table.text, "'key0000' to 'large'"));
  CO_CHECK(has(table.text, "    'key0001'  tombstone  "));
  CO_CHECK(has(table.text, "    'key0010'  value of 100 bytes  "));
  CO_CHECK(has(table.text, "  expires 2255-03-14 16:00:00.000 UTC"));
  CO_CHECK(has(table.text, "    'large'  large value of 150,000 bytes in 000002.values  "));
  CO_CHECK(has(table.text, "in value files       1 values, "));

  const Inspected values = co_await inspect(shard_path + "/000002.values", true);
  CO_OK(values.done);
  CO_CHECK(values.damage.empty());
  CO_CHECK(has(values.text, "value file data/shard-000/000002.values"));
  CO_CHECK(has(values.text, "values               1, "));

  const Result<std::vector<std::string>> names = co_await used_segments();
  CO_OK(names);
  CO_REQUIRE(names->size() >= 2);
  std::string logs;
  for (const std::string& name : *names) {
    const Inspected log = co_await inspect(shard_path + "/" + name, true);
    CO_OK(log.done);
    CO_CHECK(log.damage.empty());
    CO_CHECK((name == names->back()) !=
             (log.text.find("where the next segment begins") != std::string::npos));
    logs += log.text;
  }
  CO_CHECK(has(logs, "'key0002'  value of 100 bytes"));
  CO_CHECK(has(logs, "'key0003'  tombstone"));
  CO_CHECK(has(logs, "'large'  value of 150,000 bytes"));

  const Inspected manifest = co_await inspect(shard_path + "/MANIFEST-000001", true);
  CO_OK(manifest.done);
  CO_CHECK(manifest.damage.empty());
  CO_CHECK(has(manifest.text, "edit 1 at offset 0: the whole state"));
  CO_CHECK(has(manifest.text, "+ level 0 table 1: "));
  CO_CHECK(has(manifest.text, "301 entries, 'key0000' to 'large'"));
  CO_CHECK(has(manifest.text, "0 of 2, data directory "));
}

Task<void> check_value_flips() {
  const Result<std::string> content = co_await load("000002.values");
  CO_OK(content);
  CO_OK(co_await make_directories("copy"));
  const size_t footer = content->size() - 56;
  for (size_t at = 0; at < content->size(); at += at < footer ? 1'499 : 1) {
    const std::string changed = flipped(*content, at);
    CO_OK(co_await replace_file("copy", "000002.values", changed));
    const Inspected values = co_await inspect("copy/000002.values");
    CO_OK(values.done);
    const bool is_padding = (*content)[at] == '\0' && at > 150'100 && at < footer;
    if (values.damage.empty() != is_padding) {
      FAIL_CHECK("a change at offset " << at << " was taken wrongly");
    }
  }
  for (const size_t size : {size_t{0}, size_t{1}, size_t{4096}, content->size() - 1}) {
    CO_OK(co_await replace_file("copy", "000002.values", content->substr(0, size)));
    const Inspected values = co_await inspect("copy/000002.values");
    CO_OK(values.done);
    CO_CHECK(values.damage.size() == 1);
  }
}

Task<void> check_table_flips() {
  const Result<std::string> content = co_await load_table();
  CO_OK(content);
  CO_OK(co_await make_directories("copy"));
  // Every part gets some.
  std::vector<size_t> places;
  for (size_t at = 0; at < content->size(); at += content->size() / 200) places.push_back(at);
  for (size_t back = 1; back <= 88; ++back) places.push_back(content->size() - back);
  for (const size_t at : places) {
    CO_OK(co_await replace_file("copy", "000001.table", flipped(*content, at)));
    const Inspected table = co_await inspect("copy/000001.table");
    // Only a format version of the future is no damage, and that has a checksum too.
    CO_OK(table.done);
    if (table.damage.empty()) FAIL_CHECK("a change at offset " << at << " was not noticed");
    for (const std::string& line : table.damage) {
      CO_CHECK(line.starts_with("copy/000001.table: offset "));
    }
  }
  for (const size_t size : {size_t{0}, size_t{1}, size_t{87}, content->size() - 1}) {
    CO_OK(co_await replace_file("copy", "000001.table", content->substr(0, size)));
    const Inspected table = co_await inspect("copy/000001.table");
    CO_OK(table.done);
    CO_CHECK(table.damage.size() == 1);
  }
  CO_OK(co_await replace_file("copy", "000001.table", *content + std::string(1000, '\0')));
  const Inspected padded = co_await inspect("copy/000001.table");
  CO_OK(padded.done);
  CO_CHECK(padded.damage.empty());

  CO_OK(co_await replace_file("copy", "000002.table", *content));
  const Inspected renamed = co_await inspect("copy/000002.table");
  CO_OK(renamed.done);
  CO_REQUIRE(renamed.damage.size() == 1);
  CO_CHECK(has(renamed.damage[0], "was written as table 1, its name says 2"));
  CO_OK(co_await replace_file("copy", "anything", *content));
  const Inspected unnamed = co_await inspect("copy/anything");
  CO_OK(unnamed.done);
  CO_CHECK(unnamed.damage.empty());
}

// One bad block costs its own entries only.
Task<void> check_damage_is_local() {
  const Result<std::string> content = co_await load_table();
  CO_OK(content);
  CO_OK(co_await make_directories("copy"));
  CO_OK(co_await replace_file("copy", "000001.table", flipped(*content, 100)));
  const Inspected table = co_await inspect("copy/000001.table", true);
  CO_OK(table.done);
  CO_CHECK(table.damage.size() == 1);
  CO_CHECK(has(table.damage[0], "offset 0: data block of "));
  CO_CHECK(has(table.text, "    'key0298'  value of 100 bytes"));
}

Task<void> check_log_flips() {
  const Result<std::vector<std::string>> names = co_await used_segments();
  CO_OK(names);
  CO_REQUIRE(!names->empty());
  const std::string* name = &names->back();
  const Result<std::string> content = co_await load(*name);
  CO_OK(content);
  const std::string path = shard_path + "/" + *name;
  const Inspected whole = co_await inspect(path, true);
  CO_OK(whole.done);
  const std::vector<size_t> frames = frame_offsets(whole.text);
  CO_REQUIRE(frames.size() >= 4);
  // Somebody who wrote later vouches for these.
  for (const size_t frame : {frames[0], frames[1], frames[frames.size() / 2]}) {
    for (const size_t inside : {0, 9, 30, 64, 73}) {
      CO_OK(co_await replace_file(shard_path, *name, flipped(*content, frame + inside)));
      const Inspected log = co_await inspect(path);
      CO_OK(log.done);
      CO_REQUIRE(log.damage.size() == 1);
      CO_CHECK(log.damage[0].starts_with(fmt::format("{}: offset {}: ", path, frame)));
    }
  }
  // Nobody does for the last one: a crash in mid-write looks the same.
  CO_OK(co_await replace_file(shard_path, *name, flipped(*content, frames.back() + 64)));
  const Inspected torn = co_await inspect(path);
  CO_OK(torn.done);
  CO_CHECK(torn.damage.empty());
  CO_CHECK(has(torn.text, fmt::format("ends at              offset {}", frames.back())));

  // Nor for one that was in flight together with the last one, which is whole behind it.
  const Result<DataDirectory> directory = co_await DataDirectory::read("data");
  CO_OK(directory);
  const uint64_t salt = directory->log_salt(0);
  const size_t lost = frames[frames.size() - 2];
  std::string two = *content;
  FrameHeader header;
  CO_REQUIRE(decode_frame_header(std::string_view(two).substr(frames.back()), salt, header));
  header.synced_position -= frames.back() - lost;
  encode_frame_header(two.data() + frames.back(), header, salt);
  CO_OK(co_await replace_file(shard_path, *name, flipped(two, lost + 64)));
  const Inspected both = co_await inspect(path);
  CO_OK(both.done);
  CO_CHECK(both.damage.empty());
  CO_CHECK(has(both.text, fmt::format("ends at              offset {}", lost)));

  // Without the directory's identity nothing can be said.
  CO_OK(co_await make_directories("elsewhere/shard-000"));
  CO_OK(co_await replace_file("elsewhere/shard-000", *name, *content));
  const Inspected homeless = co_await inspect("elsewhere/shard-000/" + *name);
  CO_REQUIRE(!homeless.done);
  CO_CHECK(has(homeless.done.error().detail, "GYRE"));
  // In another shard's directory the salt is another one.
  CO_OK(co_await make_directories("data/shard-001"));
  CO_OK(co_await replace_file("data/shard-001", *name, *content));
  const Inspected foreign = co_await inspect("data/shard-001/" + *name);
  CO_OK(foreign.done);
  CO_CHECK(has(foreign.text, "none: it begins with something else than a whole frame"));
}

Task<void> check_manifest_flips() {
  const Result<std::string> content = co_await load("MANIFEST-000001");
  CO_OK(content);
  CO_OK(co_await make_directories("copy"));
  for (const size_t at : {0, 17, 30, 35, 45}) {
    CO_OK(co_await replace_file("copy", "MANIFEST-000001", flipped(*content, at)));
    const Inspected bad = co_await inspect("copy/MANIFEST-000001");
    CO_OK(bad.done);
    CO_REQUIRE(bad.damage.size() == 1);
    CO_CHECK(bad.damage[0].starts_with("copy/MANIFEST-000001: offset 0: "));
  }
  const Inspected whole = co_await inspect(shard_path + "/MANIFEST-000001");
  CO_OK(whole.done);
  const size_t last = whole.text.rfind("    edit ");
  const size_t at = std::stoul(whole.text.substr(whole.text.find("offset ", last) + 7));
  CO_OK(co_await replace_file("copy", "MANIFEST-000001", flipped(*content, at + 41)));
  const Inspected torn = co_await inspect("copy/MANIFEST-000001");
  CO_OK(torn.done);
  CO_CHECK(torn.damage.empty());
  CO_CHECK(has(torn.text, "torn tail"));
}

Task<void> check_strangers() {
  CO_OK(co_await replace_file("data", "notes.txt", "remember the milk\n"));
  CO_OK(co_await replace_file("data", "nothing", ""));
  const auto refused = [](const Inspected& seen, std::string_view part) {
    return !seen.done && seen.damage.empty() && has(seen.done.error().detail, part);
  };
  CO_CHECK(refused(co_await inspect("data/notes.txt"), "is no table, value file, log segment"));
  CO_CHECK(refused(co_await inspect("data/nothing"), "is empty"));
  CO_CHECK(refused(co_await inspect("data/GYRE"), "identity of a data directory"));
  CO_CHECK(refused(co_await inspect(shard_path + "/CURRENT"), "inspect that one"));
  CO_CHECK(refused(co_await inspect("."), "is neither a data directory nor that of a shard"));
  CO_CHECK(refused(co_await inspect("data/absent"), "does not exist"));
}

void with_data(Task<void> (*check)()) {
  ShardRig rig(7);
  rig.live(make_data());
  rig.live(check());
}

}  // namespace

TEST_CASE("whole files are summarized, with every record on demand") {
  with_data(&check_whole_files);
}

TEST_CASE("no changed byte of a table goes unnoticed") {
  with_data(&check_table_flips);
}

TEST_CASE("damage anywhere in a value file is told, and zeros behind its values are not damage") {
  with_data(&check_value_flips);
}

TEST_CASE("a damaged block does not hide the others") {
  with_data(&check_damage_is_local);
}

TEST_CASE("a damaged frame is told from a torn one by the promises behind it") {
  with_data(&check_log_flips);
}

TEST_CASE("damaged edits are told from a torn tail") {
  with_data(&check_manifest_flips);
}

TEST_CASE("other files are refused with what they are") {
  with_data(&check_strangers);
}

namespace {

Task<void> check_directories(sim::Disk& disk) {
  Inspected whole = co_await inspect("data");
  CO_OK(whole.done);
  // Only one shard was ever opened.
  CO_REQUIRE(whole.damage.size() == 1);
  CO_CHECK(has(whole.damage[0], "data/shard-001/CURRENT: missing"));
  CO_CHECK(has(whole.text, "table data/shard-000/000001.table"));
  CO_CHECK(has(whole.text, "log segment data/shard-000/"));
  CO_CHECK(has(whole.text, "manifest data/shard-000/MANIFEST-"));
  const Inspected sound = co_await inspect(shard_path);
  CO_OK(sound.done);
  CO_CHECK(sound.damage.empty());

  const std::string table = shard_path + "/000001.table";
  CO_CHECK(disk.corrupt(table, 100, 1));
  Inspected damaged = co_await inspect(shard_path);
  CO_CHECK(damaged.damage.size() == 1 && has(damaged.damage[0], table + ": offset "));
  CO_CHECK(disk.corrupt(table, 100, 1));

  // A sound table that is not the one the manifest means, one that nobody means, one that is gone.
  CO_OK(co_await rename_file(table, shard_path + "/000009.table"));
  damaged = co_await inspect(shard_path);
  CO_CHECK(damaged.damage.size() == 1 && has(damaged.damage[0], table + ": missing"));
  CO_CHECK(has(damaged.text, "000009.table: no manifest names it"));
  CO_OK(co_await rename_file(shard_path + "/000009.table", table));

  const std::string values = shard_path + "/000002.values";
  CO_OK(co_await rename_file(values, shard_path + "/000008.values"));
  damaged = co_await inspect(shard_path);
  CO_CHECK(damaged.damage.size() == 1 && has(damaged.damage[0], values + ": missing"));
  CO_CHECK(has(damaged.text, "000008.values: no table names it"));
  CO_OK(co_await rename_file(shard_path + "/000008.values", values));

  const TableRecord other{.file_number = 1, .entry_count = 7};
  InspectReport report;
  CO_OK(co_await inspect_file(table, false, report, &other));
  CO_CHECK(report.damage.size() == 1 &&
           has(report.damage[0], "the manifest remembers another table under this name, of 7"));

  Result<File> lock = co_await lock_file("data/LOCK");
  CO_OK(lock);
  const Inspected busy = co_await inspect("data/");
  CO_CHECK(!busy.done && has(busy.done.error().detail, "is in use by a node"));
  static_cast<void>(co_await lock->close());
}

}  // namespace

TEST_CASE("a directory is inspected with what belongs together in it") {
  ShardRig rig;
  REQUIRE(rig.live(make_data()) == LifeEnd::finished);
  CHECK(rig.live(check_directories(rig.disk())) == LifeEnd::finished);
}

namespace {

Task<void> check_missed_log() {
  Result<std::unique_ptr<cluster::MissedLog>> log =
      co_await cluster::MissedLog::open("handoff", {.fresh = true});
  CO_OK(log);
  const cluster::PeerNumber peer = (*log)->peer(cluster::peer_id("http://b:1"));
  (*log)->missed(peer, 77, "some key", {hlc_from_us(1'700'000'000'123'456), 1});
  CO_OK(co_await (*log)->close(true));
  const Inspected whole = co_await inspect("handoff/missed", true);
  CO_OK(whole.done);
  CO_CHECK(whole.damage.empty());
  CO_CHECK(has(whole.text, "    missed: peer 0, slot 77, 'some key', 2023-11-14 22:13:20.123 UTC"));
  CO_CHECK(has(whole.text, "stopped              cleanly"));
  Result<std::string> content = co_await read_file("handoff/missed", 64u << 10);
  CO_OK(content);
  CO_OK(co_await replace_file("handoff", "missed", flipped(*content, 45)));
  const Inspected bad = co_await inspect("handoff/missed");
  CO_OK(bad.done);
  CO_CHECK(bad.damage.size() == 1 && has(bad.damage[0], "handoff/missed: offset 0: "));
}

}  // namespace

namespace {

// What a node of a cluster keeps beside its shards, and what does not count.
Task<void> add_cluster_files() {
  for (const std::string shard : {"0", "1"}) {
    Result<std::unique_ptr<cluster::MissedLog>> log =
        co_await cluster::MissedLog::open("data/handoff/shard-00" + shard, {.fresh = true});
    CO_OK(log);
    CO_OK(co_await (*log)->close(true));
  }
  const cluster::KnownPeers known{.state = cluster::JoinState::complete,
                                  .peers = {{.uuid = {0xab}, .url = "http://b:1"}}};
  CO_OK(co_await replace_file("data", "PEERS", print_peers(known)));
  const cluster::Topology topology =
      *cluster::make_topology({{.url = "http://a:1"}, {.url = "http://b:1"}});
  CO_OK(co_await replace_file("data", "TOPOLOGY", print_topology(topology)));
  CO_OK(co_await replace_file("data", "notes.txt", "remember the milk\n"));
  CO_OK(co_await replace_file("data/handoff/shard-000", "missed.tmp", "half a f"));
  CO_OK(co_await replace_file(shard_path, "MANIFEST-000099", ""));
  CO_OK(co_await replace_file(shard_path, "core.1234", ""));
}

Task<void> check_cluster_directory() {
  co_await add_cluster_files();
  const Inspected whole = co_await inspect("data");
  CO_OK(whole.done);
  CO_CHECK(whole.damage.size() == 1);  // the shard that was never opened
  CO_CHECK(has(whole.text, "missed log data/handoff/shard-000/missed\n"));
  CO_CHECK(has(whole.text, "missed log data/handoff/shard-001/missed\n"));
  CO_CHECK(has(whole.text, "known peers data/PEERS\n  state                complete\n"));
  CO_CHECK(has(whole.text, "ab000000000000000000000000000000 http://b:1\n"));
  CO_CHECK(has(whole.text, "topology data/TOPOLOGY\n"));
  CO_CHECK(has(whole.text, "data/notes.txt: not of Gyre"));
  CO_CHECK(has(whole.text, "data/handoff/shard-000/missed.tmp: left by a write"));
  CO_CHECK(has(whole.text, "MANIFEST-000099: not the manifest that counts"));
  CO_CHECK(has(whole.text, "core.1234: not of Gyre"));

  uint64_t files = 4;
  Result<std::vector<DirEntry>> entries = co_await list_directory(shard_path);
  CO_OK(entries);
  for (const DirEntry& entry : *entries) {
    const FileKind kind = parse_file_name(entry.name).kind;
    files += kind == FileKind::table || kind == FileKind::values || kind == FileKind::log;
  }
  files += 1;  // the manifest
  CO_CHECK(has(whole.text, fmt::format("data: {} files of ", files)));
  CO_CHECK(has(whole.text, ", 1 places damaged\n"));

  for (const std::string name :
       {"handoff/shard-000/missed", "handoff/shard-001/missed", "PEERS", "TOPOLOGY"}) {
    const size_t slash = ("data/" + name).rfind('/');
    const std::string directory = ("data/" + name).substr(0, slash);
    const std::string base = ("data/" + name).substr(slash + 1);
    Result<std::string> content = co_await read_file("data/" + name, 64u << 10);
    CO_OK(content);
    // Also where the first bytes no longer say what it is.
    for (const size_t at : {0u, 45u}) {
      CO_OK(co_await replace_file(directory, base, flipped(*content, at)));
      const Inspected damaged = co_await inspect("data");
      CO_OK(damaged.done);
      CO_REQUIRE(damaged.damage.size() == 2);
      CO_CHECK(damaged.damage[0].starts_with("data/" + name + ":"));
      CO_CHECK(damaged.damage[0].find("is no table") == std::string::npos);
      CO_CHECK(has(damaged.text, ", 2 places damaged\n"));
    }
    CO_OK(co_await replace_file(directory, base, *content));
  }

  CO_OK(co_await unlink_file("data/handoff/shard-000/missed"));
  CO_OK(co_await rename_file("data/handoff/shard-001", "data/handoff/aside"));
  const Inspected lost = co_await inspect("data");
  CO_REQUIRE(lost.damage.size() == 3);
  CO_CHECK(has(lost.damage[0], "data/handoff/shard-000/missed: missing"));
  CO_CHECK(has(lost.damage[1], "data/handoff/shard-001/missed: missing"));
  CO_CHECK(has(lost.text, "data/handoff/aside: not of Gyre"));
  CO_OK(co_await rename_file("data/handoff", "data/aside"));
  const Inspected without = co_await inspect("data");
  CO_REQUIRE(without.damage.size() == 2);
  CO_CHECK(has(without.damage[0], "data/handoff: missing, but the node has peers"));
}

}  // namespace

TEST_CASE("of a node in a cluster, what it knows of the others is inspected with its shards") {
  with_data(&check_cluster_directory);
}

TEST_CASE("a missed log is inspected entry by entry") {
  ShardRig rig;
  CHECK(rig.live(check_missed_log()) == LifeEnd::finished);
}

TEST_CASE("versions and times are readable") {
  CHECK(format_time_ms(0) == "1970-01-01 00:00:00.000 UTC");
  CHECK(format_time_ms(1'700'000'000'123) == "2023-11-14 22:13:20.123 UTC");
  CHECK(format_time_ms(UINT64_MAX) == "18446744073709551615 ms");
  CHECK(format_version({hlc_from_us(1'700'000'000'123'456) + 5,
                        uint64_t{0xabcd} << 32 | uint64_t{3} << 20 | 17}) ==
        "2023-11-14 22:13:20.123 UTC +5 by 0000abcd/3/17");
  CHECK(format_version(HybridClock(0xabcd, 511).next(1'700'000'000'123'456, 5)) ==
        "2023-11-14 22:13:20.123 UTC +0 by 0000abcd/511/1 for 5 nodes");
}
