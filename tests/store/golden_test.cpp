// Data directories that earlier versions wrote: golden/format-1 is the first of every format,
// golden/format-2 and golden/format-3 have tables of these formats. They open and hold what was put into them. That today's
// program writes the same bytes is tested with fixed input where each format is (log_format,
// frame_builder, manifest_edit, table_format, table_builder); here for the two texts.
//
//   GYRE_GOLDEN_WRITE=DIRECTORY test_store_golden      writes the files anew, for a new format
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "shard_rig.hpp"
#include "store/await_write.hpp"
#include "store/data_directory.hpp"

namespace gyre::test {
namespace {

const std::vector<std::string> golden_files = {
    "GYRE",
    "shard-000/CURRENT",
    "shard-000/MANIFEST-000001",
    "shard-000/000001.log",
    "shard-000/000001.table",
    "shard-000/000002.values",  // since format 3
};

ShardOptions golden_options(const DataDirectory& directory) {
  ShardOptions options;
  options.directory = directory.shard_path(0);
  options.identity = directory.shard_identity(0);
  options.log_salt = directory.log_salt(0);
  options.table.block_bytes_target = 256;
  options.table.large_value_bytes_min = 1000;
  options.table.chunk_bytes = 500;
  options.separate_value_bytes_min = 28;
  options.table.codec = Codec::none;  // the library's output may change, our bytes may not
  return options;
}

constexpr uint64_t first_hlc = hlc_from_us(1'700'000'000'000'000);
constexpr uint64_t expires_in_2100_ms = 4'102'444'800'000;

// Keys 0 to 9 are in the table, the others in the log. 3 and 13 are removed, 5 and 15 expire. The
// values of 7, 8 and 9 are in the value file, if there is one.
std::string golden_key(uint64_t i) {
  return fmt::format("key{:02}", i);
}
std::string golden_value(uint64_t i) {
  return std::string(i == 7 ? 2'500 : 20 + i, static_cast<char>('a' + i));
}
constexpr uint64_t golden_keys = 16;

Task<Errc> golden_write(Shard& shard, uint64_t i, bool removes) {
  AwaitWrite write(shard);
  write.record.kind = removes ? Kind::tombstone : Kind::value;
  write.record.version = {first_hlc + 2 * i + (removes ? 1 : 0), 0x0000'0001'0000'0000 + i};
  write.key_storage = golden_key(i);
  write.record.key = write.key_storage;
  if (!removes) {
    write.buffer = buffer_of(golden_value(i));
    write.record.value_buffer = &write.buffer;
    if (i % 10 == 5) write.record.expire_at_ms = expires_in_2100_ms;
  }
  co_return co_await write;
}

Task<void> write_golden() {
  auto directory = co_await DataDirectory::open("data", 1);
  CO_OK(directory);
  ShardHome home;
  auto shard = co_await Shard::open(golden_options(*directory), home.context());
  CO_OK(shard);
  for (uint64_t i = 0; i < golden_keys; ++i) {
    CO_CHECK(co_await golden_write(**shard, i, false) == Errc::ok);
    if (i % 10 == 3) CO_CHECK(co_await golden_write(**shard, i, true) == Errc::ok);
    if (i == 9) CO_OK(co_await (*shard)->flush());
  }
  CO_OK(co_await (*shard)->close(false));
  co_await directory->close();
}

Task<void> read_golden(bool with_values) {
  auto directory = co_await DataDirectory::open("data", 7);
  CO_OK(directory);
  CHECK_FALSE(directory->created());
  CHECK(directory->shard_count() == 1);
  ShardHome home;
  auto shard = co_await Shard::open(golden_options(*directory), home.context());
  CO_OK(shard);
  CHECK((*shard)->levels().table_count() == 1);
  if (with_values) {
    CHECK((*shard)->tables().value_totals().files == 1);
    CHECK((*shard)->levels().level(0)[0]->properties().value_references[0].value_count == 3);
  }
  CHECK((*shard)->stats().records_recovered == golden_keys - 10 + 1);
  const uint64_t now_ms = Reactor::current().wall_ms();
  for (const uint64_t at_ms : {now_ms, expires_in_2100_ms}) {
    for (uint64_t i = 0; i < golden_keys; ++i) {
      const auto read = co_await get_at(**shard, golden_key(i), at_ms);
      CO_OK(read);
      const bool gone = i % 10 == 3 || (i % 10 == 5 && at_ms == expires_in_2100_ms);
      CHECK(read->has_value() == !gone);
      if (*read) CHECK(**read == golden_value(i));
    }
  }
  CO_OK(co_await put(**shard, "new", "value"));
  CO_OK(co_await (*shard)->compact());
  CO_CHECK((*co_await scan_all(**shard)).size() == golden_keys - 2 + 1);
  CO_OK(co_await (*shard)->close(true));
  co_await directory->close();
}

std::string stored(const std::string& format, const std::string& name) {
  std::ifstream in(std::filesystem::path(GYRE_GOLDEN_DIRECTORY) / format / name, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// Segments and manifests are allocated ahead: zeros at their end are not stored, but for one page.
std::string without_zeros(std::string bytes) {
  constexpr size_t page = limits::io_alignment_bytes;
  const size_t used = bytes.find_last_not_of('\0') + 1;
  bytes.resize(std::min(bytes.size(), (used + page - 1) / page * page + page));
  return bytes;
}

Task<void> place_files(std::string format) {
  CO_OK(co_await make_directories("data/shard-000"));
  for (const std::string& name : golden_files) {
    const std::string bytes = stored(format, name);
    if (bytes.empty() && name.ends_with(".values") && format != "format-3") continue;
    CHECK_MESSAGE(!bytes.empty(), name);
    Result<File> file = co_await File::open("data/" + name, flag_write | flag_create);
    CO_OK(file);
    CO_OK(co_await file->write_full(0, bytes));
    CO_OK(co_await file->close());
  }
}

TEST_CASE("a directory that an earlier version wrote opens and holds what it held") {
  for (const char* format : {"format-1", "format-2", "format-3"}) {
    ShardRig rig(1);
    CHECK(rig.live(place_files(format)) == LifeEnd::finished);
    const bool with_values = std::string(format) == "format-3";
    CHECK(rig.live(read_golden(with_values)) == LifeEnd::finished);
  }
}

TEST_CASE("GYRE and CURRENT are the texts of version 1") {
  ShardRig rig(1);
  CHECK(rig.live(write_golden()) == LifeEnd::finished);
  CHECK(rig.disk().content("data/shard-000/CURRENT") == stored("format-1", "shard-000/CURRENT"));
  const std::string gyre = rig.disk().content("data/GYRE");
  const std::string golden = stored("format-1", "GYRE");
  CHECK(gyre.size() == golden.size());
  // Line by line, but for what is random in it.
  size_t at = 0;
  for (const char* line :
       {"gyre data directory\n", "format 1\n", "uuid ", "shards 1\n", "salt ", "checksum "}) {
    CAPTURE(line);
    CHECK(golden.find(line, at) == at);
    CHECK(gyre.find(line, at) == at);
    at = golden.find('\n', at) + 1;
  }
  const char* target = std::getenv("GYRE_GOLDEN_WRITE");
  for (size_t i = 0; target != nullptr && i < golden_files.size(); ++i) {
    const std::filesystem::path path = std::filesystem::path(target) / golden_files[i];
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary)
        << without_zeros(rig.disk().content("data/" + golden_files[i]));
  }
}

}  // namespace
}  // namespace gyre::test
