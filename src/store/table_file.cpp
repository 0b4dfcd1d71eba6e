#include "store/table_file.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>

#include "base/assert.hpp"
#include "base/io_alignment.hpp"
#include "base/limits.hpp"
#include "store/block.hpp"
#include "store/file_names.hpp"

namespace gyre {

namespace {

// Read first when a table is opened: in all but odd tables it holds everything that is needed.
constexpr uint64_t tail_bytes = 16u << 10;

}  // namespace

// --- opening -------------------------------------------------------------------------------------

TableFile::TableFile(TableHost& host, File file, TableRecord record)
    : BlockFile(host, std::move(file), FileKind::table, record.file_number, record.size_bytes),
      record_(std::move(record)) {
  host.tables_[file_number()] = this;
}

TableFile::~TableFile() {
  host().table_memory_bytes_ -= memory_bytes_;
  const auto known = host().tables_.find(file_number());
  if (known != host().tables_.end() && known->second == this) host().tables_.erase(known);
}

Task<Result<TableRef>> TableFile::open(TableHost& host, TableRecord record) {
  const std::string path = join_path(host.directory_, table_file_name(record.file_number));
  const Result<FileStatus> status = co_await file_status(path);
  if (!status) co_return fail(status.error());
  if (!status->exists) {
    co_return fail(missing_file(path, fmt::format("the manifest names it ({} bytes, {} entries)",
                                                  record.size_bytes, record.entry_count)));
  }
  if (status->size_bytes < record.size_bytes) {
    co_return fail(short_file(path, status->size_bytes,
                              fmt::format("the manifest says {} bytes", record.size_bytes)));
  }
  Result<File> file = co_await File::open(path, flag_read | flag_direct);
  if (!file) co_return fail(file.error());
  TableRef table(new TableFile(host, std::move(*file), std::move(record)));
  Result<void> read = co_await table->read_metadata();
  if (read) read = co_await table->open_value_files();
  if (!read) co_return fail(read.error());
  co_return table;
}

Task<Result<void>> TableFile::read_metadata() {
  const uint64_t size = record_.size_bytes;
  uint64_t begin = size > tail_bytes ? io_align_down(size - tail_bytes) : 0;
  AlignedBuffer buffer;
  TableFooter footer;
  for (bool again = true; again;) {
    const uint64_t end = io_align_up(size);
    buffer = AlignedBuffer(end - begin);
    const Result<size_t> got = co_await file().read_full(begin, {buffer.data(), end - begin});
    if (!got) co_return fail(in_file(got.error(), begin));
    if (*got < size - begin) {
      co_return fail(in_file(Error::of(Errc::corrupt, "the file ends early"), begin + *got));
    }
    Result<TableFooter> parsed =
        parse_footer({buffer.data(), size - begin}, size, record_.file_number);
    if (!parsed) co_return fail(in_file(parsed.error(), size - table_footer_bytes));
    footer = *parsed;
    again = footer.top_index.offset < begin;
    if (again) begin = io_align_down(footer.top_index.offset);
  }
  const auto decoded = [&](const BlockHandle& handle) -> Result<std::string> {
    std::string raw(handle.raw_bytes, '\0');
    const std::string_view stored(buffer.data() + (handle.offset - begin), handle.stored_bytes);
    const Result<void> done = decode_block(stored, handle, raw.data());
    if (!done) return fail(in_file(done.error(), handle.offset));
    return raw;
  };
  Result<std::string> top_index = decoded(footer.top_index);
  if (!top_index) co_return fail(top_index.error());
  Result<TopIndex> opened = TopIndex::open(std::move(*top_index), footer);
  if (!opened) co_return fail(in_file(opened.error(), footer.top_index.offset));
  top_index_ = std::move(*opened);
  set_data_end(footer.top_index.offset);

  const Result<std::string> encoded = decoded(footer.properties);
  if (!encoded) co_return fail(encoded.error());
  Result<TableProperties> properties = TableProperties::decode(*encoded, footer.format_version);
  if (!properties) co_return fail(in_file(properties.error(), footer.properties.offset));
  properties_ = std::move(*properties);
  const Result<void> checked = check_properties();
  if (!checked) co_return fail(in_file(checked.error(), footer.properties.offset));
  properties_.smallest_key = std::string();
  properties_.largest_key = std::string();
  memory_bytes_ =
      sizeof(TableFile) + top_index_.memory_bytes() + record_.smallest_key.capacity() +
      record_.largest_key.capacity() +
      properties_.value_references.size() * (sizeof(ValueReference) + sizeof(ValueFileRef));
  host().table_memory_bytes_ += memory_bytes_;
  co_return Result<void>{};
}

Result<void> TableFile::check_properties() const {
  const TableRecord found =
      table_record(properties_, record_.level, record_.file_number, record_.size_bytes);
  if (found == record_ && properties_.partition_count == partition_count()) return {};
  return fail(Errc::corrupt,
              fmt::format("the table holds {} entries, the manifest remembers {}: it is not the "
                          "table that the manifest names",
                          found.entry_count, record_.entry_count));
}

// --- lookups -------------------------------------------------------------------------------------

Probe TableFile::try_get(std::string_view key, uint64_t key_hash, TableEntry& out) {
  if (!may_hold(key)) return Probe::absent;
  BlockHandle handle;
  const Result<bool> has_partition = top_index_.find_partition(key, handle);
  if (!has_partition) return Probe::needs_io;  // get() answers the error
  if (!*has_partition) return Probe::absent;
  const BlockRef partition_block = host().cache().lookup(file_number(), handle.offset);
  if (!partition_block) return Probe::needs_io;
  const Result<PartitionView> partition =
      PartitionView::open(partition_block->bytes(), handle.offset);
  if (!partition) return Probe::needs_io;
  if (!partition->may_contain(key_hash)) return Probe::absent;
  out.end = LookupEnd::in_vain;
  const Result<bool> has_block = partition->find_block(key, handle);
  if (!has_block) return Probe::needs_io;
  if (!*has_block) return Probe::absent;
  BlockRef block = host().cache().lookup(file_number(), handle.offset);
  if (!block) return Probe::needs_io;
  const Result<BlockView> view = BlockView::open(block->bytes());
  if (!view) return Probe::needs_io;
  const Result<bool> found = view->find(key, out.entry);
  if (!found) return Probe::needs_io;
  if (!*found) return Probe::absent;
  out.pin = BlockPin(std::move(block));
  out.end = LookupEnd::found;
  return Probe::hit;
}

Task<Result<bool>> TableFile::get(std::string_view key, uint64_t key_hash, TableEntry& out) {
  const TableRef self(this);
  const auto ended = [this](LookupEnd end) {
    count_lookup(level_stats(), end);
    return end == LookupEnd::found;
  };
  if (!may_hold(key)) co_return false;
  BlockHandle handle;
  const Result<bool> has_partition = top_index_.find_partition(key, handle);
  if (!has_partition) co_return fail(in_file(has_partition.error(), data_end()));
  if (!*has_partition) co_return ended(LookupEnd::filtered);
  {
    const uint64_t offset = handle.offset;
    const Result<BlockPin> pin = co_await load_block(handle);
    if (!pin) co_return fail(pin.error());
    const Result<PartitionView> partition = PartitionView::open(pin->bytes(), offset);
    if (!partition) co_return fail(in_file(partition.error(), offset));
    if (!partition->may_contain(key_hash)) co_return ended(LookupEnd::filtered);
    const Result<bool> has_block = partition->find_block(key, handle);
    if (!has_block) co_return fail(in_file(has_block.error(), offset));
    if (!*has_block) co_return ended(LookupEnd::in_vain);
  }
  Result<BlockPin> pin = co_await load_block(handle);
  if (!pin) co_return fail(pin.error());
  const Result<BlockView> view = BlockView::open(pin->bytes());
  if (!view) co_return fail(in_file(view.error(), handle.offset));
  const Result<bool> found = view->find(key, out.entry);
  if (!found) co_return fail(in_file(found.error(), handle.offset));
  if (!*found) co_return ended(LookupEnd::in_vain);
  out.pin = std::move(*pin);
  co_return ended(LookupEnd::found);
}

// --- blocks and values ---------------------------------------------------------------------------

Task<Result<BlockPin>> TableFile::load_partition(uint32_t index, CacheHint hint) {
  const Result<IndexEntry> entry = top_index_.partitions().entry(index);
  if (!entry) co_return fail(in_file(entry.error(), data_end()));
  co_return co_await load_block(entry->handle, hint);
}

Task<Result<void>> TableFile::open_value_files() {
  value_files_.reserve(properties_.value_references.size());
  for (const ValueReference& reference : properties_.value_references) {
    Result<ValueFileRef> file = co_await ValueFile::open(host(), reference, path());
    if (!file) co_return fail(file.error());
    value_files_.push_back(std::move(*file));
  }
  co_return Result<void>{};
}

void TableFile::use_values() {
  for (size_t i = 0; i < value_files_.size(); ++i) {
    value_files_[i]->add(properties_.value_references[i]);
  }
}

void TableFile::disuse_values() {
  for (size_t i = 0; i < value_files_.size(); ++i) {
    value_files_[i]->remove(properties_.value_references[i]);
  }
}

bool TableFile::try_resolve(TableEntry& found, CacheHint hint) {
  if (found.entry.kind != Kind::separate) return true;
  const Result<ValuePlace> place = place_of(found.entry);
  if (!place) return false;  // resolve() answers the error
  const Result<BlockHandle> handle = decode_block_value(place->handle, place->file->data_end());
  if (!handle) return false;
  BlockPin pin = place->file->cached_block(*handle, hint);
  if (!pin) return false;
  found.pin = std::move(pin);
  found.entry.kind = Kind::value;
  found.entry.value = found.pin.bytes();
  return true;
}

Task<Result<void>> TableFile::resolve(TableEntry& found, CacheHint hint) {
  if (found.entry.kind != Kind::separate) co_return Result<void>{};
  const TableRef self(this);
  const Result<ValuePlace> place = place_of(found.entry);
  if (!place) co_return fail(place.error());
  const Result<BlockHandle> handle = decode_block_value(place->handle, place->file->data_end());
  if (!handle) co_return fail(place->file->in_file(handle.error(), place->file->data_end()));
  Result<BlockPin> pin = co_await place->file->load_block(*handle, hint);
  if (!pin) co_return fail(pin.error());
  found.pin = std::move(*pin);
  found.entry.kind = Kind::value;
  found.entry.value = found.pin.bytes();
  co_return Result<void>{};
}

Result<TableFile::ValuePlace> TableFile::place_of(const Entry& entry) {
  if (!is_separate(entry.kind)) return ValuePlace{Ref<BlockFile>(this), entry.value};
  std::string_view handle = entry.value;
  const Result<uint64_t> number = take_value_file_number(handle);
  if (!number) return fail(in_file(number.error(), data_end()));
  const auto& references = properties_.value_references;
  const auto found = std::lower_bound(references.begin(), references.end(), *number,
                                      [](const ValueReference& reference, uint64_t file_number) {
                                        return reference.file_number < file_number;
                                      });
  if (found == references.end() || found->file_number != *number) {
    return fail(in_file(
        Error::of(Errc::corrupt, fmt::format("an entry names {}, which the properties don't",
                                             value_file_name(*number))),
        data_end()));
  }
  return ValuePlace{value_files_[static_cast<size_t>(found - references.begin())], handle};
}

}  // namespace gyre
