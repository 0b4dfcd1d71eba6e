// Tables in memory for tests and fuzz targets: build one, read it back the way the I/O layer does,
// but with the whole file at hand.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "store/block.hpp"
#include "store/bloom.hpp"
#include "store/table_builder.hpp"
#include "store/table_format.hpp"
#include "store/table_index.hpp"

namespace gyre::test {

// An entry that owns its bytes. A large value is `Kind::value` with all its bytes.
struct OwnedEntry {
  std::string key;
  Kind kind = Kind::value;
  Version version;
  uint64_t expire_at_ms = 0;
  std::string value;

  Entry view() const { return {key, kind, version, expire_at_ms, value}; }
  friend bool operator==(const OwnedEntry&, const OwnedEntry&) = default;
};

inline constexpr uint64_t test_file_number = 7;
inline constexpr uint64_t test_created_ms = 1'700'000'000'000;

inline std::string build_table(const TableOptions& options, const std::vector<OwnedEntry>& entries,
                               TableProperties* properties = nullptr) {
  TableBuilder builder(options, test_file_number);
  std::string file;
  for (const OwnedEntry& entry : entries) {
    builder.add(entry.view());
    // Pieces like those of a writer that needs aligned ones.
    const size_t piece = builder.pending().size() / 512 * 512;
    file.append(builder.pending().substr(0, piece));
    builder.consume(piece);
  }
  builder.finish(test_created_ms, 42);
  file.append(builder.pending());
  if (properties != nullptr) *properties = builder.properties();
  return file;
}

class TableReader {
 public:
  static Result<TableReader> open(std::string_view file) {
    TableReader reader;
    reader.file_ = file;
    const Result<TableFooter> footer = parse_footer(file, file.size(), test_file_number);
    if (!footer) return fail(footer.error());
    Result<std::string> top = reader.load(footer->top_index);
    if (!top) return fail(top.error());
    Result<TopIndex> top_index = TopIndex::open(std::move(*top), *footer);
    if (!top_index) return fail(top_index.error());
    reader.top_index_ = std::move(*top_index);
    const Result<std::string> bytes = reader.load(footer->properties);
    if (!bytes) return fail(bytes.error());
    Result<TableProperties> properties = TableProperties::decode(*bytes);
    if (!properties) return fail(properties.error());
    reader.properties_ = std::move(*properties);
    return reader;
  }

  const TableProperties& properties() const { return properties_; }
  const TopIndex& top_index() const { return top_index_; }

  Result<std::optional<OwnedEntry>> get(std::string_view key) const {
    BlockHandle handle;
    const Result<bool> has_partition = top_index_.find_partition(key, handle);
    if (!has_partition) return fail(has_partition.error());
    if (!*has_partition) return std::nullopt;
    const Result<std::string> raw_partition = load(handle);
    if (!raw_partition) return fail(raw_partition.error());
    const Result<PartitionView> partition = PartitionView::open(*raw_partition, handle.offset);
    if (!partition) return fail(partition.error());
    if (!partition->may_contain(bloom_hash(key))) return std::nullopt;
    const Result<bool> has_block = partition->find_block(key, handle);
    if (!has_block) return fail(has_block.error());
    if (!*has_block) return std::nullopt;
    const Result<std::string> raw = load(handle);
    if (!raw) return fail(raw.error());
    const Result<BlockView> block = BlockView::open(*raw);
    if (!block) return fail(block.error());
    Entry entry;
    const Result<bool> found = block->find(key, entry);
    if (!found) return fail(found.error());
    if (!*found) return std::nullopt;
    Result<OwnedEntry> owned = own(entry, handle.offset);
    if (!owned) return fail(owned.error());
    return std::optional<OwnedEntry>(std::move(*owned));
  }

  // Everything from `first` on, with all cross-checks that a scrub makes.
  Result<std::vector<OwnedEntry>> scan(std::string_view first = {}) const {
    std::vector<OwnedEntry> out;
    const Result<uint32_t> start = top_index_.partitions().lower_bound(first);
    if (!start) return fail(start.error());
    for (uint32_t p = *start; p < top_index_.partitions().size(); ++p) {
      const Result<IndexEntry> entry = top_index_.partitions().entry(p);
      if (!entry) return fail(entry.error());
      const Result<std::string> raw = load(entry->handle);
      if (!raw) return fail(raw.error());
      const Result<PartitionView> partition = PartitionView::open(*raw, entry->handle.offset);
      if (!partition) return fail(partition.error());
      if (Result<void> checked = partition->blocks().check(); !checked)
        return fail(checked.error());
      if (Result<void> read = scan_partition(*partition, first, out); !read) {
        return fail(read.error());
      }
    }
    return out;
  }

