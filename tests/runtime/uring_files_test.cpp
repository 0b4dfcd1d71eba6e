// File operations against the real kernel, in a temporary directory.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <memory>

#include "base/limits.hpp"
#include "uring_fixture.hpp"

using namespace gyre;
using namespace gyre::uring;

namespace {

struct AlignedBuffer {
  explicit AlignedBuffer(size_t size)
      : bytes(static_cast<char*>(std::aligned_alloc(limits::io_alignment_bytes, size))) {}
  ~AlignedBuffer() { std::free(bytes); }
  AlignedBuffer(const AlignedBuffer&) = delete;
  AlignedBuffer& operator=(const AlignedBuffer&) = delete;
  char* bytes;
};

int32_t transfer(Loop& loop, OpCode code, int fd, void* data, uint32_t len, uint64_t offset,
                 unsigned flags = 0) {
  TestOp op(code, fd);
  op.data = data;
  op.len = len;
  op.offset = offset;
  op.flags = static_cast<uint16_t>(flags);
  return loop.perform(op);
}

int32_t close_fd(Loop& loop, int fd) {
  TestOp op(OpCode::close, fd);
  return loop.perform(op);
}

FileStatus status_of(Loop& loop, const std::string& path) {
  FileStatus status;
  TestOp op(OpCode::stat);
  op.path = path.c_str();
  op.out = &status;
  CHECK(loop.perform(op) == 0);
  return status;
}

}  // namespace

