#include "store/table_writer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include <gyre/time.hpp>

#include "base/assert.hpp"
#include "base/io_alignment.hpp"
#include "base/limits.hpp"
#include "store/file_names.hpp"
#include "store/test_faults.hpp"

namespace gyre {

namespace {

// A file that outgrows its estimate is preallocated in such steps.
constexpr uint64_t extension_bytes = 4u << 20;

}  // namespace

TableWriter::TableWriter(std::string path, uint64_t file_number, const TableWriterOptions& options,
                         Ref<SharedFile> file)
    : path_(std::move(path)),
      file_number_(file_number),
      options_(options),
      builder_(options.table.at_level(options.level), file_number),
      file_(std::move(file)) {}

TableWriter::~TableWriter() = default;

Task<Result<std::unique_ptr<TableWriter>>> TableWriter::create(std::string directory,
                                                               uint64_t file_number,
                                                               TableWriterOptions options) {
  std::string path = join_path(directory, table_file_name(file_number));
  Result<File> file =
      co_await File::open(path, flag_write | flag_direct | flag_create | flag_exclusive);
  if (!file) co_return fail(file.error());
  std::unique_ptr<TableWriter> writer(new TableWriter(
      std::move(path), file_number, options, Ref<SharedFile>(new SharedFile(std::move(*file)))));
  if (options.size_bytes_estimate != 0) {
    const Result<void> reserved = co_await writer->reserve(options.size_bytes_estimate);
    if (!reserved) co_return fail((co_await writer->fail_with(reserved.error())).error());
  }
  co_return writer;
}

size_t TableWriter::memory_bytes() const {
  return builder_.memory_bytes() + writes_[0].memory_bytes() + writes_[1].memory_bytes();
}

// --- writing -------------------------------------------------------------------------------------

Task<Result<void>> TableWriter::drain() {
  if (error_) co_return fail(*error_);
  while (builder_.pending().size() >= piece_bytes) {
    const Result<void> written = co_await write_piece(piece_bytes);
    if (!written) co_return co_await fail_with(written.error());
  }
  co_return Result<void>{};
}

// Allocates the file up to `end` at least, so that writes don't change its size one by one.
Task<Result<void>> TableWriter::reserve(uint64_t end) {
  end = io_align_up(end);
  if (end <= allocated_bytes_) co_return Result<void>{};
  const Result<void> done =
      co_await file_->file().allocate(allocated_bytes_, end - allocated_bytes_);
  // A file system that can't preallocate still takes writes.
  if (!done && done.error().os_error != EOPNOTSUPP) co_return done;
  allocated_bytes_ = end;
  co_return Result<void>{};
}

// Puts the first `bytes` pending ones on their way, padded with zeros to a multiple of 4096.
Task<Result<void>> TableWriter::write_piece(size_t bytes) {
  if (written_bytes_ + bytes > allocated_bytes_) {
    const Result<void> reserved =
        co_await reserve(written_bytes_ + std::max<uint64_t>(bytes, extension_bytes));
    if (!reserved) co_return reserved;
  }
  OverlappedIo& write = writes_[oldest_write_];
  oldest_write_ = (oldest_write_ + 1) % writes_.size();
  AlignedBuffer buffer;
  if (write.started()) {
    Result<OverlappedIo::Done> done = co_await write.finish();
    if (!done) co_return fail(done.error());
    buffer = std::move(done->buffer);
  }
  const size_t padded = io_align_up(bytes);
  if (buffer.size() < padded) buffer = AlignedBuffer(padded);
  std::memcpy(buffer.data(), builder_.pending().data(), bytes);
  std::memset(buffer.data() + bytes, 0, padded - bytes);
  builder_.consume(bytes);
  write.start_write(file_, written_bytes_, std::move(buffer), padded);
  written_bytes_ += padded;
  co_return Result<void>{};
}

Task<Result<void>> TableWriter::wait_for_writes() {
  Result<void> first;
  for (OverlappedIo& write : writes_) {
    if (!write.started()) continue;
    const Result<OverlappedIo::Done> done = co_await write.finish();
    if (!done && first) first = fail(done.error());
  }
  co_return first;
}

// --- large values --------------------------------------------------------------------------------

Task<Result<void>> TableWriter::add_large(Entry entry, ValueBuffer value) {
  if (error_) co_return fail(*error_);
  builder_.begin_large(entry, value.size());
  ValueBuffer::Reader reader(value);
  for (;;) {
    const std::string_view piece = reader.next(piece_bytes);
    if (piece.empty()) break;
    builder_.add_large_bytes(piece);
    const Result<void> drained = co_await drain();
    if (!drained) co_return drained;
    co_await maybe_yield();
  }
  builder_.end_large();
  co_return co_await drain();
}

Task<Result<void>> TableWriter::add_large(Entry entry, LargeReader& value) {
  if (error_) co_return fail(*error_);
  builder_.begin_large(entry, value.remaining_bytes());
  for (;;) {
    const Result<std::string_view> piece = co_await value.next();
    if (!piece) co_return co_await fail_with(piece.error());
    if (piece->empty()) break;
    builder_.add_large_bytes(*piece);
    const Result<void> drained = co_await drain();
    if (!drained) co_return drained;
    co_await maybe_yield();
  }
  builder_.end_large();
  co_return co_await drain();
}

// --- the end -------------------------------------------------------------------------------------

Task<Result<TableRecord>> TableWriter::finish(uint64_t created_ms, uint64_t log_sequence_max) {
  if (error_) co_return fail(*error_);
  builder_.finish(created_ms, log_sequence_max);
  const Result<void> done = co_await finish_file();
  if (!done) co_return fail((co_await fail_with(done.error())).error());
  error_ = Error::of(Errc::closed, path_ + " is finished");
  co_return table_record(builder_.properties(), options_.level, file_number_,
                         builder_.file_bytes());
}

Task<Result<void>> TableWriter::finish_file() {
  while (!builder_.pending().empty()) {
    const Result<void> written =
        co_await write_piece(std::min(builder_.pending().size(), piece_bytes));
    if (!written) co_return written;
  }
  const Result<void> ended = co_await wait_for_writes();
  if (!ended) co_return ended;
  GYRE_ASSERT(written_bytes_ == io_align_up(builder_.file_bytes()));
  if (allocated_bytes_ != written_bytes_) {
    const Result<void> cut = co_await file_->file().truncate(written_bytes_);
    if (!cut) co_return cut;
  }
  if (!store_test_faults.install_before_table_durable) {
    const Result<void> synced = co_await file_->file().sync_data();
    if (!synced) co_return synced;
  }
  const Result<void> closed = co_await file_->file().close();
  file_.reset();
  co_return closed;
}

Task<void> TableWriter::abandon() {
  if (error_) co_return;
  error_ = Error::of(Errc::cancelled, path_ + " was given up");
  co_await remove_file();
}

Task<void> TableWriter::remove_file() {
  static_cast<void>(co_await wait_for_writes());
  if (file_ && file_->file().is_open()) static_cast<void>(co_await file_->file().close());
  file_.reset();
  const Result<void> removed = co_await unlink_file(path_);
  if (!removed) {
    Reactor::current().log("warn", fmt::format("{} is left over until the next start: {}", path_,
                                               removed.error().message()));
  }
}

Task<Result<void>> TableWriter::fail_with(Error error) {
  if (error.detail.find(path_) == std::string::npos) {
    error.detail =
        fmt::format("writing {}{}{}", path_, error.detail.empty() ? "" : ": ", error.detail);
  }
  error_ = error;
  co_await remove_file();
  co_return fail(std::move(error));
}

}  // namespace gyre
