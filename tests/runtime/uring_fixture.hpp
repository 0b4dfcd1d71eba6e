// What the tests of the io_uring backend share: an operation that remembers its completions, a
// backend that is run until something happened, a temporary directory.
#pragma once

#include <dirent.h>
#include <doctest/doctest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "runtime/uring/backend.hpp"

namespace gyre::uring {

struct TestOp : Op {
  std::vector<Completion> completions;

  explicit TestOp(OpCode what, int descriptor = -1) {
    code = what;
    fd = descriptor;
    on_complete = [](Op& op, Completion completion) noexcept {
      static_cast<TestOp&>(op).completions.push_back(completion);
    };
  }
  bool ended() const { return !completions.empty() && !in_flight; }
  int32_t result() const { return completions.empty() ? INT32_MIN : completions.back().result; }
};

struct Loop {
  UringNode node{1};
  UringBackend backend;

  explicit Loop(UringOptions options = {}) : backend(with_node(options, node)) {}

  template <class Condition>
  bool until(Condition&& condition) {
    const Nanos deadline = backend.now() + seconds(20);
    while (!condition()) {
      if (backend.now() > deadline) return false;
      backend.enter(milliseconds(20));
      backend.reap();
    }
    return true;
  }
  void ticks(int count) {
    for (int i = 0; i < count; ++i) {
      backend.enter(milliseconds(1));
      backend.reap();
    }
  }
  int32_t perform(TestOp& op) {
    op.completions.clear();
    backend.submit(op);
    REQUIRE(until([&] { return op.ended(); }));
    return op.result();
  }
  int32_t perform(OpCode code, const char* path, const char* path2 = nullptr) {
    TestOp op(code);
    op.path = path;
    op.path2 = path2;
    return perform(op);
  }
  int32_t open(const std::string& path, unsigned flags) {
    TestOp op(OpCode::open);
    op.path = path.c_str();
    op.flags = static_cast<uint16_t>(flags);
    return perform(op);
  }
  int listen(const char* address = "127.0.0.1", uint16_t port = 0, unsigned flags = 0,
             unsigned backlog = 128) {
    TestOp op(OpCode::listen);
    op.path = address;
    op.offset = port;
    op.len = backlog;
    op.flags = static_cast<uint16_t>(flags);
    return perform(op);
  }
  void stop(TestOp& op) {
    backend.cancel(op);
    REQUIRE(until([&] { return op.ended(); }));
  }

 private:
  static UringOptions with_node(UringOptions options, UringNode& node) {
    options.node = &node;
    return options;
  }
};

class TempDir {
 public:
  TempDir() {
    std::string name = (std::filesystem::temp_directory_path() / "gyre-uring-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~TempDir() { std::filesystem::remove_all(path_); }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  std::string operator/(const char* name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

struct SocketPair {
  int ends[2] = {-1, -1};
  SocketPair() { REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0); }
  ~SocketPair() { close(0), close(1); }
  SocketPair(const SocketPair&) = delete;
  SocketPair& operator=(const SocketPair&) = delete;
  void close(int end) {
    if (ends[end] >= 0) ::close(ends[end]);
    ends[end] = -1;
  }
};

inline size_t open_descriptors() {
  size_t count = 0;
  DIR* dir = ::opendir("/proc/self/fd");
  while (::readdir(dir) != nullptr) ++count;
  ::closedir(dir);
  return count;
}

}  // namespace gyre::uring
