#include "store/table_verifier.hpp"

#include <fmt/format.h>

#include <algorithm>

#include <gyre/time.hpp>

#include "base/io_alignment.hpp"
#include "base/limits.hpp"
#include "base/printable.hpp"
#include "store/block.hpp"
#include "store/bloom.hpp"
#include "store/file_names.hpp"
#include "store/value_file.hpp"

namespace gyre {

namespace {

constexpr uint64_t alignment = limits::io_alignment_bytes;

Task<Result<size_t>> read_aligned(const File& file, uint64_t offset, std::span<char> into) {
  Result<size_t> got = co_await file.read_full(offset, into);
  if (got) co_return got;
  co_return fail(got.error().code,
                 fmt::format("offset {}: can't be read: {}", offset, got.error().message()));
}

// Fewer bytes only where the file ends.
Task<Result<std::string>> read_piece(const File& file, uint64_t offset, uint64_t size) {
  const uint64_t begin = io_align_down(offset);
  const AlignedBuffer buffer(std::max(io_align_up(offset + size - begin), alignment));
  const Result<size_t> got = co_await read_aligned(file, begin, {buffer.data(), buffer.size()});
  if (!got) co_return fail(got.error());
  const uint64_t skip = std::min<uint64_t>(offset - begin, *got);
  co_return std::string(buffer.data() + skip, std::min<uint64_t>(size, *got - skip));
}

}  // namespace

Task<Result<void>> TableVerifier::Observer::after_block(uint64_t) {
  co_await maybe_yield();
  co_return Result<void>{};
}

// --- reading -------------------------------------------------------------------------------------

// Up to `size` bytes: fewer only where the file ends. Valid until the next call.
Task<Result<std::string_view>> TableVerifier::window(uint64_t offset, uint64_t size) {
  if (offset < window_begin_ || offset + size > window_end_) {
    const uint64_t begin = io_align_down(offset);
    const uint64_t wanted = std::max<uint64_t>(io_align_up(offset + size - begin), window_bytes);
    if (buffer_.size() < wanted) buffer_ = AlignedBuffer(wanted);
    const Result<size_t> got = co_await read_aligned(file_, begin, {buffer_.data(), wanted});
    window_begin_ = window_end_ = 0;
    if (!got) co_return fail(got.error());
    window_begin_ = begin;
    window_end_ = begin + *got;
  }
  if (offset >= window_end_) co_return std::string_view();
  co_return std::string_view(buffer_.data() + (offset - window_begin_),
                             std::min(size, window_end_ - offset));
}

// As window, but leaves it where it is: for what lies elsewhere.
Task<Result<std::string>> TableVerifier::read(uint64_t offset, uint64_t size) {
  return read_piece(file_, offset, size);
}

// A block's bytes after its check, or nothing if it is damaged.
Task<Result<std::optional<std::string>>> TableVerifier::block(BlockHandle handle, const char* what,
                                                              bool through_window) {
  std::string raw(handle.raw_bytes, '\0');
  Result<void> decoded = fail(Errc::corrupt, "the file ends before it");
  if (through_window) {
    Result<std::string_view> stored = co_await window(handle.offset, handle.stored_bytes);
    if (!stored) co_return fail(stored.error());
    if (stored->size() == handle.stored_bytes) decoded = decode_block(*stored, handle, raw.data());
  } else {
    Result<std::string> stored = co_await read(handle.offset, handle.stored_bytes);
    if (!stored) co_return fail(stored.error());
    if (stored->size() == handle.stored_bytes) decoded = decode_block(*stored, handle, raw.data());
  }
  if (!decoded) {
    observer_.damaged(handle.offset, fmt::format("{} of {} bytes: {}", what, handle.stored_bytes,
                                                 decoded.error().detail));
    complete_ = false;
    co_return std::optional<std::string>();
  }
  co_return std::optional<std::string>(std::move(raw));
}

Task<Result<bool>> TableVerifier::open(uint64_t table_bytes, uint64_t file_number) {
  table_bytes_ = table_bytes;
  const uint64_t footer_bytes = std::min<uint64_t>(table_bytes, table_footer_bytes);
  Result<std::string> tail = co_await read(table_bytes - footer_bytes, footer_bytes);
  if (!tail) co_return fail(tail.error());
  if (tail->size() < table_footer_bytes) {
    observer_.damaged(table_bytes, "the table has no footer: its end is missing");
    co_return false;
  }
  Result<TableFooter> footer = parse_footer(*tail, table_bytes, file_number);
  if (!footer) {
    if (footer.error().code == Errc::unsupported) co_return fail(footer.error());
    observer_.damaged(table_bytes - table_footer_bytes, footer.error().detail);
    co_return false;
  }
  footer_ = *footer;
  Result<std::optional<std::string>> properties = co_await block(footer_.properties, "properties");
  if (!properties) co_return fail(properties.error());
  if (*properties) {
    Result<TableProperties> decoded = TableProperties::decode(**properties, footer_.format_version);
    if (decoded) {
      said_ = std::move(*decoded);
    } else {
      observer_.damaged(footer_.properties.offset, decoded.error().detail);
      complete_ = false;
    }
  }
  Result<std::optional<std::string>> index = co_await block(footer_.top_index, "top index");
  if (!index) co_return fail(index.error());
  if (!*index) co_return false;
  Result<TopIndex> top = TopIndex::open(std::move(**index), footer_);
  if (!top) {
    observer_.damaged(footer_.top_index.offset, top.error().detail);
    co_return false;
  }
  top_index_ = std::move(*top);
  co_return true;
}

// --- the walk ------------------------------------------------------------------------------------

Task<Result<void>> TableVerifier::check(const TableRecord* record) {
  for (uint32_t i = 0; i < top_index_.partitions().size(); ++i) {
    Result<IndexEntry> entry = top_index_.partitions().entry(i);
    if (!entry) co_return fail(entry.error());  // TopIndex::open has checked them
    if (Result<void> done = co_await check_partition(*entry); !done) co_return done;
  }
  compare();
  if (record != nullptr && said_) compare_record(*record);
  co_return Result<void>{};
}

Task<Result<void>> TableVerifier::check_partition(IndexEntry entry) {
  ++found_.partition_count;
  Result<std::optional<std::string>> raw = co_await block(entry.handle, "index partition");
  if (!raw) co_return fail(raw.error());
  if (!*raw) co_return Result<void>{};
  Result<PartitionView> view = PartitionView::open(**raw, entry.handle.offset);
  const Result<void> checked = view ? view->blocks().check() : fail(view.error());
  if (!checked) {
    observer_.damaged(entry.handle.offset, checked.error().detail);
    complete_ = false;
    co_return Result<void>{};
  }
  for (uint32_t i = 0; i < view->blocks().size(); ++i) {
    Result<IndexEntry> at = view->blocks().entry(i);
    if (!at) co_return fail(at.error());
    if (Result<void> done = co_await check_data_block(*at, *view); !done) co_return done;
    if (Result<void> done = co_await observer_.after_block(at->handle.stored_bytes); !done) {
      co_return done;
    }
  }
  if (last_key_ > entry.separator) {
    observer_.damaged(entry.handle.offset,
                      "the partition holds keys behind its place in the top index");
  }
  co_return co_await observer_.after_block(entry.handle.stored_bytes);
}

Task<Result<void>> TableVerifier::check_data_block(IndexEntry entry,
                                                   const PartitionView& partition) {
  ++found_.data_block_count;
  Result<std::optional<std::string>> raw = co_await block(entry.handle, "data block", true);
  if (!raw) co_return fail(raw.error());
  if (!*raw) co_return Result<void>{};
  stored_bytes_ += entry.handle.stored_bytes;
  raw_bytes_ += entry.handle.raw_bytes;
  Result<BlockView> view = BlockView::open(**raw);
  if (!view) {
    observer_.damaged(entry.handle.offset, view.error().detail);
    complete_ = false;
    co_return Result<void>{};
  }
  const uint64_t entries_before = found_.entry_count;
  const uint64_t tombstones_before = found_.tombstone_count;
  BlockCursor cursor(*view);
  for (cursor.seek_to_first(); cursor.valid(); cursor.next()) {
    count(cursor.entry(), entry.handle.offset, partition);
    const Entry& found = cursor.entry();
    Result<void> done{};
    if (found.kind == Kind::large) {
      done = co_await check_large_value(found, entry.handle.offset);
    } else if (is_separate(found.kind)) {
      done = co_await check_separate_value(found, entry.handle.offset);
    }
    if (!done) co_return done;
  }
  if (cursor.failed()) {
    observer_.damaged(entry.handle.offset, cursor.error().detail);
    complete_ = false;
  }
  if (is_tombstone_dense(found_.entry_count - entries_before,
                         found_.tombstone_count - tombstones_before)) {
    ++found_.tombstone_dense_block_count;
  }
  if (last_key_ > entry.separator) {
    observer_.damaged(entry.handle.offset, "the block holds keys behind its place in the index");
  }
  co_return Result<void>{};
}

void TableVerifier::count(const Entry& entry, uint64_t block_offset,
                          const PartitionView& partition) {
  if (found_.entry_count == 0) {
    found_.smallest_key = entry.key;
    found_.version_min = found_.version_max = entry.version;
  } else if (entry.key <= last_key_) {
    observer_.damaged(block_offset, fmt::format("the key {} is not above the one before it, {}",
                                                printable(entry.key), printable(last_key_)));
  }
  if (!partition.may_contain(bloom_hash(entry.key))) {
    observer_.damaged(block_offset,
                      fmt::format("the filter denies the key {}", printable(entry.key)));
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
    found_.expire_at_ms_max = std::max(found_.expire_at_ms_max, entry.expire_at_ms);
  }
  if (entry.is_tombstone()) {
    ++found_.tombstone_count;
    found_.tombstone_hlc_min = std::min(found_.tombstone_hlc_min, entry.version.hlc);
  }
  if (entry.kind == Kind::large) {
    ++found_.large_count;
  } else if (!is_separate(entry.kind)) {
    found_.raw_value_bytes += entry.value.size();
    observer_.visit(entry, entry.value.size());
  }
}

Task<Result<void>> TableVerifier::check_separate_value(Entry entry, uint64_t block_offset) {
  const Result<SeparateValue> value = separate_value(entry);
  if (!value) {
    observer_.damaged(block_offset, value.error().detail);
    complete_ = false;
    co_return Result<void>{};
  }
  found_.raw_value_bytes += value->raw_bytes;
  observer_.visit(entry, value->raw_bytes);
  ValueReference& reference = references_[value->file_number];
  reference.file_number = value->file_number;
  ++reference.value_count;
  ++separate_count_;
  reference.value_bytes += value->stored_bytes;
  reference.end_offset = std::max(reference.end_offset, value->end_offset);
  const auto source = observer_.value_source(value->file_number);
  if (!source) co_return Result<void>{};
  const std::string what =
      fmt::format("the value of {}, at offset {} of {}", printable(entry.key),
                  value->end_offset - value->stored_bytes, value_file_name(value->file_number));
  if (value->end_offset > source->content_bytes) {
    observer_.damaged(block_offset, what + ": behind the values of that file");
    co_return Result<void>{};
  }
  if (!source->read) co_return Result<void>{};
  std::string_view encoded = entry.value;
  static_cast<void>(take_value_file_number(encoded));
  const Result<std::string> wrong = entry.kind == Kind::separate
                                        ? co_await check_block_value(*source->file, encoded)
                                        : co_await check_extent(*source->file, encoded);
  if (!wrong) co_return fail(wrong.error());
  if (!wrong->empty()) observer_.damaged(block_offset, what + ": " + *wrong);
  co_return Result<void>{};
}

// What is wrong with a value that lies in a value file, or "".
Task<Result<std::string>> TableVerifier::check_block_value(const File& file,
                                                           std::string_view encoded) {
  const Result<BlockHandle> handle = decode_block_value(encoded, ~uint64_t{0});
  if (!handle) co_return handle.error().detail;
  const Result<std::string> stored =
      co_await read_piece(file, handle->offset, handle->stored_bytes);
  if (!stored) co_return fail(stored.error());
  if (Result<void> done = co_await observer_.after_block(stored->size()); !done)
    co_return fail(done.error());
  if (stored->size() < handle->stored_bytes) co_return "the file ends before it";
  std::string raw(handle->raw_bytes, '\0');
  const Result<void> decoded = decode_block(*stored, *handle, raw.data());
  co_return decoded ? "" : decoded.error().detail;
}

// The same of a large one, chunk by chunk: it may be larger than what a check may hold.
Task<Result<std::string>> TableVerifier::check_extent(const File& file, std::string_view encoded) {
  const Result<LargeHandle> handle = LargeHandle::decode(encoded, ~uint64_t{0});
  if (!handle) co_return handle.error().detail;
  const Result<std::string> list =
      co_await read_piece(file, handle->list_offset(), handle->list_bytes());
  if (!list) co_return fail(list.error());
  if (list->size() < handle->list_bytes()) co_return "the file ends before it";
  Result<void> checked = check_large_list(*handle, *list);
  for (uint64_t i = 0; checked && i < handle->chunk_count(); ++i) {
    const Result<std::string> chunk =
        co_await read_piece(file, handle->chunk_offset(i), handle->chunk_size_bytes(i));
    if (!chunk) co_return fail(chunk.error());
    checked = check_large_chunk(*handle, *list, i, *chunk);
    if (Result<void> done = co_await observer_.after_block(chunk->size()); !done)
      co_return fail(done.error());
  }
  co_return checked ? "" : checked.error().detail;
}

Task<Result<void>> TableVerifier::check_large_value(Entry entry, uint64_t block_offset) {
  Result<LargeHandle> handle = LargeHandle::decode(entry.value, block_offset);
  if (!handle) {
    observer_.damaged(block_offset, handle.error().detail);
    complete_ = false;
    co_return Result<void>{};
  }
  found_.raw_value_bytes += handle->size_bytes;
  large_bytes_ += handle->size_bytes;
  observer_.visit(entry, handle->size_bytes);
  const std::string what = "the large value of " + printable(entry.key);
  Result<std::string> list = co_await read(handle->list_offset(), handle->list_bytes());
  if (!list) co_return fail(list.error());
  if (Result<void> checked = check_large_list(*handle, *list); !checked) {
    observer_.damaged(handle->list_offset(), what + ": " + checked.error().detail);
    co_return Result<void>{};
  }
  for (uint64_t i = 0; i < handle->chunk_count(); ++i) {
    const uint64_t offset = handle->chunk_offset(i);
    Result<std::string_view> chunk = co_await window(offset, handle->chunk_size_bytes(i));
    if (!chunk) co_return fail(chunk.error());
    if (Result<void> checked = check_large_chunk(*handle, *list, i, *chunk); !checked) {
      observer_.damaged(offset, what + ": " + checked.error().detail);
    }
    if (Result<void> done = co_await observer_.after_block(handle->chunk_size_bytes(i)); !done) {
      co_return done;
    }
  }
  co_return Result<void>{};
}

// --- what the entries add up to ------------------------------------------------------------------

void TableVerifier::compare() {
  if (!complete_ || !said_) return;
  const auto differs = [this](const char* what, uint64_t said, uint64_t found) {
    if (said == found) return;
    observer_.damaged(footer_.properties.offset,
                      fmt::format("the properties say {} {}, the table has {}", said, what, found));
  };
  differs("entries", said_->entry_count, found_.entry_count);
  differs("tombstones", said_->tombstone_count, found_.tombstone_count);
  differs("large values", said_->large_count, found_.large_count);
  std::vector<ValueReference> references;
  for (const auto& [number, reference] : references_) references.push_back(reference);
  if (references != said_->value_references) {
    observer_.damaged(footer_.properties.offset,
                      "the properties name other value files than the entries do");
  }
  differs("expiring entries", said_->expiring_count, found_.expiring_count);
  differs("bytes of keys", said_->raw_key_bytes, found_.raw_key_bytes);
  differs("bytes of values", said_->raw_value_bytes, found_.raw_value_bytes);
  differs("data blocks", said_->data_block_count, found_.data_block_count);
  if (footer_.format_version >= 3) {
    differs("blocks dense with tombstones", said_->tombstone_dense_block_count,
            found_.tombstone_dense_block_count);
  }
  differs("partitions", said_->partition_count, found_.partition_count);
  differs("as first expiry", said_->expire_at_ms_min, found_.expire_at_ms_min);
  if (footer_.format_version >= 2) {
    differs("as last expiry", said_->expire_at_ms_max, found_.expire_at_ms_max);
  }
  differs("as oldest tombstone", said_->tombstone_hlc_min, found_.tombstone_hlc_min);
  if (said_->smallest_key != found_.smallest_key || said_->largest_key != last_key_) {
    observer_.damaged(footer_.properties.offset, "the properties name other first and last keys");
  }
  if (said_->version_min != found_.version_min || said_->version_max != found_.version_max) {
    observer_.damaged(footer_.properties.offset,
                      "the properties name other first and last versions");
  }
}

void TableVerifier::compare_record(const TableRecord& record) {
  if (table_record(*said_, record.level, record.file_number, table_bytes_) == record) return;
  observer_.damaged(footer_.properties.offset,
                    fmt::format("the manifest remembers another table under this name, of {} "
                                "entries",
                                record.entry_count));
}

}  // namespace gyre
