#include "store/direct_file_writer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include <gyre/file.hpp>
#include <gyre/reactor.hpp>

#include "base/assert.hpp"
#include "base/io_alignment.hpp"
#include "base/limits.hpp"
#include "store/test_faults.hpp"

namespace gyre {

namespace {

// A file that outgrows its estimate is preallocated in such steps.
constexpr uint64_t extension_bytes = 4u << 20;

}  // namespace

DirectFileWriter::~DirectFileWriter() = default;

Task<Result<std::unique_ptr<DirectFileWriter>>> DirectFileWriter::create(
    std::string path, uint64_t size_bytes_estimate) {
  Result<File> file =
      co_await File::open(path, flag_write | flag_direct | flag_create | flag_exclusive);
  if (!file) co_return fail(file.error());
  std::unique_ptr<DirectFileWriter> writer(
      new DirectFileWriter(std::move(path), Ref<SharedFile>(new SharedFile(std::move(*file)))));
  if (size_bytes_estimate != 0) {
    const Result<void> reserved = co_await writer->reserve(size_bytes_estimate);
    if (!reserved) co_return fail((co_await writer->fail_with(reserved.error())).error());
  }
  co_return writer;
}

// Allocates the file up to `end` at least, so that writes don't change its size one by one.
Task<Result<void>> DirectFileWriter::reserve(uint64_t end) {
  end = io_align_up(end);
  if (end <= allocated_bytes_) co_return Result<void>{};
  const Result<void> done =
      co_await file_->file().allocate(allocated_bytes_, end - allocated_bytes_);
  // A file system that can't preallocate still takes writes.
  if (!done && done.error().os_error != EOPNOTSUPP) co_return done;
  allocated_bytes_ = end;
  co_return Result<void>{};
}

Task<Result<void>> DirectFileWriter::write(std::string_view bytes) {
  if (error_) co_return fail(*error_);
  const Result<void> started = co_await start(bytes);
  if (!started) co_return co_await fail_with(started.error());
  co_return Result<void>{};
}

Task<Result<void>> DirectFileWriter::start(std::string_view bytes) {
  if (written_bytes_ + bytes.size() > allocated_bytes_) {
    const Result<void> reserved =
        co_await reserve(written_bytes_ + std::max<uint64_t>(bytes.size(), extension_bytes));
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
  const size_t padded = io_align_up(bytes.size());
  if (buffer.size() < padded) buffer = AlignedBuffer(padded);
  std::memcpy(buffer.data(), bytes.data(), bytes.size());
  std::memset(buffer.data() + bytes.size(), 0, padded - bytes.size());
  write.start_write(file_, written_bytes_, std::move(buffer), padded);
  written_bytes_ += padded;
  co_return Result<void>{};
}

Task<Result<void>> DirectFileWriter::wait_for_writes() {
  Result<void> first;
  for (OverlappedIo& write : writes_) {
    if (!write.started()) continue;
    const Result<OverlappedIo::Done> done = co_await write.finish();
    if (!done && first) first = fail(done.error());
  }
  co_return first;
}

// --- the end -------------------------------------------------------------------------------------

Task<Result<void>> DirectFileWriter::finish() {
  if (error_) co_return fail(*error_);
  const Result<void> done = co_await finish_file();
  if (!done) co_return co_await fail_with(done.error());
  error_ = Error::of(Errc::closed, path_ + " is finished");
  co_return Result<void>{};
}

Task<Result<void>> DirectFileWriter::finish_file() {
  const Result<void> ended = co_await wait_for_writes();
  if (!ended) co_return ended;
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

Task<void> DirectFileWriter::abandon() {
  if (error_) co_return;
  error_ = Error::of(Errc::cancelled, path_ + " was given up");
  co_await remove();
}

Task<void> DirectFileWriter::remove() {
  static_cast<void>(co_await wait_for_writes());
  if (file_ && file_->file().is_open()) static_cast<void>(co_await file_->file().close());
  file_.reset();
  const Result<void> removed = co_await unlink_file(path_);
  if (!removed) {
    Reactor::current().log("warn", fmt::format("{} is left over until the next start: {}", path_,
                                               removed.error().message()));
  }
}

Task<Result<void>> DirectFileWriter::fail_with(Error error) {
  if (error.detail.find(path_) == std::string::npos) {
    error.detail =
        fmt::format("writing {}{}{}", path_, error.detail.empty() ? "" : ": ", error.detail);
  }
  error_ = error;
  co_await remove();
  co_return fail(std::move(error));
}

}  // namespace gyre
