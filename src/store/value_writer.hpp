// Writes value files: one at a time, beside the tables that a flush or a merge writes, the next one
// when it has file_bytes_max. The first is made when the first value comes.
//
//   for each value in key order:
//     co_await writer.add(value), or of large ones co_await writer.add_large(buffer or reader)
//   co_await writer.finish()      or, to give up, co_await writer.abandon()
//
// The values are durable when finish() answers, the names of the files are not. After any error,
// and after abandon(), all its files are gone and every further call answers the same error.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <gyre/result.hpp>
#include <gyre/task.hpp>

#include "base/hash.hpp"
#include "store/direct_file_writer.hpp"
#include "store/large_reader.hpp"
#include "store/value_buffer.hpp"
#include "store/value_file.hpp"

namespace gyre {

// What goes into the table's entry.
struct WrittenValue {
  Kind kind = Kind::separate;
  std::string encoded;
  SeparateValue place;
};

struct ValueWriterOptions {
  std::string directory;
  Codec codec = Codec::lz4;
  uint32_t chunk_bytes = 64u << 10;
  uint64_t file_bytes_max = 256u << 20;
};

class ValueWriter {
 public:
  // `take_file_number` gives numbers that nobody used before.
  ValueWriter(ValueWriterOptions options, std::function<uint64_t()> take_file_number);
  ~ValueWriter();
  ValueWriter(const ValueWriter&) = delete;
  ValueWriter& operator=(const ValueWriter&) = delete;

  // At most limits::table_block_value_bytes_max bytes.
  Task<Result<WrittenValue>> add(std::string_view value);
  Task<Result<WrittenValue>> add_large(ValueBuffer value);
  Task<Result<WrittenValue>> add_large(LargeReader& value);

  Task<Result<void>> finish();
  Task<void> abandon();

  // Of all its files, as far as they go to the disk.
  uint64_t written_bytes() const { return written_bytes_; }
  uint64_t value_count() const { return value_count_; }
  size_t memory_bytes() const;
  // What a writer holds at most.
  static constexpr size_t memory_bytes_expected = 2u << 20;

 private:
  static constexpr size_t piece_bytes = DirectFileWriter::piece_bytes;

  Task<Result<void>> prepare();
  Task<Result<void>> drain();
  Task<Result<void>> finish_file();
  Task<void> remove_finished();
  Task<Result<void>> fail_with(Error error);
  void append(std::string_view bytes);
  template <class NextPiece>
  Task<Result<WrittenValue>> add_pieces(uint64_t size_bytes, NextPiece next);

  ValueWriterOptions options_;
  std::function<uint64_t()> take_file_number_;
  std::unique_ptr<DirectFileWriter> file_;
  ValueFooter footer_;  // of the open file
  std::optional<StreamingHash> hash_;
  std::string pending_;
  std::string compressed_;
  std::vector<uint64_t> finished_;  // file numbers
  uint64_t written_bytes_ = 0;
  uint64_t value_count_ = 0;
  std::optional<Error> error_;
};

}  // namespace gyre
