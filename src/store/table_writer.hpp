// Writes one table to its file: the builder makes bytes, the writer puts them on the disk in
// aligned writes of 256 KiB, up to two of them under way while the builder fills the next.
//
//   Result<std::unique_ptr<TableWriter>> writer = co_await TableWriter::create(…)
//   for each entry in key order:
//     small value or tombstone   if (writer->add(entry)) co_await writer->drain()
//     large value                co_await writer->add_large(entry, buffer or reader)
//     every 64 entries           co_await maybe_yield()
//   co_await writer->finish(…)      or, to give up, co_await writer->abandon()
//
// The table is durable when finish() answers, its name is not: the caller syncs the directory,
// once for all tables of a job, before it names them in the manifest. After any error, and after
// abandon(), the file is gone and every further call answers the same error. A writer that is
// destroyed before either leaves a file that the next start removes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include <gyre/result.hpp>
#include <gyre/task.hpp>

#include "store/large_reader.hpp"
#include "store/manifest_edit.hpp"
#include "store/shared_file.hpp"
#include "store/table_builder.hpp"
#include "store/value_buffer.hpp"

namespace gyre {

struct TableWriterOptions {
  TableOptions table;
  uint8_t level = 0;                 // goes into the record
  uint64_t size_bytes_estimate = 0;  // preallocated; the file may become longer
};

class TableWriter {
 public:
  static constexpr size_t piece_bytes = 256u << 10;

  static Task<Result<std::unique_ptr<TableWriter>>> create(std::string directory,
                                                           uint64_t file_number,
                                                           TableWriterOptions options);
  ~TableWriter();
  TableWriter(const TableWriter&) = delete;
  TableWriter& operator=(const TableWriter&) = delete;

  // Keys must strictly increase. Not for Kind::large. True: drain() is due.
  bool add(const Entry& entry) {
    builder_.add(entry);
    return builder_.pending().size() >= piece_bytes;
  }
  // Puts what is pending on its way; waits only if two writes are under way.
  Task<Result<void>> drain();
  // Key, version and expiry of `entry` count, its kind and value don't; its key must stay until
  // the task has ended, and so must the reader, which is read from its present position to its end.
  Task<Result<void>> add_large(Entry entry, ValueBuffer value);
  Task<Result<void>> add_large(Entry entry, LargeReader& value);

  // At least one entry was added. Writes the rest, syncs, closes.
  Task<Result<TableRecord>> finish(uint64_t created_ms, uint64_t log_sequence_max);
  // Waits for writes under way, closes and removes the file.
  Task<void> abandon();

  uint64_t file_number() const { return file_number_; }
  uint64_t file_bytes() const { return builder_.file_bytes(); }
  // What the file would have if it was finished now: to decide when to start the next table.
  uint64_t estimated_file_bytes() const { return builder_.estimated_file_bytes(); }
  bool empty() const { return builder_.properties().entry_count == 0; }
  const TableProperties& properties() const { return builder_.properties(); }
  size_t memory_bytes() const;
  // What a writer holds at most while large values are streamed through it.
  static constexpr size_t memory_bytes_expected = 4u << 20;

 private:
  TableWriter(std::string path, uint64_t file_number, const TableWriterOptions& options,
              Ref<SharedFile> file);

  Task<Result<void>> reserve(uint64_t end);
  Task<Result<void>> write_piece(size_t bytes);
  Task<Result<void>> wait_for_writes();
  Task<Result<void>> finish_file();
  // Removes the file; everything answers `error` from then on.
  Task<Result<void>> fail_with(Error error);
  Task<void> remove_file();

  std::string path_;
  uint64_t file_number_;
  TableWriterOptions options_;
  TableBuilder builder_;
  Ref<SharedFile> file_;  // empty once it is closed
  std::array<OverlappedIo, 2> writes_;
  size_t oldest_write_ = 0;
  uint64_t written_bytes_ = 0;  // by all writes started
  uint64_t allocated_bytes_ = 0;
  std::optional<Error> error_;
};

}  // namespace gyre
