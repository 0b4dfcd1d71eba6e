// Writes one table to its file: the builder makes bytes, which go to the disk as
// direct_file_writer.hpp says, whose rules for errors are the writer's too.
//
//   Result<std::unique_ptr<TableWriter>> writer = co_await TableWriter::create(…)
//   for each entry in key order:
//     small value or tombstone   if (writer->add(entry)) co_await writer->drain()
//     large value                co_await writer->add_large(entry, buffer or reader)
//     value of a value file      if (writer->add_separate(…)) co_await writer->drain()
//     every 64 entries           co_await maybe_yield()
//   co_await writer->finish(…)      or, to give up, co_await writer->abandon()
//
// The table is durable when finish() answers, its name is not: the caller syncs the directory,
// once for all files of a job, before it names them in the manifest.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include <gyre/result.hpp>
#include <gyre/task.hpp>

#include "store/direct_file_writer.hpp"
#include "store/large_reader.hpp"
#include "store/manifest_edit.hpp"
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
  static constexpr size_t piece_bytes = DirectFileWriter::piece_bytes;

  static Task<Result<std::unique_ptr<TableWriter>>> create(std::string directory,
                                                           uint64_t file_number,
                                                           TableWriterOptions options);
  ~TableWriter();
  TableWriter(const TableWriter&) = delete;
  TableWriter& operator=(const TableWriter&) = delete;

  // Keys must strictly increase. Not for values outside blocks. True: drain() is due.
  bool add(const Entry& entry) {
    builder_.add(entry);
    return builder_.pending().size() >= piece_bytes;
  }
  // The same for an entry whose value lies in a value file.
  bool add_separate(const Entry& entry, const SeparateValue& value) {
    builder_.add_separate(entry, value);
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
  // Of the values that it names in value files.
  uint64_t separate_bytes() const { return builder_.separate_bytes(); }
  bool empty() const { return builder_.properties().entry_count == 0; }
  const TableProperties& properties() const { return builder_.properties(); }
  size_t memory_bytes() const;
  // What a writer holds at most while large values are streamed through it.
  static constexpr size_t memory_bytes_expected = 4u << 20;

 private:
  TableWriter(uint64_t file_number, const TableWriterOptions& options,
              std::unique_ptr<DirectFileWriter> file);

  uint64_t file_number_;
  TableWriterOptions options_;
  TableBuilder builder_;
  std::unique_ptr<DirectFileWriter> file_;
};

}  // namespace gyre
