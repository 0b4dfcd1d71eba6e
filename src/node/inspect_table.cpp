// Tables under `gyre inspect`: every block is read and checked, every entry visited, and what was
// found is compared with what the table says about itself.
#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include <gyre/time.hpp>

#include "base/coding.hpp"
#include "node/client_commands.hpp"
#include "node/inspect.hpp"
#include "node/progress.hpp"
#include "store/block.hpp"
#include "store/bloom.hpp"
#include "store/table_format.hpp"
#include "store/table_index.hpp"

namespace gyre {

namespace {

class TableInspection {
 public:
  explicit TableInspection(InspectedFile& in) : in_(in) {}

  Task<Result<void>> run(std::string tail);

 private:
  Task<Result<std::optional<std::string>>> block(BlockHandle handle, const char* what);
  Task<Result<void>> partition(IndexEntry entry);
  Task<Result<void>> data_block(IndexEntry entry, const PartitionView& partition);
  void visit(const Entry& entry, uint64_t block_offset, const PartitionView& partition);
  Task<Result<void>> large_value(Entry entry, uint64_t block_offset);
  void print_record(const Entry& entry, uint64_t value_bytes);
  void print_properties() const;
  void compare() const;

  InspectedFile& in_;
  TableFooter footer_;
  TableProperties said_;
  TableProperties found_;
  std::string last_key_;
  uint64_t stored_bytes_ = 0;  // of data blocks
  uint64_t raw_bytes_ = 0;
  uint64_t large_bytes_ = 0;
  bool complete_ = true;  // nothing was left out because of damage
};

// A block's bytes after its check, or nothing if it is damaged.
Task<Result<std::optional<std::string>>> TableInspection::block(BlockHandle handle,
                                                                const char* what) {
  Result<std::string> stored = co_await in_.read(handle.offset, handle.stored_bytes);
  if (!stored) co_return fail(stored.error());
  std::string raw(handle.raw_bytes, '\0');
  const Result<void> decoded = stored->size() == handle.stored_bytes
                                   ? decode_block(*stored, handle, raw.data())
                                   : fail(Errc::corrupt, "the file ends before it");
  if (!decoded) {
    in_.damaged(handle.offset, fmt::format("{} of {} bytes: {}", what, handle.stored_bytes,
                                           decoded.error().detail));
    complete_ = false;
    co_return std::optional<std::string>();
  }
  co_return std::optional<std::string>(std::move(raw));
}

Task<Result<void>> TableInspection::run(std::string tail) {
  const size_t at = find_table_footer(tail);
  const uint64_t tail_offset = in_.size_bytes - tail.size();
  in_.report->text += fmt::format("table {}\n", in_.path);
  if (at == std::string_view::npos) {
    in_.damaged(in_.size_bytes, "the table has no footer: its end is missing or overwritten");
    co_return Result<void>{};
  }
  const uint64_t table_bytes = tail_offset + at + table_footer_bytes;
  const uint64_t file_number = get_fixed<uint64_t>(tail.data() + at + 48);
  Result<TableFooter> footer = parse_footer(
      std::string_view(tail).substr(0, at + table_footer_bytes), table_bytes, file_number);
  if (!footer) {
    if (footer.error().code == Errc::unsupported) co_return fail(footer.error());
    in_.damaged(tail_offset + at, footer.error().detail);
    co_return Result<void>{};
  }
  footer_ = *footer;
  in_.print("number", std::to_string(file_number));
  in_.print("size", fmt::format("{} bytes", format_number(table_bytes)));
  if (in_.name.kind == FileKind::table && in_.name.number != file_number) {
    in_.damaged(tail_offset + at, fmt::format("the file was written as table {}, its name says {}",
                                              file_number, in_.name.number));
  }

  Result<std::optional<std::string>> properties = co_await block(footer_.properties, "properties");
  if (!properties) co_return fail(properties.error());
  if (*properties) {
    Result<TableProperties> decoded = TableProperties::decode(**properties, footer_.format_version);
    if (decoded) {
      said_ = std::move(*decoded);
      print_properties();
    } else {
      in_.damaged(footer_.properties.offset, decoded.error().detail);
      complete_ = false;
    }
  }
  Result<std::optional<std::string>> index = co_await block(footer_.top_index, "top index");
  if (!index) co_return fail(index.error());
  if (!*index) co_return Result<void>{};
  Result<TopIndex> top = TopIndex::open(std::move(**index), footer_);
  if (!top) {
    in_.damaged(footer_.top_index.offset, top.error().detail);
    co_return Result<void>{};
  }
  for (uint32_t i = 0; i < top->partitions().size(); ++i) {
    Result<IndexEntry> entry = top->partitions().entry(i);
    if (!entry) co_return fail(entry.error());  // TopIndex::open has checked them
    if (Result<void> done = co_await partition(*entry); !done) co_return done;
  }
  compare();
  in_.print("read", fmt::format("{} blocks, {} stored for {} of entries; {} large values, {}",
                                format_number(found_.data_block_count), format_bytes(stored_bytes_),
                                format_bytes(raw_bytes_), format_number(found_.large_count),
                                format_bytes(large_bytes_)));
  co_return Result<void>{};
}

Task<Result<void>> TableInspection::partition(IndexEntry entry) {
  ++found_.partition_count;
  Result<std::optional<std::string>> raw = co_await block(entry.handle, "index partition");
  if (!raw) co_return fail(raw.error());
  if (!*raw) co_return Result<void>{};
  Result<PartitionView> view = PartitionView::open(**raw, entry.handle.offset);
  const Result<void> checked = view ? view->blocks().check() : fail(view.error());
  if (!checked) {
    in_.damaged(entry.handle.offset, checked.error().detail);
    complete_ = false;
    co_return Result<void>{};
  }
  for (uint32_t i = 0; i < view->blocks().size(); ++i) {
    Result<IndexEntry> at = view->blocks().entry(i);
    if (!at) co_return fail(at.error());
    if (Result<void> done = co_await data_block(*at, *view); !done) co_return done;
    if (Result<void> done = co_await in_.report->flush_if_long(); !done) co_return done;
    co_await maybe_yield();
  }
  if (last_key_ > entry.separator) {
    in_.damaged(entry.handle.offset, "the partition holds keys behind its place in the top index");
  }
  co_return Result<void>{};
}

Task<Result<void>> TableInspection::data_block(IndexEntry entry, const PartitionView& partition) {
  ++found_.data_block_count;
  Result<std::optional<std::string>> raw = co_await block(entry.handle, "data block");
  if (!raw) co_return fail(raw.error());
  if (!*raw) co_return Result<void>{};
  stored_bytes_ += entry.handle.stored_bytes;
  raw_bytes_ += entry.handle.raw_bytes;
  Result<BlockView> view = BlockView::open(**raw);
  if (!view) {
    in_.damaged(entry.handle.offset, view.error().detail);
    complete_ = false;
    co_return Result<void>{};
  }
  BlockCursor cursor(*view);
  for (cursor.seek_to_first(); cursor.valid(); cursor.next()) {
    visit(cursor.entry(), entry.handle.offset, partition);
    if (cursor.entry().kind != Kind::large) continue;
    Result<void> done = co_await large_value(cursor.entry(), entry.handle.offset);
    if (!done) co_return done;
  }
  if (cursor.failed()) {
    in_.damaged(entry.handle.offset, cursor.error().detail);
    complete_ = false;
  }
  if (last_key_ > entry.separator) {
    in_.damaged(entry.handle.offset, "the block holds keys behind its place in the index");
  }
  co_return Result<void>{};
}

void TableInspection::visit(const Entry& entry, uint64_t block_offset,
                            const PartitionView& partition) {
  if (found_.entry_count == 0) {
    found_.smallest_key = entry.key;
    found_.version_min = found_.version_max = entry.version;
  } else if (entry.key <= last_key_) {
    in_.damaged(block_offset, fmt::format("the key {} is not above the one before it, {}",
                                          printable(entry.key), printable(last_key_)));
  }
  if (!partition.may_contain(bloom_hash(entry.key))) {
    in_.damaged(block_offset, fmt::format("the filter denies the key {}", printable(entry.key)));
  }
  last_key_ = entry.key;
  ++found_.entry_count;
  found_.raw_key_bytes += entry.key.size();
  found_.version_min = std::min(found_.version_min, entry.version);
  found_.version_max = std::max(found_.version_max, entry.version);
  if (entry.expire_at_ms != 0) {
    ++found_.expiring_count;
    if (found_.expire_at_ms_min == 0 || entry.expire_at_ms < found_.expire_at_ms_min) {
      found_.expire_at_ms_min = entry.expire_at_ms;
    }
  }
  if (entry.is_tombstone()) {
    ++found_.tombstone_count;
    found_.tombstone_hlc_min = std::min(found_.tombstone_hlc_min, entry.version.hlc);
  }
  if (entry.kind == Kind::large) {
    ++found_.large_count;
  } else {
    found_.raw_value_bytes += entry.value.size();
    if (in_.records) print_record(entry, entry.value.size());
  }
}

Task<Result<void>> TableInspection::large_value(Entry entry, uint64_t block_offset) {
  Result<LargeHandle> handle = LargeHandle::decode(entry.value, block_offset);
  if (!handle) {
    in_.damaged(block_offset, handle.error().detail);
    complete_ = false;
    co_return Result<void>{};
  }
  found_.raw_value_bytes += handle->size_bytes;
  large_bytes_ += handle->size_bytes;
  if (in_.records) print_record(entry, handle->size_bytes);
  const std::string what = "the large value of " + printable(entry.key);
  Result<std::string> list = co_await in_.read(handle->list_offset(), handle->list_bytes());
  if (!list) co_return fail(list.error());
  if (Result<void> checked = check_large_list(*handle, *list); !checked) {
    in_.damaged(handle->list_offset(), what + ": " + checked.error().detail);
    co_return Result<void>{};
  }
  for (uint64_t i = 0; i < handle->chunk_count(); ++i) {
    const uint64_t offset = handle->chunk_offset(i);
    Result<std::string> chunk = co_await in_.read(offset, handle->chunk_size_bytes(i));
    if (!chunk) co_return fail(chunk.error());
    if (Result<void> checked = check_large_chunk(*handle, *list, i, *chunk); !checked) {
      in_.damaged(offset, what + ": " + checked.error().detail);
    }
    co_await maybe_yield();
  }
  co_return Result<void>{};
}

// --- text ---------------------------------------------------------------------------------------

void TableInspection::print_record(const Entry& entry, uint64_t value_bytes) {
  std::string line = "    " + printable(entry.key);
  if (entry.is_tombstone()) {
    line += "  tombstone";
  } else {
    line += fmt::format("  {} of {} bytes", entry.kind == Kind::large ? "large value" : "value",
                        format_number(value_bytes));
  }
  line += "  " + format_version(entry.version);
  if (entry.expire_at_ms != 0) line += "  expires " + format_time_ms(entry.expire_at_ms);
  in_.report->text += line + "\n";
}

void TableInspection::print_properties() const {
  in_.print("created", format_time_ms(said_.created_ms));
  in_.print("entries",
            fmt::format("{}, of these {} tombstones, {} large values, {} that expire",
                        format_number(said_.entry_count), format_number(said_.tombstone_count),
                        format_number(said_.large_count), format_number(said_.expiring_count)));
  in_.print("keys",
            fmt::format("{} to {}", printable(said_.smallest_key), printable(said_.largest_key)));
  in_.print("raw bytes", fmt::format("{} of keys, {} of values", format_bytes(said_.raw_key_bytes),
                                     format_bytes(said_.raw_value_bytes)));
  in_.print("versions from", format_version(said_.version_min));
  in_.print("versions to", format_version(said_.version_max));
  if (said_.expire_at_ms_min != 0) {
    in_.print("first expiry", format_time_ms(said_.expire_at_ms_min));
  }
  in_.print("log sequence to", format_number(said_.log_sequence_max));
  in_.print("structure", fmt::format("{} data blocks of about {} bytes in {} partitions, {}, "
                                     "{} filter bits per key",
                                     format_number(said_.data_block_count),
                                     format_number(said_.options.block_bytes_target),
                                     format_number(said_.partition_count),
                                     said_.options.codec == Codec::lz4 ? "LZ4" : "not compressed",
                                     said_.options.bloom_bits_per_key));
}

// What the properties say must be what the entries add up to.
void TableInspection::compare() const {
  if (!complete_) return;
  const auto differs = [this](const char* what, uint64_t said, uint64_t found) {
    if (said == found) return;
    in_.damaged(footer_.properties.offset,
                fmt::format("the properties say {} {}, the table has {}", said, what, found));
  };
  differs("entries", said_.entry_count, found_.entry_count);
  differs("tombstones", said_.tombstone_count, found_.tombstone_count);
  differs("large values", said_.large_count, found_.large_count);
  differs("expiring entries", said_.expiring_count, found_.expiring_count);
  differs("bytes of keys", said_.raw_key_bytes, found_.raw_key_bytes);
  differs("bytes of values", said_.raw_value_bytes, found_.raw_value_bytes);
  differs("data blocks", said_.data_block_count, found_.data_block_count);
  differs("partitions", said_.partition_count, found_.partition_count);
  differs("as first expiry", said_.expire_at_ms_min, found_.expire_at_ms_min);
  differs("as oldest tombstone", said_.tombstone_hlc_min, found_.tombstone_hlc_min);
  if (said_.smallest_key != found_.smallest_key || said_.largest_key != last_key_) {
    in_.damaged(footer_.properties.offset, "the properties name other first and last keys");
  }
  if (said_.version_min != found_.version_min || said_.version_max != found_.version_max) {
    in_.damaged(footer_.properties.offset, "the properties name other first and last versions");
  }
}

}  // namespace

Task<Result<void>> inspect_table(InspectedFile& in, std::string tail) {
  TableInspection inspection(in);
  co_return co_await inspection.run(std::move(tail));
}

}  // namespace gyre
