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

// --- blocks outside the cache --------------------------------------------------------------------

struct LooseBlock {
  LooseBlock(TableHost& of, size_t size) : host(of), size_bytes(size), data(new char[size]) {
    host.uncached_bytes_ += charge_bytes();
    ++host.stats_.uncached;
  }
  ~LooseBlock() { host.uncached_bytes_ -= charge_bytes(); }
  size_t charge_bytes() const { return size_bytes + sizeof(LooseBlock); }

  TableHost& host;
  uint32_t references = 0;
  size_t size_bytes;
  std::unique_ptr<char[]> data;
};

BlockPin::BlockPin(LooseBlock* loose) : loose_(loose) {
  ++loose_->references;
}
BlockPin::BlockPin(const BlockPin& other) : cached_(other.cached_), loose_(other.loose_) {
  if (loose_ != nullptr) ++loose_->references;
}
BlockPin& BlockPin::operator=(BlockPin other) noexcept {
  std::swap(cached_, other.cached_);
  std::swap(loose_, other.loose_);
  return *this;
}
void BlockPin::reset() {
  cached_.reset();
  LooseBlock* const loose = std::exchange(loose_, nullptr);
  if (loose != nullptr && --loose->references == 0) delete loose;
}
std::string_view BlockPin::bytes() const {
  if (cached_) return cached_->bytes();
  GYRE_ASSERT(loose_ != nullptr);
  return {loose_->data.get(), loose_->size_bytes};
}
size_t BlockPin::uncached_bytes() const {
  return loose_ == nullptr ? 0 : loose_->charge_bytes();
}

// --- the host ------------------------------------------------------------------------------------

TableHost::~TableHost() {
  GYRE_ASSERT(tables_open_ == 0);
  GYRE_ASSERT(uncached_bytes_ == 0);
}

Task<void> TableHost::drain() {
  no_tables_.reset();
  if (tables_open_ != 0) co_await detail::Uninterrupted{no_tables_};
}

// --- opening -------------------------------------------------------------------------------------

TableFile::TableFile(TableHost& host, File file, TableRecord record)
    : SharedFile(std::move(file)), host_(host), record_(std::move(record)) {
  ++host_.tables_open_;
  host_.by_number_[record_.file_number] = this;
}

TableRef TableHost::open_table(uint64_t file_number) const {
  const auto found = by_number_.find(file_number);
  return TableRef(found == by_number_.end() ? nullptr : found->second);
}

TableFile::~TableFile() {
  host_.table_memory_bytes_ -= memory_bytes_;
  const auto known = host_.by_number_.find(record_.file_number);
  if (known != host_.by_number_.end() && known->second == this) host_.by_number_.erase(known);
  TableHost& host = host_;
  file() = File();  // closed before anybody is told that it is not used any more
  if (obsolete_ && host.on_dropped_ != nullptr) {
    host.on_dropped_(host.context_, {record_.file_number, record_.size_bytes});
  }
  if (--host.tables_open_ == 0) host.no_tables_.set();
}

std::string TableFile::path() const {
  return join_path(host_.directory_, table_file_name(record_.file_number));
}

Error TableFile::in_file(Error error, uint64_t offset) const {
  const char* const advice =
      error.code == Errc::corrupt
          ? "; restore the file from a checkpoint, or wipe this directory and let the replicas "
            "rebuild it"
      : error.code == Errc::unsupported ? "; start a newer program on this directory"
                                        : "";
  error.detail = fmt::format("{}: at offset {}: {}{}", path(), offset,
                             error.detail.empty() ? "read failed" : error.detail, advice);
  return error;
}

