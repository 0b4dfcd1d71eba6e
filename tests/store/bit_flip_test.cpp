// Every single bit of a table, a manifest and a log segment of 64 KiB each, flipped: what is read is
// what was written, or an error. Never anything else.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cstdlib>
#include <map>
#include <string>

#include "log_image.hpp"
#include "store/manifest_edit.hpp"
#include "table_support.hpp"

namespace gyre::test {
namespace {

constexpr size_t file_bytes = 64u << 10;

// Under a sanitizer reads are ten times slower: there every 61st bit has to do, which still reaches
// every eighth byte and every bit of a byte.
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
constexpr size_t bit_step = 61;
#else
constexpr size_t bit_step = 1;
#endif

struct Flips {
  uint64_t bits = 0;
  uint64_t noticed = 0;
  uint64_t harmless = 0;  // padding
  uint64_t wrong = 0;
};

enum class Reading : uint8_t { same, error, wrong };

template <class Read>
Flips flip_all(std::string& file, Read&& read) {
  Flips flips;
  for (size_t bit = 0; bit < file.size() * 8; bit += bit_step) {
    char& byte = file[bit / 8];
    const char before = byte;
    byte = static_cast<char>(byte ^ (1 << (bit % 8)));
    const Reading reading = read(bit / 8);
    byte = before;
    ++flips.bits;
    if (reading == Reading::error) ++flips.noticed;
    if (reading == Reading::same) ++flips.harmless;
    if (reading == Reading::wrong) {
      ++flips.wrong;
      CHECK_MESSAGE(flips.wrong > 5, "bit " << bit << " goes unnoticed");
    }
  }
  return flips;
}

void report(const char* what, const Flips& flips) {
  MESSAGE(fmt::format("flipped bits of a {}: {}, {} noticed, {} harmless", what, flips.bits,
                      flips.noticed, flips.harmless));
  CHECK(flips.bits >= file_bytes * 8 / bit_step);
  CHECK(flips.wrong == 0);
}

// Where each data block lies and its first key, so that a damaged place is read first.
std::map<uint64_t, std::string> block_starts(std::string_view file, const TableReader& table,
                                             const std::vector<OwnedEntry>& entries) {
  std::map<uint64_t, std::string> starts;
  for (const OwnedEntry& entry : entries) {
    BlockHandle handle;
    REQUIRE(table.top_index().find_partition(entry.key, handle).value());
    std::string raw(handle.raw_bytes, '\0');
    REQUIRE(decode_block(file.substr(handle.offset, handle.stored_bytes), handle, raw.data()));
    const Result<PartitionView> partition = PartitionView::open(raw, handle.offset);
    REQUIRE(partition->find_block(entry.key, handle).value());
    starts.try_emplace(handle.offset, entry.key);
  }
  return starts;
}

TEST_CASE("every bit of a table of 64 KiB") {
  TestRandom random(16);
  TableOptions options;
  options.block_bytes_target = 1024;
  options.restart_interval = 4;
  options.partition_blocks_max = 8;
  options.large_value_bytes_min = 2000;
  options.chunk_bytes = 1000;
  std::vector<OwnedEntry> entries;
  std::string file;
  for (size_t count = 700; file.size() < file_bytes; count += 20) {
    TestRandom again(16);
    entries = random_entries(again, count, 8, 200);
    for (size_t i = 40; i < entries.size(); i += 90) {
      entries[i].kind = Kind::value;
      entries[i].value = again.bytes(2000 + i);
    }
    file = build_table(options, entries);
  }
  const auto starts = block_starts(file, TableReader::open(file).value(), entries);
  const Flips flips = flip_all(file, [&](size_t at) {
    const auto table = TableReader::open(file);
    if (!table) return table.error().code == Errc::corrupt ? Reading::error : Reading::wrong;
    auto near = starts.upper_bound(at);
    for (unsigned back = 0; back < 2 && near != starts.begin(); ++back) --near;
    if (const auto part = table->scan(near->second); !part) {
      return part.error().code == Errc::corrupt ? Reading::error : Reading::wrong;
    }
    const auto all = table->scan();
    if (!all) return all.error().code == Errc::corrupt ? Reading::error : Reading::wrong;
    return *all == entries ? Reading::same : Reading::wrong;
  });
  report("table", flips);
  CHECK(flips.harmless == 0);  // a table has no padding
}

// --- a manifest ----------------------------------------------------------------------------------

TableRecord some_table(TestRandom& random, uint64_t file_number) {
  TableRecord record;
  record.level = static_cast<uint8_t>(random.below(7));
  record.file_number = file_number;
  record.size_bytes = 1 + random.below(1u << 20);
  record.smallest_key = random.key(40);
  record.largest_key = record.smallest_key + 'z';
  record.version_min = {10, random.next()};
  record.version_max = {20, random.next()};
  record.entry_count = 1 + random.below(1000);
  record.created_ms = test_created_ms;
  return record;
}

TEST_CASE("every bit of a manifest of 64 KiB") {
  constexpr uint64_t number = 3;
  TestRandom random(17);
  std::vector<VersionEdit> edits;
  std::string file;
  size_t last_record = 0;
  for (uint64_t edit_number = 1; file.size() < file_bytes; ++edit_number) {
    VersionEdit edit;
    if (edit_number == 1) edit.snapshot_of.emplace();
    edit.edit_number = edit_number;
    edit.next_file_number = 100 + edit_number;
    edit.hlc_max = 50;
    for (uint64_t i = 0; i < 1 + random.below(60); ++i) {
      edit.added.push_back(some_table(random, edit_number * 100 + i));
    }
    last_record = file.size();
    append_manifest_record(file, number, edit);
    edits.push_back(std::move(edit));
  }
  const Flips flips = flip_all(file, [&](size_t at) {
    ManifestReader reader(file, number);
    for (size_t count = 0;; ++count) {
      VersionEdit edit;
      const auto step = reader.next(edit);
      if (!step) return step.error().code == Errc::corrupt ? Reading::error : Reading::wrong;
      if (*step == ManifestReader::Step::clean_end) {
        return count == edits.size() ? Reading::same : Reading::wrong;
      }
      // Nobody has promised the last edit: it may be torn.
      if (*step == ManifestReader::Step::torn_tail) {
        return count + 1 == edits.size() && at >= last_record ? Reading::error : Reading::wrong;
      }
      if (count >= edits.size() || edit != edits[count]) return Reading::wrong;
    }
  });
  report("manifest", flips);
  CHECK(flips.noticed > flips.bits / 5);
}

// --- a log segment -------------------------------------------------------------------------------

TEST_CASE("every bit of a log segment of 64 KiB") {
  using testing::LogImage;
  TestRandom random(18);
  LogImage log;
  log.add_segment(file_bytes);
  uint64_t hlc = 5;
  while (log.position + 3 * limits::io_alignment_bytes < file_bytes) {
    std::vector<std::string> bytes;
    for (uint64_t i = 0; i < 1 + random.below(4); ++i)
      bytes.push_back(random.bytes(random.below(1800)));
    std::vector<WriteRecord> records;
    for (const std::string& value : bytes) {
      WriteRecord record;
      record.kind = value.size() % 5 == 0 ? Kind::tombstone : Kind::value;
      record.version = {++hlc, 1};
      record.key = std::string_view(value).substr(0, std::min<size_t>(value.size(), 9));
      if (record.kind == Kind::value) record.value = value;
      records.push_back(record);
    }
    log.frame(records);
  }
  log.empty_frame();  // the clean end, which promises all before it
  const Flips flips = flip_all(log.segments[0].bytes, [&](size_t) {
    const testing::ReadBack back = testing::read_back(log.segments);
    if (!back.end) {
      return back.end.error().code == Errc::corrupt ? Reading::error : Reading::wrong;
    }
    return back.records == log.written ? Reading::same : Reading::wrong;
  });
  report("log segment", flips);
  CHECK(flips.noticed > flips.bits / 3);
}

}  // namespace
}  // namespace gyre::test
