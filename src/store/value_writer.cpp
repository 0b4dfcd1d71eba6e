#include "store/value_writer.hpp"

#include <fmt/format.h>

#include <utility>

#include <gyre/file.hpp>
#include <gyre/reactor.hpp>
#include <gyre/time.hpp>

#include "base/assert.hpp"
#include "base/io_alignment.hpp"
#include "base/limits.hpp"
#include "store/extent_builder.hpp"
#include "store/file_names.hpp"

namespace gyre {

ValueWriter::ValueWriter(ValueWriterOptions options, std::function<uint64_t()> take_file_number)
    : options_(std::move(options)), take_file_number_(std::move(take_file_number)) {}

ValueWriter::~ValueWriter() = default;

size_t ValueWriter::memory_bytes() const {
  return pending_.capacity() + compressed_.capacity() + (file_ ? file_->memory_bytes() : 0);
}

// --- values --------------------------------------------------------------------------------------

// Makes room for one more value: the open file may be full, or there is none.
Task<Result<void>> ValueWriter::prepare() {
  if (error_) co_return fail(*error_);
  if (file_ && footer_.content_bytes >= options_.file_bytes_max) {
    if (Result<void> done = co_await finish_file(); !done)
      co_return co_await fail_with(done.error());
  }
  if (file_) co_return Result<void>{};
  footer_ = {.file_number = take_file_number_()};
  hash_.emplace();
  Result<std::unique_ptr<DirectFileWriter>> file = co_await DirectFileWriter::create(
      join_path(options_.directory, value_file_name(footer_.file_number)), 0);
  if (!file) co_return co_await fail_with(file.error());
  file_ = std::move(*file);
  co_return Result<void>{};
}

void ValueWriter::append(std::string_view bytes) {
  pending_.append(bytes);
  hash_->update(bytes);
  footer_.content_bytes += bytes.size();
}

Task<Result<WrittenValue>> ValueWriter::add(std::string_view value) {
  GYRE_ASSERT(value.size() <= limits::table_block_value_bytes_max);
  if (Result<void> ready = co_await prepare(); !ready) co_return fail(ready.error());
  BlockHandle handle;
  const std::string_view stored = encode_block(value, options_.codec, compressed_, handle);
  handle.offset = footer_.content_bytes;
  append(stored);
  ++footer_.value_count;
  ++value_count_;
  if (Result<void> drained = co_await drain(); !drained) co_return fail(drained.error());
  co_return WrittenValue{
      .kind = Kind::separate,
      .encoded = encode_block_value(footer_.file_number, handle),
      .place = {footer_.file_number, handle.raw_bytes, handle.stored_bytes, handle.end()}};
}

template <class NextPiece>
Task<Result<WrittenValue>> ValueWriter::add_pieces(uint64_t size_bytes, NextPiece next) {
  if (Result<void> ready = co_await prepare(); !ready) co_return fail(ready.error());
  ExtentBuilder extent(footer_.content_bytes, size_bytes, options_.chunk_bytes);
  for (;;) {
    const Result<std::string_view> piece = co_await next();
    if (!piece) co_return fail((co_await fail_with(piece.error())).error());
    if (piece->empty()) break;
    extent.add(*piece);
    append(*piece);
    if (Result<void> drained = co_await drain(); !drained) co_return fail(drained.error());
    co_await maybe_yield();
  }
  append(extent.end());
  ++footer_.value_count;
  ++value_count_;
  if (Result<void> drained = co_await drain(); !drained) co_return fail(drained.error());
  const LargeHandle& handle = extent.handle();
  co_return WrittenValue{.kind = Kind::separate_large,
                         .encoded = encode_large_value(footer_.file_number, handle),
                         .place = {footer_.file_number, handle.size_bytes,
                                   handle.size_bytes + handle.list_bytes(), footer_.content_bytes}};
}

Task<Result<WrittenValue>> ValueWriter::add_large(ValueBuffer value) {
  ValueBuffer::Reader reader(value);
  co_return co_await add_pieces(value.size(), [&]() -> Task<Result<std::string_view>> {
    co_return reader.next(piece_bytes);
  });
}

Task<Result<WrittenValue>> ValueWriter::add_large(LargeReader& value) {
  co_return co_await add_pieces(value.remaining_bytes(), [&] { return value.next(); });
}

// --- the disk ------------------------------------------------------------------------------------

Task<Result<void>> ValueWriter::drain() {
  while (pending_.size() >= piece_bytes) {
    const Result<void> written =
        co_await file_->write(std::string_view(pending_).substr(0, piece_bytes));
    if (!written) co_return co_await fail_with(written.error());
    pending_.erase(0, piece_bytes);
  }
  co_return Result<void>{};
}

// Puts the footer at the end of the last block of 4096 bytes, whatever lies before it.
Task<Result<void>> ValueWriter::finish_file() {
  footer_.content_hash = hash_->digest();
  const uint64_t end = io_align_up(footer_.content_bytes + value_footer_bytes);
  pending_.append(end - value_footer_bytes - footer_.content_bytes, '\0');
  append_value_footer(pending_, footer_);
  while (!pending_.empty()) {
    const size_t bytes = std::min(pending_.size(), piece_bytes);
    const Result<void> written = co_await file_->write(std::string_view(pending_).substr(0, bytes));
    if (!written) co_return written;
    pending_.erase(0, bytes);
  }
  if (Result<void> done = co_await file_->finish(); !done) co_return done;
  GYRE_ASSERT(file_->written_bytes() == end);
  written_bytes_ += end;
  finished_.push_back(footer_.file_number);
  file_.reset();
  co_return Result<void>{};
}

Task<Result<void>> ValueWriter::finish() {
  if (error_) co_return fail(*error_);
  if (file_) {
    if (Result<void> done = co_await finish_file(); !done)
      co_return co_await fail_with(done.error());
  }
  co_return Result<void>{};
}

Task<void> ValueWriter::remove_finished() {
  for (const uint64_t number : std::exchange(finished_, {})) {
    const std::string path = join_path(options_.directory, value_file_name(number));
    const Result<void> removed = co_await unlink_file(path);
    if (!removed) {
      Reactor::current().log("warn", fmt::format("{} is left over until the next start: {}", path,
                                                 removed.error().message()));
    }
  }
}

Task<void> ValueWriter::abandon() {
  if (error_) co_return;
  error_ = Error::of(Errc::cancelled, "the value file was given up");
  if (file_) co_await file_->abandon();
  co_await remove_finished();
}

Task<Result<void>> ValueWriter::fail_with(Error error) {
  error_ = error;
  if (file_) co_await file_->abandon();
  co_await remove_finished();
  co_return fail(std::move(error));
}

}  // namespace gyre
