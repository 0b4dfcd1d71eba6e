// The store's files on the real kernel: O_DIRECT, preallocation, the io_uring backend.
#include <cstdlib>
#include <filesystem>

#include "runtime/uring/backend.hpp"
#include "store/manifest_log.hpp"
#include "table_rig.hpp"

namespace gyre {
using namespace test;

namespace {

// Works in a new directory, and removes it.
class TemporaryDirectory {
 public:
  TemporaryDirectory() : before_(std::filesystem::current_path()) {
    std::string name = std::filesystem::temp_directory_path() / "gyre-store-XXXXXX";
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path_ = name;
    std::filesystem::current_path(path_);
  }
  ~TemporaryDirectory() {
    std::filesystem::current_path(before_);
    std::filesystem::remove_all(path_);
  }

 private:
  std::filesystem::path before_;
  std::filesystem::path path_;
};

Task<void> table_round_trip() {
  const auto entries = make_entries(5'000, 400, 700'000);
  TableWriterOptions options;
  options.size_bytes_estimate = 1u << 20;
  const Result<TableRecord> record = co_await write_new_shard_table(12, entries, options);
  REQUIRE_OR_RETURN(record.has_value());
  const std::string path = join_path(shard_directory, table_file_name(12));
  CHECK(std::filesystem::file_size(path) == (record->size_bytes + 4095) / 4096 * 4096);
  TableWorld world;
  {
    const Result<TableRef> table = co_await TableFile::open(world.host, *record);
    REQUIRE_OR_RETURN(table.has_value());
    for (const bool compaction : {true, false}) {
      const Result<std::vector<OwnedEntry>> walked = co_await read_all(
          *table, compaction ? TableCursorOptions::for_compaction() : TableCursorOptions());
      REQUIRE_OR_RETURN(walked.has_value());
      CHECK((*walked == entries));
    }
    uint64_t found_count = 0;
    for (const OwnedEntry& entry : entries) {
      OwnedEntry found;
      const Result<bool> hit = co_await get(*table, entry.key, found);
      found_count += hit && *hit && found == entry;
    }
    CHECK(found_count == entries.size());
  }
  co_await world.host.drain();
}

Task<void> manifest_round_trip() {
  {
    Result<std::unique_ptr<ManifestLog>> log = co_await ManifestLog::create(shard_directory, {});
    // The table of the other test has no manifest yet.
    REQUIRE_OR_RETURN(!log.has_value());
    CHECK(log.error().code == Errc::corrupt);
    const Result<void> removed =
        co_await unlink_file(join_path(shard_directory, table_file_name(12)));
    CHECK(removed.has_value());
    log = co_await ManifestLog::create(shard_directory, {});
    REQUIRE_OR_RETURN(log.has_value());
    for (unsigned i = 0; i < 100; ++i) {
      VersionEdit edit;
      edit.flushed_through_seq = i + 1;
      const Result<void> appended = co_await (*log)->append(edit);
      REQUIRE_OR_RETURN(appended.has_value());
    }
    const Result<void> closed = co_await (*log)->close();
    CHECK(closed.has_value());
  }
  Result<std::unique_ptr<ManifestLog>> log = co_await ManifestLog::open(shard_directory);
  REQUIRE_OR_RETURN(log.has_value());
  CHECK((*log)->state().edit_number() == 101);
  CHECK((*log)->state().flushed_through_seq() == 100);
  CHECK((*log)->manifest_number() == 2);
  const Result<void> closed = co_await (*log)->close();
  CHECK(closed.has_value());
}

Task<void> all_of_it() {
  co_await table_round_trip();
  co_await manifest_round_trip();
  static_cast<void>(co_await sleep_for(milliseconds(50)));  // closes in the background
}

}  // namespace

TEST_CASE("tables and the manifest work on the kernel's files") {
  const TemporaryDirectory directory;
  const int64_t frames_before = frames_live();
  {
    uring::UringNode node(1);
    uring::UringBackend backend({.node = &node});
    Reactor reactor(backend, {});
    reactor.run(all_of_it());
    CHECK(reactor.operations_in_flight() == 0);
    CHECK(reactor.descriptors_open == 0);
  }
  CHECK(frames_live() == frames_before);
}

}  // namespace gyre
