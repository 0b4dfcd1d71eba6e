#include "runtime/uring/offload.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <netdb.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <string_view>
#include <thread>

#include "base/assert.hpp"
#include "base/limits.hpp"

namespace gyre::uring {

namespace {

int32_t list_dir(const std::string& path, std::vector<DirEntry>& entries) {
  DIR* dir = ::opendir(path.c_str());
  if (dir == nullptr) return -errno;
  errno = 0;
  while (const dirent* item = ::readdir(dir)) {
    const std::string_view name = item->d_name;
    if (name == "." || name == "..") continue;
    struct stat status{};
    // A file may vanish between the listing and the look at it.
    if (::fstatat(::dirfd(dir), item->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0) {
      entries.push_back(
          {std::string(name), S_ISDIR(status.st_mode), static_cast<uint64_t>(status.st_size)});
    }
    errno = 0;
  }
  const int error = errno;
  ::closedir(dir);
  std::sort(entries.begin(), entries.end(),
            [](const DirEntry& a, const DirEntry& b) { return a.name < b.name; });
  return -error;
}

int32_t stat_file(const std::string& path, int fd, FileStatus& out) {
  struct stat status{};
  const bool by_fd = fd >= 0;
  if ((by_fd ? ::fstat(fd, &status) : ::stat(path.c_str(), &status)) != 0) {
    return !by_fd && errno == ENOENT ? 0 : -errno;
  }
  out.exists = true;
  out.is_directory = S_ISDIR(status.st_mode);
  out.size_bytes = static_cast<uint64_t>(status.st_size);
  out.links = status.st_nlink;
  return 0;
}

int32_t free_space(const std::string& path, uint64_t& free_bytes) {
  struct statvfs status{};
  if (::statvfs(path.c_str(), &status) != 0) return -errno;
  free_bytes = uint64_t{status.f_bavail} * status.f_frsize;
  return 0;
}

int32_t lock_file(const std::string& path, int& locked_fd) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) return -errno;
  // After kill -9 the operations still in flight keep the dead process's files open for a moment.
  for (unsigned attempt = 0;; ++attempt) {
    if (::flock(fd, LOCK_EX | LOCK_NB) == 0) break;
    const int error = errno;
    if (error != EINTR && (error != EWOULDBLOCK || attempt >= limits::lock_retries_max)) {
      ::close(fd);
      return -error;
    }
    if (error == EWOULDBLOCK) {
      std::this_thread::sleep_for(std::chrono::milliseconds(limits::lock_retry_delay_ms));
    }
  }
  locked_fd = fd;
  return fd;
}

int32_t resolve(const std::string& name, std::vector<std::string>& addresses) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_ADDRCONFIG;
  addrinfo* found = nullptr;
  switch (::getaddrinfo(name.c_str(), nullptr, &hints, &found)) {
    case 0:
      break;
    case EAI_AGAIN:
      return -EAGAIN;
    case EAI_MEMORY:
      return -ENOMEM;
    case EAI_SYSTEM:
      return errno != 0 ? -errno : -EIO;
    default:
      return -ENOENT;  // no such name, or no address for it
  }
  for (const addrinfo* item = found; item != nullptr; item = item->ai_next) {
    char text[NI_MAXHOST];
    if (::getnameinfo(item->ai_addr, item->ai_addrlen, text, sizeof text, nullptr, 0,
                      NI_NUMERICHOST) != 0) {
      continue;
    }
    if (std::find(addresses.begin(), addresses.end(), text) == addresses.end()) {
      addresses.emplace_back(text);
    }
  }
  ::freeaddrinfo(found);
  return addresses.empty() ? -ENOENT : 0;
}

}  // namespace

OffloadJob::~OffloadJob() {
  if (locked_fd >= 0) ::close(locked_fd);
}

bool OffloadJob::handles(OpCode code) {
  switch (code) {
    case OpCode::list_dir:
    case OpCode::stat:
    case OpCode::free_space:
    case OpCode::lock_file:
    case OpCode::resolve:
      return true;
    default:
      return false;
  }
}

void OffloadJob::run() {
  switch (code) {
    case OpCode::list_dir:
      result = list_dir(path, entries);
      break;
    case OpCode::stat:
      result = stat_file(path, fd, status);
      break;
    case OpCode::free_space:
      result = free_space(path, free_bytes);
      break;
    case OpCode::lock_file:
      result = lock_file(path, locked_fd);
      break;
    case OpCode::resolve:
      result = resolve(path, addresses);
      break;
    case OpCode::truncate:
      result = ::ftruncate(fd, static_cast<off_t>(length)) == 0 ? 0 : -errno;
      break;
    default:
      GYRE_ASSERT(!"not an off-loop operation");
  }
}

void OffloadJob::answer(Op& op) {
  if (result < 0) return;
  switch (code) {
    case OpCode::list_dir:
      *static_cast<std::vector<DirEntry>*>(op.out) = std::move(entries);
      break;
    case OpCode::stat:
      *static_cast<FileStatus*>(op.out) = status;
      break;
    case OpCode::free_space:
      *static_cast<uint64_t*>(op.out) = free_bytes;
      break;
    case OpCode::resolve:
      *static_cast<std::vector<std::string>*>(op.out) = std::move(addresses);
      break;
    case OpCode::lock_file:
      locked_fd = -1;
      break;  // the owner's from here
    default:
      break;
  }
}

struct OffloadThread::Shared {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::unique_ptr<OffloadJob>> jobs;
  OffloadSink* sink = nullptr;  // nullptr: stopped
  bool started = false;
  bool finished = false;
  std::thread thread;
};

OffloadThread::OffloadThread(OffloadSink& sink) : shared_(std::make_shared<Shared>()) {
  shared_->sink = &sink;
}

OffloadThread::~OffloadThread() {
  stop();
}

void OffloadThread::push(std::unique_ptr<OffloadJob> job) {
  std::lock_guard lock(shared_->mutex);
  GYRE_ASSERT(shared_->sink != nullptr);
  shared_->jobs.push_back(std::move(job));
  if (!shared_->started) {
    shared_->started = true;
    shared_->thread = std::thread(&OffloadThread::serve, shared_);
  }
  shared_->changed.notify_all();
}

void OffloadThread::serve(std::shared_ptr<Shared> shared) {
  std::unique_lock lock(shared->mutex);
  for (;;) {
    shared->changed.wait(lock, [&] { return shared->sink == nullptr || !shared->jobs.empty(); });
    if (shared->sink == nullptr) break;
    std::unique_ptr<OffloadJob> job = std::move(shared->jobs.front());
    shared->jobs.pop_front();
    lock.unlock();
    job->run();
    lock.lock();
    // Under the lock: stop() returns only when no answer can be under way.
    if (shared->sink != nullptr) shared->sink->answer(std::move(job));
  }
  shared->finished = true;
  shared->changed.notify_all();
}

void OffloadThread::stop() {
  std::unique_lock lock(shared_->mutex);
  if (shared_->sink == nullptr) return;
  shared_->sink = nullptr;
  shared_->jobs.clear();
  if (!shared_->started) return;
  shared_->changed.notify_all();
  const auto patience = std::chrono::milliseconds(limits::offload_stop_delay_ms_max);
  if (shared_->changed.wait_for(lock, patience, [&] { return shared_->finished; })) {
    lock.unlock();
    shared_->thread.join();
  } else {
    shared_->thread.detach();
  }
}

}  // namespace gyre::uring