Task<Result<TableRef>> TableFile::open(TableHost& host, TableRecord record) {
  const std::string path = join_path(host.directory_, table_file_name(record.file_number));
  const Result<FileStatus> status = co_await file_status(path);
  if (!status) co_return fail(status.error());
  if (!status->exists) {
    co_return fail(Errc::corrupt,
                   fmt::format("{}: missing, but the manifest names it ({} bytes, {} entries); "
                               "restore it from a checkpoint, or wipe this directory and let the "
                               "replicas rebuild it",
                               path, record.size_bytes, record.entry_count));
  }
  if (status->size_bytes < record.size_bytes) {
    co_return fail(Errc::corrupt,
                   fmt::format("{}: ends at offset {}, but the manifest says {} bytes; restore it "
                               "from a checkpoint, or wipe this directory and let the replicas "
                               "rebuild it",
                               path, status->size_bytes, record.size_bytes));
  }
  Result<File> file = co_await File::open(path, flag_read | flag_direct);
  if (!file) co_return fail(file.error());
  TableRef table(new TableFile(host, std::move(*file), std::move(record)));
  const Result<void> read = co_await table->read_metadata();
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
  data_end_ = footer.top_index.offset;

  const Result<std::string> encoded = decoded(footer.properties);
  if (!encoded) co_return fail(encoded.error());
  Result<TableProperties> properties = TableProperties::decode(*encoded, footer.format_version);
  if (!properties) co_return fail(in_file(properties.error(), footer.properties.offset));
  properties_ = std::move(*properties);
  const Result<void> checked = check_properties();
  if (!checked) co_return fail(in_file(checked.error(), footer.properties.offset));
  properties_.smallest_key = std::string();
  properties_.largest_key = std::string();
  memory_bytes_ = sizeof(TableFile) + top_index_.memory_bytes() + record_.smallest_key.capacity() +
                  record_.largest_key.capacity();
  host_.table_memory_bytes_ += memory_bytes_;
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
  const BlockRef partition_block = host_.cache_.lookup(record_.file_number, handle.offset);
  if (!partition_block) return Probe::needs_io;
  const Result<PartitionView> partition =
      PartitionView::open(partition_block->bytes(), handle.offset);
  if (!partition) return Probe::needs_io;
  if (!partition->may_contain(key_hash)) return Probe::absent;
  out.end = LookupEnd::in_vain;
  const Result<bool> has_block = partition->find_block(key, handle);
  if (!has_block) return Probe::needs_io;
  if (!*has_block) return Probe::absent;
  BlockRef block = host_.cache_.lookup(record_.file_number, handle.offset);
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
  if (!has_partition) co_return fail(in_file(has_partition.error(), data_end_));
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

// --- blocks --------------------------------------------------------------------------------------

// A read of one block that others may wait for. Shared by its reader and those who wait.
struct BlockRead {
  uint64_t file_number;
  uint64_t offset;
  BlockRead* next = nullptr;  // in its bucket, as long as the read goes on
  uint32_t references = 1;
  Event ended;
  std::optional<Result<BlockPin>> result;

  void release() {
    if (--references == 0) delete this;
  }
};

BlockPin TableFile::cached_block(const BlockHandle& handle, CacheHint hint) {
  return BlockPin(host_.cache_.lookup(record_.file_number, handle.offset, hint));
}

Task<Result<BlockPin>> TableFile::load_block(BlockHandle handle, CacheHint hint) {
  const TableRef self(this);
  if (BlockPin cached = cached_block(handle, hint)) co_return cached;
  BlockRead** const bucket = host_.bucket_of(record_.file_number, handle.offset);
  for (BlockRead* read = *bucket; read != nullptr; read = read->next) {
    if (read->offset != handle.offset || read->file_number != record_.file_number) continue;
    ++host_.stats_.coalesced;
    ++read->references;
    const bool ended = co_await read->ended.wait();
    Result<BlockPin> result =
        ended ? *read->result : Result<BlockPin>(fail(Errc::cancelled, "stopped during a read"));
    read->release();
    co_return result;
  }
  auto* const read =
      new BlockRead{.file_number = record_.file_number, .offset = handle.offset, .next = *bucket};
  *bucket = read;
  Result<BlockPin> result = co_await read_block(handle, hint, false);
  BlockRead** link = bucket;
  while (*link != read) link = &(*link)->next;
  *link = read->next;
  if (read->references > 1) read->result.emplace(result);
  read->ended.set();
  read->release();
  co_return result;
}

Task<Result<BlockPin>> TableFile::load(BlockHandle handle, CacheHint hint, bool bypass_cache) {
  return bypass_cache ? read_block(handle, hint, true) : load_block(handle, hint);
}

Task<Result<BlockPin>> TableFile::load_partition(uint32_t index, CacheHint hint) {
  const Result<IndexEntry> entry = top_index_.partitions().entry(index);
  if (!entry) co_return fail(in_file(entry.error(), data_end_));
  co_return co_await load_block(entry->handle, hint);
}

Task<Result<BlockPin>> TableFile::read_block(BlockHandle handle, CacheHint hint,
                                             bool bypass_cache) {
  const uint64_t begin = io_align_down(handle.offset);
  const size_t size_bytes = io_align_up(handle.end()) - begin;
  AlignedBuffer buffer(size_bytes);
  const Result<size_t> got = co_await file().read_full(begin, {buffer.data(), size_bytes});
  ++host_.stats_.block_reads;
  if (!bypass_cache) ++level_stats().block_reads;
  host_.stats_.block_read_bytes += size_bytes;
  if (!got) co_return fail(in_file(got.error(), handle.offset));
  if (begin + *got < handle.end()) {
    co_return fail(in_file(Error::of(Errc::corrupt, "the file ends early"), begin + *got));
  }
  co_return decode({buffer.data() + (handle.offset - begin), handle.stored_bytes}, handle, hint,
                   bypass_cache);
}

Result<BlockPin> TableFile::decode(std::string_view stored, const BlockHandle& handle,
                                   CacheHint hint, bool bypass_cache) {
  BlockRef cached;
  if (!bypass_cache) cached = host_.cache_.allocate(handle.raw_bytes);
  BlockPin pin = cached ? BlockPin(cached) : BlockPin(new LooseBlock(host_, handle.raw_bytes));
  char* const out = cached ? cached->data() : pin.loose_->data.get();
  const Result<void> decoded = decode_block(stored, handle, out);
  if (!decoded) return fail(in_file(decoded.error(), handle.offset));
  if (!cached) return pin;
  pin.reset();
  return BlockPin(host_.cache_.insert(record_.file_number, handle.offset, std::move(cached), hint));
}

}  // namespace gyre
