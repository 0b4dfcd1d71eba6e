#include "store/value_prefetch.hpp"

#include <algorithm>
#include <utility>

#include "base/io_alignment.hpp"

namespace gyre {

namespace {

constexpr size_t bytes_ahead_min = 32u << 10;

}  // namespace

bool ValuePrefetch::is_under_way(const BlockFile& file, const BlockHandle& handle) const {
  return std::any_of(reads_.begin(), reads_.end(), [&](const Read& read) {
    return read.file.get() == &file && read.handle == handle;
  });
}

Task<Result<void>> ValuePrefetch::load(const SourceCursor& cursor, TableEntry& value) {
  const TableRef table = cursor.table();
  const Result<TableFile::ValuePlace> place = table->place_of(value.entry);
  if (!place) co_return fail(place.error());
  const Result<BlockHandle> handle = decode_block_value(place->handle, place->file->data_end());
  if (!handle) co_return co_await table->resolve(value);  // which says what is wrong
  if (is_under_way(*place->file, *handle)) {
    // Those before it were overtaken: found in the cache, or hidden by something newer.
    while (!(reads_.front().file == place->file && reads_.front().handle == *handle)) {
      bytes_ahead_ -= reads_.front().io.memory_bytes();
      reads_.pop_front();
    }
    Read read = std::move(reads_.front());
    reads_.pop_front();
    bytes_ahead_ -= read.io.memory_bytes();
    bytes_wanted_ = std::clamp(2 * bytes_wanted_, bytes_ahead_min, bytes_ahead_max);
    start(cursor);
    Result<BlockPin> pin = co_await finish(std::move(read));
    if (!pin) co_return fail(pin.error());
    value.pin = std::move(*pin);
    value.entry.kind = Kind::value;
    value.entry.value = value.pin.bytes();
    co_return Result<void>{};
  }
  // The first value of a scan is often the only one that is read.
  if (bytes_wanted_ != 0) start(cursor);
  bytes_wanted_ = std::max(bytes_wanted_, bytes_ahead_min);
  co_return co_await table->resolve(value, CacheHint::scan);
}

void ValuePrefetch::start(const SourceCursor& cursor) {
  cursor.peek([&](const Entry& entry) {
    const bool outside = !bound_.empty() && (back_ ? entry.key < bound_ : entry.key >= bound_);
    if (outside || bytes_ahead_ >= bytes_wanted_) return false;
    if (entry.kind != Kind::separate) return true;
    const Result<TableFile::ValuePlace> place = cursor.table()->place_of(entry);
    if (!place) return false;
    const Result<BlockHandle> handle = decode_block_value(place->handle, place->file->data_end());
    if (!handle) return false;
    if (is_under_way(*place->file, *handle) ||
        place->file->cached_block(*handle, CacheHint::scan)) {
      return true;
    }
    const uint64_t begin = io_align_down(handle->offset);
    Read read{place->file, *handle, {}};
    read.io.start_read(place->file, begin, io_align_up(handle->end()) - begin);
    place->file->host().count_window_read(io_align_up(handle->end()) - begin);
    bytes_ahead_ += read.io.memory_bytes();
    reads_.push_back(std::move(read));
    return true;
  });
}

Task<Result<BlockPin>> ValuePrefetch::finish(Read read) {
  const BlockHandle& handle = read.handle;
  const uint64_t begin = io_align_down(handle.offset);
  const Result<OverlappedIo::Done> done = co_await read.io.finish();
  if (!done) co_return fail(read.file->in_file(done.error(), handle.offset));
  if (begin + done->size_bytes < handle.end()) {
    co_return fail(read.file->in_file(Error::of(Errc::corrupt, "the file ends early"),
                                      begin + done->size_bytes));
  }
  co_return read.file->decode({done->buffer.data() + (handle.offset - begin), handle.stored_bytes},
                              handle, CacheHint::scan, false);
}

}  // namespace gyre
