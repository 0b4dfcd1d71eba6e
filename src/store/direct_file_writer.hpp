// Writes a new file front to back in aligned pieces, up to two of them under way while the caller
// makes the next: what tables and value files are written with (O_DIRECT, preallocated).
//
// The content is durable when finish() answers, the name is not: the caller syncs the directory.
// After any error, and after abandon(), the file is gone and every further call answers the same
// error. A writer that is destroyed before either leaves a file that the next start removes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <gyre/result.hpp>
#include <gyre/task.hpp>

#include "store/shared_file.hpp"

namespace gyre {

class DirectFileWriter {
 public:
  static constexpr size_t piece_bytes = 256u << 10;

  // Errc::exists … as File::open: the file must not be there. `size_bytes_estimate` is preallocated;
  // the file may become longer.
  static Task<Result<std::unique_ptr<DirectFileWriter>>> create(std::string path,
                                                                uint64_t size_bytes_estimate);
  ~DirectFileWriter();
  DirectFileWriter(const DirectFileWriter&) = delete;
  DirectFileWriter& operator=(const DirectFileWriter&) = delete;

  // Puts a copy of `bytes` on its way, padded with zeros to a multiple of 4096: only the last piece
  // may be of another size. Waits only if two writes are under way.
  Task<Result<void>> write(std::string_view bytes);
  // Ends the writes, cuts the file to what was written, syncs and closes it.
  Task<Result<void>> finish();
  // Waits for writes under way, closes and removes the file.
  Task<void> abandon();
  // Removes the file because of something else; everything answers `error` from then on.
  Task<Result<void>> fail_with(Error error);

  const std::optional<Error>& error() const { return error_; }
  uint64_t written_bytes() const { return written_bytes_; }  // padding included
  size_t memory_bytes() const { return writes_[0].memory_bytes() + writes_[1].memory_bytes(); }

 private:
  DirectFileWriter(std::string path, Ref<SharedFile> file)
      : path_(std::move(path)), file_(std::move(file)) {}
  Task<Result<void>> reserve(uint64_t end);
  Task<Result<void>> start(std::string_view bytes);
  Task<Result<void>> wait_for_writes();
  Task<Result<void>> finish_file();
  Task<void> remove();

  std::string path_;
  Ref<SharedFile> file_;  // empty once it is closed
  std::array<OverlappedIo, 2> writes_;
  size_t oldest_write_ = 0;
  uint64_t written_bytes_ = 0;  // by all writes started
  uint64_t allocated_bytes_ = 0;
  std::optional<Error> error_;
};

}  // namespace gyre
