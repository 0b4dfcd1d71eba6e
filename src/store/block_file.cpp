#include "store/block_file.hpp"

#include <fmt/format.h>

#include <memory>
#include <optional>
#include <utility>

#include "base/assert.hpp"
#include "base/io_alignment.hpp"
#include "store/table_file.hpp"
#include "store/value_file.hpp"

namespace gyre {

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
  GYRE_ASSERT(files_open_ == 0);
  GYRE_ASSERT(uncached_bytes_ == 0);
}

Task<void> TableHost::drain() {
  no_files_.reset();
  if (files_open_ != 0) co_await detail::Uninterrupted{no_files_};
}

TableRef TableHost::open_table(uint64_t file_number) const {
  const auto found = tables_.find(file_number);
  return TableRef(found == tables_.end() ? nullptr : found->second);
}

ValueFileRef TableHost::open_value_file(uint64_t file_number) const {
  const auto found = value_files_.find(file_number);
  return ValueFileRef(found == value_files_.end() ? nullptr : found->second);
}

Ref<BlockFile> TableHost::next_file(uint64_t file_number) const {
  const auto next_of = [file_number](const auto& files) -> BlockFile* {
    const auto found = std::find_if(files.lower_bound(file_number), files.end(),
                                    [](const auto& file) { return !file.second->is_obsolete(); });
    return found == files.end() ? nullptr : found->second;
  };
  BlockFile* const table = next_of(tables_);
  BlockFile* const values = next_of(value_files_);
  if (table == nullptr || values == nullptr) return Ref(table == nullptr ? values : table);
  return Ref(table->file_number() < values->file_number() ? table : values);
}

// --- the file ------------------------------------------------------------------------------------

BlockFile::BlockFile(TableHost& host, File file, FileKind kind, uint64_t file_number,
                     uint64_t size_bytes)
    : SharedFile(std::move(file)),
      host_(host),
      kind_(kind),
      file_number_(file_number),
      file_size_bytes_(size_bytes) {
  ++host_.files_open_;
}

BlockFile::~BlockFile() {
  TableHost& host = host_;
  if (obsolete_ && host.on_dropped_ != nullptr) {
    host.on_dropped_(host.context_, {file_number_, file_size_bytes_, kind_, std::move(file())});
  }
  if (--host.files_open_ == 0) host.no_files_.set();
}

std::string BlockFile::path() const {
  return join_path(host_.directory_, kind_ == FileKind::table ? table_file_name(file_number_)
                                                              : value_file_name(file_number_));
}

namespace {

constexpr const char* restore_advice =
    "restore it from a checkpoint, or wipe this directory and let the replicas rebuild it";

}  // namespace

Error BlockFile::in_file(Error error, uint64_t offset) const {
  return error_at(fmt::format("{}: at offset {}", path(), offset), std::move(error));
}

Error error_at(std::string_view place, Error error) {
  if (error.detail.empty()) error.detail = "read failed";
  error.detail = fmt::format("{}: {}", place, error.detail);
  if (error.code == Errc::corrupt) error.detail += fmt::format("; {}", restore_advice);
  if (error.code == Errc::unsupported) error.detail += "; start a newer program on this directory";
  return error;
}

Error missing_file(std::string_view path, std::string_view named_by) {
  return Error::of(Errc::corrupt,
                   fmt::format("{}: missing, but {}; {}", path, named_by, restore_advice));
}

Error short_file(std::string_view path, uint64_t size_bytes, std::string_view expected) {
  return Error::of(Errc::corrupt, fmt::format("{}: ends at offset {}, but {}; {}", path, size_bytes,
                                              expected, restore_advice));
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

BlockPin BlockFile::cached_block(const BlockHandle& handle, CacheHint hint) {
  return BlockPin(host_.cache_.lookup(file_number_, handle.offset, hint));
}

Task<Result<BlockPin>> BlockFile::load_block(BlockHandle handle, CacheHint hint) {
  const Ref<BlockFile> self(this);
  if (BlockPin cached = cached_block(handle, hint)) co_return cached;
  BlockRead** const bucket = host_.bucket_of(file_number_, handle.offset);
  for (BlockRead* read = *bucket; read != nullptr; read = read->next) {
    if (read->offset != handle.offset || read->file_number != file_number_) continue;
    ++host_.stats_.coalesced;
    ++read->references;
    const bool ended = co_await read->ended.wait();
    Result<BlockPin> result =
        ended ? *read->result : Result<BlockPin>(fail(Errc::cancelled, "stopped during a read"));
    read->release();
    co_return result;
  }
  auto* const read =
      new BlockRead{.file_number = file_number_, .offset = handle.offset, .next = *bucket};
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

Task<Result<BlockPin>> BlockFile::load(BlockHandle handle, CacheHint hint, bool bypass_cache) {
  return bypass_cache ? read_block(handle, hint, true) : load_block(handle, hint);
}

Task<Result<BlockPin>> BlockFile::read_block(BlockHandle handle, CacheHint hint,
                                             bool bypass_cache) {
  const uint64_t begin = io_align_down(handle.offset);
  const size_t size_bytes = io_align_up(handle.end()) - begin;
  AlignedBuffer buffer(size_bytes);
  const Result<size_t> got = co_await file().read_full(begin, {buffer.data(), size_bytes});
  ++host_.stats_.block_reads;
  if (!bypass_cache) count_block_read();
  host_.stats_.block_read_bytes += size_bytes;
  if (!got) co_return fail(in_file(got.error(), handle.offset));
  if (begin + *got < handle.end()) {
    co_return fail(in_file(Error::of(Errc::corrupt, "the file ends early"), begin + *got));
  }
  co_return decode({buffer.data() + (handle.offset - begin), handle.stored_bytes}, handle, hint,
                   bypass_cache);
}

Result<BlockPin> BlockFile::decode(std::string_view stored, const BlockHandle& handle,
                                   CacheHint hint, bool bypass_cache) {
  BlockRef cached;
  if (!bypass_cache) cached = host_.cache_.allocate(handle.raw_bytes);
  BlockPin pin = cached ? BlockPin(cached) : BlockPin(new LooseBlock(host_, handle.raw_bytes));
  char* const out = cached ? cached->data() : pin.loose_->data.get();
  const Result<void> decoded = decode_block(stored, handle, out);
  if (!decoded) return fail(in_file(decoded.error(), handle.offset));
  if (!cached) return pin;
  pin.reset();
  return BlockPin(host_.cache_.insert(file_number_, handle.offset, std::move(cached), hint));
}

}  // namespace gyre
