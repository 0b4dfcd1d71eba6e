#include "store/table_writer.hpp"

#include <algorithm>
#include <utility>

#include <gyre/time.hpp>

#include "base/assert.hpp"
#include "base/io_alignment.hpp"
#include "store/file_names.hpp"

namespace gyre {

TableWriter::TableWriter(uint64_t file_number, const TableWriterOptions& options,
                         std::unique_ptr<DirectFileWriter> file)
    : file_number_(file_number),
      options_(options),
      builder_(options.table.at_level(options.level), file_number),
      file_(std::move(file)) {}

TableWriter::~TableWriter() = default;

Task<Result<std::unique_ptr<TableWriter>>> TableWriter::create(std::string directory,
                                                               uint64_t file_number,
                                                               TableWriterOptions options) {
  Result<std::unique_ptr<DirectFileWriter>> file = co_await DirectFileWriter::create(
      join_path(directory, table_file_name(file_number)), options.size_bytes_estimate);
  if (!file) co_return fail(file.error());
  co_return std::unique_ptr<TableWriter>(new TableWriter(file_number, options, std::move(*file)));
}

size_t TableWriter::memory_bytes() const {
  return builder_.memory_bytes() + file_->memory_bytes();
}

Task<Result<void>> TableWriter::drain() {
  if (file_->error()) co_return fail(*file_->error());
  while (builder_.pending().size() >= piece_bytes) {
    const Result<void> written = co_await file_->write(builder_.pending().substr(0, piece_bytes));
    if (!written) co_return written;
    builder_.consume(piece_bytes);
  }
  co_return Result<void>{};
}

// --- large values --------------------------------------------------------------------------------

Task<Result<void>> TableWriter::add_large(Entry entry, ValueBuffer value) {
  if (file_->error()) co_return fail(*file_->error());
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
  if (file_->error()) co_return fail(*file_->error());
  builder_.begin_large(entry, value.remaining_bytes());
  for (;;) {
    const Result<std::string_view> piece = co_await value.next();
    if (!piece) co_return co_await file_->fail_with(piece.error());
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
  if (file_->error()) co_return fail(*file_->error());
  builder_.finish(created_ms, log_sequence_max);
  while (!builder_.pending().empty()) {
    const size_t bytes = std::min(builder_.pending().size(), piece_bytes);
    const Result<void> written = co_await file_->write(builder_.pending().substr(0, bytes));
    if (!written) co_return fail(written.error());
    builder_.consume(bytes);
  }
  const Result<void> done = co_await file_->finish();
  if (!done) co_return fail(done.error());
  GYRE_ASSERT(file_->written_bytes() == io_align_up(builder_.file_bytes()));
  co_return table_record(builder_.properties(), options_.level, file_number_,
                         builder_.file_bytes());
}

Task<void> TableWriter::abandon() {
  return file_->abandon();
}

}  // namespace gyre
