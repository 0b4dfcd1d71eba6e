#include "store/large_reader.hpp"

#include <algorithm>
#include <bit>
#include <utility>

#include "base/assert.hpp"
#include "base/io_alignment.hpp"
#include "base/limits.hpp"

namespace gyre {

namespace {

constexpr uint64_t alignment = limits::io_alignment_bytes;

}  // namespace

Result<LargeReader> LargeReader::open(Ref<BlockFile> file, std::string_view encoded) {
  const Result<LargeHandle> handle = LargeHandle::decode(encoded, file->data_end());
  if (!handle) return fail(file->in_file(handle.error(), file->data_end()));
  return LargeReader(std::move(file), *handle);
}

Result<uint64_t> LargeReader::size_of(const BlockFile& file, std::string_view encoded) {
  const Result<LargeHandle> handle = LargeHandle::decode(encoded, file.data_end());
  if (!handle) return fail(file.in_file(handle.error(), file.data_end()));
  return handle->size_bytes;
}

size_t LargeReader::memory_bytes() const {
  return buffer_.size() + ahead_.memory_bytes() + list_.capacity();
}

size_t LargeReader::memory_bytes_expected(uint64_t value_bytes) {
  const size_t list_bytes = value_bytes / (64u << 10) * 8 + 32;  // a short string has more
  if (value_bytes + list_bytes + alignment <= piece_bytes_max) {
    // One read, of any offset; the pool hands out powers of two.
    return std::bit_ceil(io_align_up(value_bytes + list_bytes + alignment)) + list_bytes;
  }
  return 2 * piece_bytes_max + io_align_up(list_bytes + alignment) + list_bytes;
}

// --- groups --------------------------------------------------------------------------------------

// Whether value and checksum list, which follows its last chunk, fit into one read.
bool LargeReader::is_one_read() const {
  return handle_.size_bytes + handle_.list_bytes() + alignment <= piece_bytes_max;
}

// As many chunks as fit into one buffer, wherever they begin.
LargeReader::Group LargeReader::group_at(uint64_t chunk) const {
  if (is_one_read()) return {0, handle_.chunk_count()};
  const uint64_t fitting = (piece_bytes_max - alignment) / handle_.chunk_bytes;
  return {chunk, std::min(std::max<uint64_t>(fitting, 1), handle_.chunk_count() - chunk)};
}

uint64_t LargeReader::group_end(const Group& group) const {
  const uint64_t last = group.first + group.count - 1;
  return handle_.chunk_offset(last) + handle_.chunk_size_bytes(last);
}

void LargeReader::start(const Group& group) {
  const uint64_t begin = io_align_down(handle_.chunk_offset(group.first));
  const uint64_t end = group_end(group) + (is_one_read() ? handle_.list_bytes() : 0);
  ahead_.start_read(file_, begin, io_align_up(end) - begin);
  ahead_group_ = group;
  next_chunk_ = group.first + group.count;
  file_->host().count_window_read(io_align_up(end) - begin);
}

Task<Result<void>> LargeReader::read_list() {
  const uint64_t begin = io_align_down(handle_.list_offset());
  const size_t end = io_align_up(handle_.list_offset() + handle_.list_bytes());
  OverlappedIo read;
  read.start_read(file_, begin, end - begin);
  file_->host().count_window_read(end - begin);
  const Result<OverlappedIo::Done> done = co_await read.finish();
  if (!done) co_return fail(file_->in_file(done.error(), begin));
  co_return take_list({done->buffer.data(), done->size_bytes}, begin);
}

// Takes the list out of the bytes read at `begin`.
Result<void> LargeReader::take_list(std::string_view bytes, uint64_t begin) {
  if (begin + bytes.size() < handle_.list_offset() + handle_.list_bytes()) {
    return fail(
        file_->in_file(Error::of(Errc::corrupt, "the file ends early"), begin + bytes.size()));
  }
  list_ = bytes.substr(handle_.list_offset() - begin, handle_.list_bytes());
  const Result<void> checked = check_large_list(handle_, list_);
  if (!checked) return fail(file_->in_file(checked.error(), handle_.list_offset()));
  return {};
}

// --- reading -------------------------------------------------------------------------------------

Task<Result<std::string_view>> LargeReader::next() {
  if (rest_.empty()) {
    if (failed_) co_return fail(Errc::io, "a large value was read on after an error");
    const Result<void> filled = co_await fill();
    if (!filled) {
      failed_ = true;
      ahead_.abandon();
      co_return fail(filled.error());
    }
  }
  const std::string_view piece = rest_.substr(0, piece_bytes_max);
  rest_.remove_prefix(piece.size());
  given_bytes_ += piece.size();
  co_return piece;
}

// Fills rest_ with the next group, and starts to read the one behind it.
Task<Result<void>> LargeReader::fill() {
  if (!ahead_.started()) {  // the first time, or the end
    if (next_chunk_ == handle_.chunk_count()) {
      buffer_ = AlignedBuffer();
      co_return Result<void>{};
    }
    start(group_at(next_chunk_));
  }
  const Group group = ahead_group_;
  if (list_.empty() && !is_one_read()) {
    const Result<void> read = co_await read_list();
    if (!read) co_return read;
  }
  Result<OverlappedIo::Done> done = co_await ahead_.finish();
  const uint64_t begin = io_align_down(handle_.chunk_offset(group.first));
  if (!done) co_return fail(file_->in_file(done.error(), begin));
  const std::string_view bytes(done->buffer.data(), done->size_bytes);
  if (begin + bytes.size() < group_end(group)) {
    co_return fail(
        file_->in_file(Error::of(Errc::corrupt, "the file ends early"), begin + bytes.size()));
  }
  if (list_.empty()) {
    const Result<void> taken = take_list(bytes, begin);
    if (!taken) co_return taken;
  }
  buffer_ = std::move(done->buffer);
  done->buffer = AlignedBuffer();  // the group before, whose bytes nobody uses any more
  if (next_chunk_ != handle_.chunk_count()) start(group_at(next_chunk_));
  for (uint64_t chunk = group.first; chunk < group.first + group.count; ++chunk) {
    const std::string_view stored =
        bytes.substr(handle_.chunk_offset(chunk) - begin, handle_.chunk_size_bytes(chunk));
    const Result<void> checked = check_large_chunk(handle_, list_, chunk, stored);
    if (!checked) co_return fail(file_->in_file(checked.error(), handle_.chunk_offset(chunk)));
  }
  const uint64_t first_offset = handle_.chunk_offset(group.first);
  rest_ = bytes.substr(first_offset - begin, group_end(group) - first_offset);
  co_return Result<void>{};
}

}  // namespace gyre
