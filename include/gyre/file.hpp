// Files and directories as awaitables, and the aligned memory that O_DIRECT wants.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <gyre/io.hpp>
#include <gyre/result.hpp>
#include <gyre/task.hpp>

namespace gyre {

// Memory aligned to 4096 bytes whose size is rounded up to a multiple of it. From per-thread
// free lists of powers of two from 4 KiB to 1 MiB; larger buffers go to malloc.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(size_t size_bytes);
  AlignedBuffer(AlignedBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept;
  ~AlignedBuffer();

  char* data() const { return data_; }
  size_t size() const { return size_; }
  std::span<char> span() const { return {data_, size_}; }

 private:
  char* data_ = nullptr;
  size_t size_ = 0;
};
void release_aligned_pool() noexcept;

class OpenFile;

// An open file or directory of this core. Close it explicitly where the result matters;
// the destructor closes in the background.
class [[nodiscard]] File {
 public:
  static constexpr size_t piece_bytes_max = size_t{1}
                                            << 30;  // of one read or write: the kernel's is 2 GiB

  File() = default;
  explicit File(int fd);
  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;
  ~File();

  // flags: OpFlag values, e.g. flag_read | flag_direct. Awaits to Result<File>.
  static OpenFile open(std::string path, uint16_t flags);

  bool is_open() const { return fd_ >= 0; }
  int fd() const { return fd_; }

  // May be short; 0 at the end of the file.
  IoCount read(uint64_t offset, std::span<char> into) const {
    return IoCount({.code = OpCode::read,
                    .fd = fd_,
                    .len = static_cast<uint32_t>(std::min(into.size(), piece_bytes_max)),
                    .offset = offset,
                    .data = into.data()});
  }
  // Reads until `into` is full or the file ends; answers how many bytes were read. `into` and
  // `offset` aligned for direct files; the last piece of a file may end anywhere.
  Task<Result<size_t>> read_full(uint64_t offset, std::span<char> into) const;
  // May be short.
  IoCount write(uint64_t offset, std::string_view bytes, uint16_t flags = 0) const {
    return IoCount({.code = OpCode::write,
                    .flags = flags,
                    .fd = fd_,
                    .len = static_cast<uint32_t>(std::min(bytes.size(), piece_bytes_max)),
                    .offset = offset,
                    .data = const_cast<char*>(bytes.data())});
  }
  // Writes everything or fails. A short direct write is continued at an aligned position.
  Task<Result<void>> write_full(uint64_t offset, std::string_view bytes, uint16_t flags = 0) const;

  IoDone sync() const { return IoDone({.code = OpCode::fsync, .fd = fd_}); }
  IoDone sync_data() const {
    return IoDone({.code = OpCode::fsync, .flags = flag_data_only, .fd = fd_});
  }
  IoDone allocate(uint64_t offset, uint64_t length) const {
    return IoDone({.code = OpCode::allocate, .fd = fd_, .offset = offset, .length = length});
  }
  IoDone truncate(uint64_t length) const {
    return IoDone({.code = OpCode::truncate, .fd = fd_, .length = length});
  }
  // Its name may be gone.
  Task<Result<FileStatus>> status() const;
  IoDone close();

 private:
  int fd_ = -1;
};

// Descriptors may be missing for a moment, while an accept burst holds them: then it is tried again
// every limits::open_retry_delay_ms, for limits::open_retries_max times.
class [[nodiscard]] OpenFile : public IoWait {
 public:
  OpenFile(std::string path, uint16_t flags);
  Result<File> await_resume() const;

 private:
  struct Retry : Timer {
    explicit Retry(OpenFile& of);
    OpenFile& open;
  };
  static void opened(Op& op, Completion completion) noexcept;

  unsigned retries_ = 0;
  Retry retry_{*this};
};

// --- the file system, by path ----------------------------------------------------------------

inline IoDone rename_file(std::string from, std::string to) {
  return IoDone({.code = OpCode::rename}, std::move(from), std::move(to));
}
inline IoDone link_file(std::string from, std::string to) {
  return IoDone({.code = OpCode::link}, std::move(from), std::move(to));
}
inline IoDone unlink_file(std::string path) {
  return IoDone({.code = OpCode::unlink}, std::move(path));
}
inline IoDone make_directory(std::string path) {
  return IoDone({.code = OpCode::make_dir}, std::move(path));
}
inline IoDone remove_directory(std::string path) {
  return IoDone({.code = OpCode::remove_dir}, std::move(path));
}
// Makes creations, renames and removals inside a directory durable.
Task<Result<void>> sync_directory(std::string path);
// Makes a directory and its parents where missing, each made durable in its parent, also one that
// exists already.
Task<Result<void>> make_directories(std::string path);
Task<Result<std::vector<DirEntry>>> list_directory(std::string path);  // sorted by name
Task<Result<FileStatus>> file_status(std::string path);                // `exists` false if missing
Task<Result<uint64_t>> free_space_bytes(std::string path);
// Locks `path` against other processes (and other opens) until the File is closed; Errc::busy
// if somebody holds it.
Task<Result<File>> lock_file(std::string path);
// Whole small files: reads at most `size_bytes_max`; writes to a temporary name, syncs, renames,
// syncs the directory, so that a crash leaves the old or the new content.
Task<Result<std::string>> read_file(std::string path, size_t size_bytes_max);
Task<Result<void>> replace_file(std::string directory, std::string name, std::string content);

}  // namespace gyre