 private:
  Result<std::string> load(const BlockHandle& handle) const {
    if (handle.offset > file_.size() || handle.stored_bytes > file_.size() - handle.offset) {
      return fail(Errc::corrupt, "block outside the file");
    }
    std::string raw(handle.raw_bytes, '\0');
    const Result<void> decoded =
        decode_block(file_.substr(handle.offset, handle.stored_bytes), handle, raw.data());
    if (!decoded) return fail(decoded.error());
    return raw;
  }

  Result<void> scan_partition(const PartitionView& partition, std::string_view first,
                              std::vector<OwnedEntry>& out) const {
    const Result<uint32_t> start = partition.blocks().lower_bound(first);
    if (!start) return fail(start.error());
    for (uint32_t b = *start; b < partition.blocks().size(); ++b) {
      const Result<IndexEntry> entry = partition.blocks().entry(b);
      if (!entry) return fail(entry.error());
      const Result<std::string> raw = load(entry->handle);
      if (!raw) return fail(raw.error());
      const Result<BlockView> block = BlockView::open(*raw);
      if (!block) return fail(block.error());
      BlockCursor cursor(*block);
      for (cursor.seek(first); cursor.valid(); cursor.next()) {
        if (!partition.may_contain(bloom_hash(cursor.key())) || cursor.key() > entry->separator) {
          return fail(Errc::corrupt, "filter or separator contradicts the block");
        }
        Result<OwnedEntry> owned = own(cursor.entry(), entry->handle.offset);
        if (!owned) return fail(owned.error());
        out.push_back(std::move(*owned));
      }
      if (cursor.failed()) return fail(cursor.error());
    }
    return {};
  }

  // Fetches a large value chunk by chunk.
  Result<OwnedEntry> own(const Entry& entry, uint64_t block_offset) const {
    OwnedEntry out{std::string(entry.key), entry.kind, entry.version, entry.expire_at_ms,
                   std::string(entry.value)};
    if (entry.kind != Kind::large) return out;
    out.kind = Kind::value;
    out.value.clear();
    const Result<LargeHandle> handle = LargeHandle::decode(entry.value, block_offset);
    if (!handle) return fail(handle.error());
    const std::string_view list = file_.substr(handle->list_offset(), handle->list_bytes());
    if (Result<void> good = check_large_list(*handle, list); !good) return fail(good.error());
    for (uint64_t i = 0; i < handle->chunk_count(); ++i) {
      const auto chunk = file_.substr(handle->chunk_offset(i), handle->chunk_size_bytes(i));
      if (Result<void> good = check_large_chunk(*handle, list, i, chunk); !good) {
        return fail(good.error());
      }
      out.value.append(chunk);
    }
    return out;
  }

  std::string_view file_;
  TopIndex top_index_;
  TableProperties properties_;
};

// A generator of its own, so that golden tables don't hang on a library's distributions.
class TestRandom {
 public:
  explicit TestRandom(uint64_t seed) : state_(seed) {}
  uint64_t next() {  // SplitMix64
    uint64_t z = (state_ += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  uint64_t below(uint64_t limit) { return next() % limit; }
  std::string bytes(size_t size) {
    std::string out(size, '\0');
    for (char& byte : out) byte = static_cast<char>(next());
    return out;
  }
  // Bytes of few kinds, so that keys share prefixes and are often neighbours.
  std::string key(size_t size_max) {
    static constexpr char alphabet[] = {'\0', '\1', 'a', 'b', '\x7f', '\x80', '\xfe', '\xff'};
    std::string out(below(size_max + 1), '\0');
    for (char& byte : out) byte = alphabet[below(sizeof alphabet)];
    return out;
  }

 private:
  uint64_t state_;
};

// Sorted, distinct keys; values, tombstones, expiries in a mixture.
inline std::vector<OwnedEntry> random_entries(TestRandom& random, size_t count,
                                              size_t key_bytes_max, size_t value_bytes_max) {
  std::vector<OwnedEntry> out;
  for (size_t i = 0; i < count; ++i) {
    OwnedEntry entry;
    entry.key = random.key(key_bytes_max);
    entry.version = {hlc_from_us(1'000'000 + random.below(1000)), random.next()};
    if (random.below(5) == 0) {
      entry.kind = Kind::tombstone;
    } else {
      const std::string pattern = random.bytes(1 + random.below(8));
      for (size_t left = random.below(value_bytes_max + 1); left > 0;) {
        entry.value.append(pattern, 0, left);
        left -= std::min(left, pattern.size());
      }
      if (random.below(4) == 0) entry.expire_at_ms = 1 + random.below(uint64_t{1} << 60);
    }
    out.push_back(std::move(entry));
  }
  std::sort(out.begin(), out.end(),
            [](const OwnedEntry& a, const OwnedEntry& b) { return a.key < b.key; });
  out.erase(std::unique(out.begin(), out.end(),
                        [](const OwnedEntry& a, const OwnedEntry& b) { return a.key == b.key; }),
            out.end());
  return out;
}

}  // namespace gyre::test
