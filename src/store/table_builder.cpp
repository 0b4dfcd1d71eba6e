#include "store/table_builder.hpp"

#include <algorithm>

#include "base/assert.hpp"
#include "base/limits.hpp"

namespace gyre {

TableBuilder::TableBuilder(const TableOptions& options, uint64_t file_number)
    : options_(options),
      file_number_(file_number),
      block_(options.restart_interval),
      bloom_(options.bloom_bits_per_key) {
  GYRE_ASSERT(options.restart_interval >= 1);
  GYRE_ASSERT(options.block_bytes_target <= limits::table_block_target_bytes_max);
  GYRE_ASSERT(options.partition_blocks_max >= 1 &&
              options.partition_blocks_max <= limits::table_partition_blocks_max);
  GYRE_ASSERT(options.partition_bytes_target <= limits::table_partition_target_bytes_max);
  GYRE_ASSERT(options.large_value_bytes_min <= limits::table_block_value_bytes_max);
  GYRE_ASSERT(options.chunk_bytes >= 1 && options.chunk_bytes <= limits::table_chunk_bytes_max);
  GYRE_ASSERT(options.bloom_bits_per_key <= limits::table_bloom_bits_per_key_max);
  properties_.options = options;
}

std::string_view TableBuilder::last_key() const {
  return block_.empty() ? std::string_view(properties_.largest_key) : block_.last_key();
}

void TableBuilder::append_to_file(std::string_view bytes) {
  pending_.append(bytes);
  file_bytes_ += bytes.size();
}

// Moves what is left only once it is the smaller half, so that draining costs each byte O(1).
void TableBuilder::consume(size_t bytes) {
  GYRE_ASSERT(bytes <= pending().size());
  consumed_bytes_ += bytes;
  if (consumed_bytes_ * 2 < pending_.size()) return;
  pending_.erase(0, consumed_bytes_);
  consumed_bytes_ = 0;
}

uint64_t TableBuilder::estimated_file_bytes() const {
  return file_bytes_ + (block_.empty() ? 0 : block_.size_bytes()) + partition_index_.size_bytes() +
         bloom_.filter_bytes();
}

size_t TableBuilder::memory_bytes() const {
  size_t bytes = pending_.capacity() + compressed_.capacity() + scratch_.capacity() +
                 block_.memory_bytes() + bloom_.memory_bytes() + partition_index_.memory_bytes() +
                 top_index_.memory_bytes() + properties_.smallest_key.capacity() +
                 properties_.largest_key.capacity();
  bytes += references_.size() * (sizeof(ValueReference) + 4 * sizeof(void*));
  if (large_) bytes += large_->key.capacity() + large_->extent.memory_bytes();
  return bytes;
}

// --- entries -------------------------------------------------------------------------------------

void TableBuilder::add(const Entry& entry) {
  GYRE_ASSERT(entry.kind == Kind::value || entry.is_tombstone());
  if (entry.kind == Kind::value && entry.value.size() >= options_.large_value_bytes_min) {
    begin_large(entry, entry.value.size());
    add_large_bytes(entry.value);
    end_large();
    return;
  }
  prepare_for(entry.key);
  account(entry, entry.value.size());
  add_to_block(entry);
}

void TableBuilder::add_separate(const Entry& entry, const SeparateValue& value) {
  GYRE_ASSERT(is_separate(entry.kind));
  prepare_for(entry.key);
  account(entry, value.raw_bytes);
  ValueReference& reference = references_[value.file_number];
  reference.file_number = value.file_number;
  ++reference.value_count;
  reference.value_bytes += value.stored_bytes;
  reference.end_offset = std::max(reference.end_offset, value.end_offset);
  separate_bytes_ += value.stored_bytes;
  add_to_block(entry);
}

void TableBuilder::prepare_for(std::string_view key) {
  GYRE_ASSERT(!finished_ && !large_);
  GYRE_ASSERT(key.size() <= limits::key_bytes_max);
  if (properties_.entry_count == 0) {
    properties_.smallest_key = key;
    return;
  }
  GYRE_ASSERT(key > last_key());
  if (!waiting_) return;
  scratch_.clear();
  append_separator(scratch_, properties_.largest_key, key);
  settle_block(scratch_, false);
}

void TableBuilder::account(const Entry& entry, uint64_t value_bytes) {
  TableProperties& all = properties_;
  all.version_min = all.entry_count == 0 ? entry.version : std::min(all.version_min, entry.version);
  all.version_max = std::max(all.version_max, entry.version);
  ++all.entry_count;
  all.raw_key_bytes += entry.key.size();
  all.raw_value_bytes += value_bytes;
  if (entry.is_tombstone()) {
    ++all.tombstone_count;
    all.tombstone_hlc_min = std::min(all.tombstone_hlc_min, entry.version.hlc);
  }
  if (entry.expire_at_ms != 0) {
    all.expire_at_ms_min = all.expiring_count == 0
                               ? entry.expire_at_ms
                               : std::min(all.expire_at_ms_min, entry.expire_at_ms);
    all.expire_at_ms_max = std::max(all.expire_at_ms_max, entry.expire_at_ms);
    ++all.expiring_count;
  }
}

void TableBuilder::add_to_block(const Entry& entry) {
  bloom_.add(bloom_hash(entry.key));
  block_.add(entry);
  block_tombstone_count_ += entry.is_tombstone() ? 1 : 0;
  if (block_.size_bytes() >= options_.block_bytes_target) close_block();
}

void TableBuilder::close_block() {
  properties_.largest_key = block_.last_key();
  const std::string_view raw = block_.finish();
  BlockHandle handle;
  const std::string_view stored = encode_block(raw, options_.codec, compressed_, handle);
  handle.offset = file_bytes_;
  append_to_file(stored);
  if (is_tombstone_dense(block_.entry_count(), block_tombstone_count_)) {
    ++properties_.tombstone_dense_block_count;
  }
  block_tombstone_count_ = 0;
  block_.clear();
  waiting_ = handle;
  partition_bytes_ += handle.raw_bytes;
  ++properties_.data_block_count;
}

void TableBuilder::settle_block(std::string_view separator, bool is_last) {
  partition_index_.add(separator, *waiting_);
  waiting_.reset();
  if (!is_last && partition_index_.count() < options_.partition_blocks_max &&
      partition_bytes_ < options_.partition_bytes_target) {
    return;
  }
  std::string partition;
  append_partition(partition, bloom_, partition_index_);
  top_index_.add(separator, append_whole(partition));
  partition_bytes_ = 0;
  ++properties_.partition_count;
}

// --- large values --------------------------------------------------------------------------------

void TableBuilder::begin_large(const Entry& entry, uint64_t size_bytes) {
  prepare_for(entry.key);
  large_.emplace(entry, file_bytes_, size_bytes, options_.chunk_bytes);
}

void TableBuilder::add_large_bytes(std::string_view piece) {
  GYRE_ASSERT(large_);
  append_to_file(piece);
  large_->extent.add(piece);
}

void TableBuilder::end_large() {
  GYRE_ASSERT(large_);
  append_to_file(large_->extent.end());
  const std::string handle = large_->extent.handle().encode();
  const Entry entry{large_->key, Kind::large, large_->version, large_->expire_at_ms, handle};
  account(entry, large_->extent.handle().size_bytes);
  ++properties_.large_count;
  add_to_block(entry);
  large_.reset();
}

// --- the end -------------------------------------------------------------------------------------

BlockHandle TableBuilder::append_whole(std::string_view raw) {
  BlockHandle handle;
  encode_block(raw, Codec::none, compressed_, handle);
  handle.offset = file_bytes_;
  append_to_file(raw);
  return handle;
}

void TableBuilder::finish(uint64_t created_ms, uint64_t log_sequence_max) {
  GYRE_ASSERT(!finished_ && !large_ && properties_.entry_count != 0);
  if (!block_.empty()) close_block();
  settle_block(properties_.largest_key, true);
  properties_.created_ms = created_ms;
  properties_.log_sequence_max = log_sequence_max;
  for (const auto& [number, reference] : references_) {
    properties_.value_references.push_back(reference);
  }
  TableFooter footer;
  footer.file_number = file_number_;
  std::string top_index;
  top_index_.finish(top_index);
  footer.top_index = append_whole(top_index);
  footer.properties = append_whole(properties_.encode());
  std::string tail;
  append_footer(tail, footer);
  append_to_file(tail);
  finished_ = true;
}

}  // namespace gyre
