#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdlib>

#include <gyre/file.hpp>
#include <gyre/time.hpp>

#include "base/assert.hpp"
#include "base/limits.hpp"

namespace gyre {

// --- aligned memory ------------------------------------------------------------------------------

namespace {

constexpr size_t alignment = limits::io_alignment_bytes;
constexpr size_t pooled_bytes_max = 1u << 20;
constexpr unsigned class_count = 9;          // 4 KiB << 0..8
constexpr size_t kept_bytes_max = 4u << 20;  // per core, of all classes together

struct FreeBuffer {
  FreeBuffer* next;
};

struct AlignedPool {
  FreeBuffer* free[class_count] = {};
  size_t kept_bytes = 0;
  ~AlignedPool() { release(); }
  void release() noexcept {
    kept_bytes = 0;
    for (unsigned i = 0; i < class_count; ++i) {
      while (free[i] != nullptr) std::free(std::exchange(free[i], free[i]->next));
    }
  }
};
thread_local AlignedPool aligned_pool;

size_t rounded(size_t size_bytes) {
  if (size_bytes <= pooled_bytes_max) return std::max(alignment, std::bit_ceil(size_bytes));
  return (size_bytes + alignment - 1) / alignment * alignment;
}
unsigned class_of(size_t size_bytes) {
  return static_cast<unsigned>(std::countr_zero(size_bytes / alignment));
}

}  // namespace

AlignedBuffer::AlignedBuffer(size_t size_bytes) : size_(rounded(size_bytes)) {
  if (size_ <= pooled_bytes_max) {
    const unsigned index = class_of(size_);
    if (FreeBuffer* buffer = aligned_pool.free[index]; buffer != nullptr) {
      aligned_pool.free[index] = buffer->next;
      aligned_pool.kept_bytes -= size_;
      data_ = reinterpret_cast<char*>(buffer);
      return;
    }
  }
  data_ = static_cast<char*>(std::aligned_alloc(alignment, size_));
  GYRE_ASSERT(data_ != nullptr);  // memory is reserved in the budget before it is asked for
}

AlignedBuffer& AlignedBuffer::operator=(AlignedBuffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

AlignedBuffer::~AlignedBuffer() {
  if (data_ == nullptr) return;
  if (size_ <= pooled_bytes_max) {
    const unsigned index = class_of(size_);
    if (aligned_pool.kept_bytes + size_ <= kept_bytes_max) {
      auto* buffer = reinterpret_cast<FreeBuffer*>(data_);
      buffer->next = aligned_pool.free[index];
      aligned_pool.free[index] = buffer;
      aligned_pool.kept_bytes += size_;
      return;
    }
  }
  std::free(data_);
}

void release_aligned_pool() noexcept {
  aligned_pool.release();
}

// --- File ---------------------------------------------------------------------------------------

File::File(int fd) : fd_(fd) {
  if (fd_ >= 0) ++Reactor::current().descriptors_open;
}
File::File(File&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
File& File::operator=(File&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}
File::~File() {
  if (fd_ < 0) return;
  Reactor& reactor = Reactor::current();
  --reactor.descriptors_open;
  close_detached(reactor, fd_);
}

OpenFile File::open(std::string path, uint16_t flags) {
  return OpenFile(std::move(path), flags);
}

namespace {
bool lacks_descriptors(int os_error) {
  return os_error == EMFILE || os_error == ENFILE;
}
constexpr Nanos open_retry_delay = milliseconds(limits::open_retry_delay_ms);
}  // namespace

OpenFile::OpenFile(std::string path, uint16_t flags)
    : IoWait({.code = OpCode::open, .flags = flags}, std::move(path)) {
  op_.on_complete = &OpenFile::opened;
}

OpenFile::Retry::Retry(OpenFile& of)
    : Timer([](Timer& self) noexcept {
        Reactor::current().submit(static_cast<Retry&>(self).open.op_);
      }),
      open(of) {}

void OpenFile::opened(Op& op, Completion completion) noexcept {
  auto& self = static_cast<OpenFile&>(static_cast<OwnOp&>(op).wait);
  if (!lacks_descriptors(-completion.result) || self.retries_ == limits::open_retries_max) {
    completed(op, completion);
    return;
  }
  Reactor& reactor = Reactor::current();
  if (self.retries_++ == 0) {
    reactor.log("warn", "event=open_waits reason=\"no descriptor left\" path=" + self.path_);
  }
  reactor.arm(self.retry_, reactor.after(open_retry_delay));
}

Result<File> OpenFile::await_resume() const {
  if (result_ < 0) return fail(Error::from_errno(-result_, "open " + path_));
  return File(result_);
}

IoDone File::close() {
  if (fd_ >= 0) --Reactor::current().descriptors_open;
  return IoDone({.code = OpCode::close, .fd = std::exchange(fd_, -1)});
}

namespace {
bool passes_by_itself(const Error& error) {
  return error.os_error == EINTR || error.os_error == EAGAIN;
}

// Direct operations must start aligned. After a short one that did not end so, the next starts
// before its end and may, by chance, end there or sooner: only several in a row mean that there is
// nothing more. Where memory, offset and length are not aligned the file can't be a direct one, and
// the next operation starts exactly at the end.
constexpr unsigned no_progress_max = 8;

bool may_be_direct(const char* data, uint64_t offset, size_t size_bytes) {
  return (reinterpret_cast<uintptr_t>(data) | offset | size_bytes) % alignment == 0;
}
}  // namespace

Task<Result<size_t>> File::read_full(uint64_t offset, std::span<char> into) const {
  const bool aligned = may_be_direct(into.data(), offset, into.size());
  unsigned no_progress = 0;
  size_t done = 0;
  while (done < into.size()) {
    const size_t from = aligned ? done / alignment * alignment : done;
    Result<uint32_t> count = co_await read(offset + from, into.subspan(from));
    if (!count) {
      if (passes_by_itself(count.error())) continue;
      co_return fail(count.error());
    }
    if (*count == 0) break;
    if (from + *count > done) {
      done = from + *count;
      no_progress = 0;
    } else if (++no_progress == no_progress_max) {
      break;  // the end of a file that ends unaligned
    }
  }
  co_return done;
}

Task<Result<void>> File::write_full(uint64_t offset, std::string_view bytes, uint16_t flags) const {
  const bool aligned = may_be_direct(bytes.data(), offset, bytes.size());
  unsigned no_progress = 0;
  size_t done = 0;
  while (done < bytes.size()) {
    const size_t from = aligned ? done / alignment * alignment : done;
    Result<uint32_t> count = co_await write(offset + from, bytes.substr(from), flags);
    if (!count) {
      if (passes_by_itself(count.error())) continue;
      co_return fail(count.error());
    }
    if (from + *count > done) {
      done = from + *count;
      no_progress = 0;
    } else if (*count == 0 || ++no_progress == no_progress_max) {
      co_return fail(Errc::io, "a write made no progress");
    }
  }
  co_return Result<void>{};
}

// --- the file system, by path -------------------------------------------------------------------

Task<Result<void>> sync_directory(std::string path) {
  Result<File> directory = co_await File::open(path, flag_read | flag_directory);
  if (!directory) co_return fail(directory.error());
  Result<void> synced = co_await directory->sync();
  static_cast<void>(co_await directory->close());
  co_return synced;
}

namespace {

std::string parent_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

// A directory that somebody else made for us may lie where we can't open its parent, or in another
// file system.
bool parent_is_foreign(const Error& error) {
  return error.os_error == EACCES || error.os_error == EPERM || error.os_error == EINVAL ||
         error.os_error == EROFS;
}

}  // namespace

Task<Result<void>> make_directories(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  Result<FileStatus> status = co_await file_status(path);
  if (!status) co_return fail(status.error());
  const std::string parent = parent_of(path);
  if (status->exists) {
    if (!status->is_directory) {
      co_return fail(Errc::already_exists, path + " is a file, a directory is needed");
    }
    // An earlier life may have been killed between making it and syncing its name.
    Result<void> synced = co_await sync_directory(parent);
    if (!synced && parent_is_foreign(synced.error())) synced = {};
    co_return synced;
  }
  if (Result<void> made = co_await make_directories(parent); !made) co_return made;
  if (Result<void> made = co_await make_directory(path); !made) {
    if (made.error().code != Errc::already_exists) co_return made;
  }
  co_return co_await sync_directory(parent);
}

Task<Result<std::vector<DirEntry>>> list_directory(std::string path) {
  std::vector<DirEntry> entries;
  for (unsigned retries = 0;; ++retries) {
    Result<void> listed = co_await IoDone({.code = OpCode::list_dir, .out = &entries}, path);
    if (listed) break;
    const bool may_pass =
        lacks_descriptors(listed.error().os_error) && retries < limits::open_retries_max;
    if (!may_pass || !co_await sleep_for(open_retry_delay)) co_return fail(listed.error());
  }
  std::sort(entries.begin(), entries.end(),
            [](const DirEntry& a, const DirEntry& b) { return a.name < b.name; });
  co_return entries;
}

Task<Result<FileStatus>> File::status() const {
  FileStatus status;
  Result<void> done = co_await IoDone({.code = OpCode::stat, .fd = fd_, .out = &status});
  if (!done) co_return fail(done.error());
  co_return status;
}

Task<Result<FileStatus>> file_status(std::string path) {
  FileStatus status;
  Result<void> done = co_await IoDone({.code = OpCode::stat, .out = &status}, path);
  if (!done) {
    if (done.error().code == Errc::not_found) co_return FileStatus{};
    co_return fail(done.error());
  }
  co_return status;
}

Task<Result<uint64_t>> free_space_bytes(std::string path) {
  uint64_t bytes = 0;
  Result<void> done = co_await IoDone({.code = OpCode::free_space, .out = &bytes}, path);
  if (!done) co_return fail(done.error());
  co_return bytes;
}

Task<Result<File>> lock_file(std::string path) {
  Result<uint32_t> fd = co_await IoCount({.code = OpCode::lock_file}, path);
  if (!fd) {
    if (fd.error().os_error == EWOULDBLOCK)
      co_return fail(Errc::busy, path + " is locked by another process");
    co_return fail(fd.error());
  }
  co_return File(static_cast<int>(*fd));
}

Task<Result<std::string>> read_file(std::string path, size_t size_bytes_max) {
  Result<File> file = co_await File::open(path, flag_read);
  if (!file) co_return fail(file.error());
  std::string content(size_bytes_max + 1, '\0');
  Result<size_t> size = co_await file->read_full(0, {content.data(), content.size()});
  static_cast<void>(co_await file->close());
  if (!size) co_return fail(size.error());
  if (*size > size_bytes_max) co_return fail(Errc::too_large, path);
  content.resize(*size);
  co_return content;
}

Task<Result<void>> replace_file(std::string directory, std::string name, std::string content) {
  const std::string temporary = directory + "/" + name + ".tmp";
  Result<File> file = co_await File::open(temporary, flag_write | flag_create | flag_truncate);
  if (!file) co_return fail(file.error());
  Result<void> done = co_await file->write_full(0, content);
  if (done) done = co_await file->sync();
  static_cast<void>(co_await file->close());
  if (done) done = co_await rename_file(temporary, directory + "/" + name);
  if (done) done = co_await sync_directory(directory);
  co_return done;
}

}  // namespace gyre