TEST_CASE("a file is made, written, read back and closed") {
  TempDir dir;
  Loop loop;
  const std::string path = dir / "file";
  const int fd = loop.open(path, flag_read | flag_write | flag_create | flag_exclusive);
  REQUIRE(fd >= 0);
  CHECK((::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
  CHECK(loop.open(path, flag_write | flag_create | flag_exclusive) == -EEXIST);
  CHECK(loop.open(dir / "absent", flag_read) == -ENOENT);
  char text[] = "hello";
  CHECK(transfer(loop, OpCode::write, fd, text, 5, 3) == 5);
  char back[16] = {};
  CHECK(transfer(loop, OpCode::read, fd, back, 16, 3) == 5);
  CHECK(std::string(back, 5) == "hello");
  CHECK(transfer(loop, OpCode::read, fd, back, 16, 8) == 0);
  CHECK(close_fd(loop, fd) == 0);
  CHECK(::fcntl(fd, F_GETFD) == -1);
  CHECK(close_fd(loop, fd) == -EBADF);
  const int truncated = loop.open(path, flag_write | flag_truncate);
  REQUIRE(truncated >= 0);
  CHECK(status_of(loop, path).size_bytes == 0);
  CHECK(close_fd(loop, truncated) == 0);
}

TEST_CASE("aligned direct writes, durable when complete, inside an allocated file") {
  TempDir dir;
  Loop loop;
  const std::string path = dir / "log";
  const int fd = loop.open(path, flag_read | flag_write | flag_create | flag_direct);
  REQUIRE(fd >= 0);
  TestOp allocate(OpCode::allocate, fd);
  allocate.offset = 0;
  allocate.length = 1 << 20;
  const int32_t allocated = loop.perform(allocate);
  CHECK((allocated == 0 || allocated == -EOPNOTSUPP));
  if (allocated == 0) CHECK(status_of(loop, path).size_bytes == 1 << 20);
  AlignedBuffer out(8192), in(8192);
  std::memset(out.bytes, 'g', 8192);
  CHECK(transfer(loop, OpCode::write, fd, out.bytes, 8192, 4096, flag_dsync) == 8192);
  CHECK(transfer(loop, OpCode::read, fd, in.bytes, 8192, 4096) == 8192);
  CHECK(std::memcmp(in.bytes, out.bytes, 8192) == 0);
  CHECK(close_fd(loop, fd) == 0);
}

TEST_CASE("fsync of data, of everything, and of a directory") {
  TempDir dir;
  Loop loop;
  const int fd = loop.open(dir / "file", flag_write | flag_create);
  const int dir_fd = loop.open(dir.path(), flag_read | flag_directory);
  REQUIRE(fd >= 0);
  REQUIRE(dir_fd >= 0);
  CHECK(transfer(loop, OpCode::fsync, fd, nullptr, 0, 0, flag_data_only) == 0);
  CHECK(transfer(loop, OpCode::fsync, fd, nullptr, 0, 0) == 0);
  CHECK(transfer(loop, OpCode::fsync, dir_fd, nullptr, 0, 0) == 0);
  CHECK(loop.open(dir / "file", flag_read | flag_directory) == -ENOTDIR);
  close_fd(loop, fd);
  close_fd(loop, dir_fd);
}

TEST_CASE("truncate shortens and lengthens, through the ring and off the loop") {
  TempDir dir;
  Loop loop;
  const std::string path = dir / "file";
  const int fd = loop.open(path, flag_write | flag_create);
  REQUIRE(fd >= 0);
  for (uint64_t length : {uint64_t{5000}, uint64_t{5} << 30, uint64_t{17}}) {
    TestOp op(OpCode::truncate, fd);
    op.length = length;
    CHECK(loop.perform(op) == 0);
    CHECK(status_of(loop, path).size_bytes == length);
    OffloadJob job;
    job.code = OpCode::truncate;
    job.fd = fd;
    job.length = length + 1;
    job.run();
    CHECK(job.result == 0);
    CHECK(status_of(loop, path).size_bytes == length + 1);
  }
  close_fd(loop, fd);
}

TEST_CASE("names: rename replaces, link, unlink, directories") {
  TempDir dir;
  Loop loop;
  const std::string a = dir / "a", b = dir / "b", c = dir / "c", sub = dir / "sub";
  std::ofstream(a) << "aaa";
  std::ofstream(b) << "b";
  CHECK(loop.perform(OpCode::rename, a.c_str(), b.c_str()) == 0);
  CHECK_FALSE(status_of(loop, a).exists);
  CHECK(status_of(loop, b).size_bytes == 3);
  CHECK(loop.perform(OpCode::link, b.c_str(), c.c_str()) == 0);
  CHECK(loop.perform(OpCode::link, b.c_str(), c.c_str()) == -EEXIST);
  CHECK(loop.perform(OpCode::unlink, b.c_str()) == 0);
  CHECK(loop.perform(OpCode::unlink, b.c_str()) == -ENOENT);
  CHECK(status_of(loop, c).size_bytes == 3);
  CHECK(loop.perform(OpCode::make_dir, sub.c_str()) == 0);
  CHECK(loop.perform(OpCode::make_dir, sub.c_str()) == -EEXIST);
  CHECK(status_of(loop, sub).is_directory);
  const std::string inner = sub + "/x";
  std::ofstream(inner) << "x";
  CHECK(loop.perform(OpCode::remove_dir, sub.c_str()) == -ENOTEMPTY);
  CHECK(loop.perform(OpCode::unlink, inner.c_str()) == 0);
  CHECK(loop.perform(OpCode::remove_dir, sub.c_str()) == 0);
  CHECK_FALSE(status_of(loop, sub).exists);
}

TEST_CASE("a directory is listed with kinds and sizes, sorted") {
  TempDir dir;
  Loop loop;
  std::ofstream(dir / "b") << "12345";
  std::ofstream(dir / "a") << "";
  REQUIRE(::mkdir((dir / "c").c_str(), 0700) == 0);
  std::vector<DirEntry> entries;
  TestOp op(OpCode::list_dir);
  op.path = dir.path().c_str();
  op.out = &entries;
  CHECK(loop.perform(op) == 0);
  REQUIRE(entries.size() == 3);
  CHECK(entries[0].name == "a");
  CHECK(entries[1].name == "b");
  CHECK(entries[1].size_bytes == 5);
  CHECK_FALSE(entries[1].is_directory);
  CHECK(entries[2].is_directory);
  const std::string absent = dir / "absent";
  op.path = absent.c_str();
  CHECK(loop.perform(op) == -ENOENT);
}

TEST_CASE("free space is a plausible number") {
  TempDir dir;
  Loop loop;
  uint64_t free_bytes = 0;
  TestOp op(OpCode::free_space);
  op.path = dir.path().c_str();
  op.out = &free_bytes;
  CHECK(loop.perform(op) == 0);
  CHECK(free_bytes > 0);
}

TEST_CASE("a lock is exclusive until its descriptor is closed") {
  TempDir dir;
  Loop loop;
  const std::string path = dir / "LOCK";
  TestOp first(OpCode::lock_file), second(OpCode::lock_file);
  first.path = second.path = path.c_str();
  const int fd = loop.perform(first);
  REQUIRE(fd >= 0);
  CHECK(loop.perform(second) == -EWOULDBLOCK);
  CHECK(close_fd(loop, fd) == 0);
  const int again = loop.perform(second);
  CHECK(again >= 0);
  close_fd(loop, again);
}

TEST_CASE("a lock that arrives after its operation was cancelled is given back") {
  TempDir dir;
  Loop loop;
  const std::string path = dir / "LOCK";
  const size_t before = open_descriptors();
  TestOp op(OpCode::lock_file);
  op.path = path.c_str();
  loop.backend.submit(op);
  loop.backend.cancel(op);
  CHECK(op.in_flight);  // never from inside cancel
  REQUIRE(loop.until([&] { return op.ended(); }));
  CHECK(op.result() == -ECANCELED);
  FileStatus status = status_of(loop, path);  // the same thread: the lock's answer was before
  CHECK(status.exists);
  CHECK(loop.backend.stats().stale_completions == 1);
  CHECK(open_descriptors() == before);
  TestOp next(OpCode::lock_file);
  next.path = path.c_str();
  const int fd = loop.perform(next);
  CHECK(fd >= 0);
  close_fd(loop, fd);
}

TEST_CASE("names are resolved to numeric addresses, once each") {
  Loop loop;
  std::vector<std::string> addresses;
  TestOp op(OpCode::resolve);
  op.path = "localhost";
  op.out = &addresses;
  REQUIRE(loop.perform(op) == 0);
  REQUIRE_FALSE(addresses.empty());
  for (const std::string& address : addresses) {
    CHECK((address == "127.0.0.1" || address == "::1"));
    CHECK(std::count(addresses.begin(), addresses.end(), address) == 1);
  }
  addresses.clear();
  op.path = "192.0.2.7";
  CHECK(loop.perform(op) == 0);
  CHECK(addresses == std::vector<std::string>{"192.0.2.7"});
}

TEST_CASE("where O_DIRECT is refused the file opens without it, and the log says so once") {
  TempDir dir;
  const std::string log_path = dir / "log";
  const int log_fd = ::open(log_path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  {
    Loop loop({.log_fd = log_fd});
    for (int i = 0; i < 3; ++i) {
      const int fd = loop.open("/proc/self/status", flag_read | flag_direct);
      REQUIRE(fd >= 0);
      CHECK((::fcntl(fd, F_GETFL) & O_DIRECT) == 0);
      ::close(fd);
    }
  }
  ::close(log_fd);
  std::ifstream log(log_path);
  std::string line;
  CHECK(std::getline(log, line));
  CHECK(line.find("O_DIRECT") != std::string::npos);
  CHECK_FALSE(std::getline(log, line));
}

TEST_CASE("many operations at once: more than the submission queue holds") {
  TempDir dir;
  Loop loop({.sq_entries = 16, .cq_entries = 32});
  const int fd = loop.open(dir / "file", flag_read | flag_write | flag_create);
  REQUIRE(fd >= 0);
  std::vector<std::unique_ptr<TestOp>> ops;
  std::vector<char> bytes(1000);
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<char>('a' + i % 26);
    auto& op = *ops.emplace_back(std::make_unique<TestOp>(OpCode::write, fd));
    op.data = &bytes[i];
    op.len = 1;
    op.offset = i;
    loop.backend.submit(op);
  }
  REQUIRE(loop.until(
      [&] { return std::all_of(ops.begin(), ops.end(), [](auto& op) { return op->ended(); }); }));
  for (auto& op : ops) CHECK(op->result() == 1);
  std::vector<char> back(bytes.size());
  CHECK(transfer(loop, OpCode::read, fd, back.data(), 1000, 0) == 1000);
  CHECK(back == bytes);
  CHECK(loop.backend.operations_in_flight() == 0);
  close_fd(loop, fd);
}
