// Runs single operations on a Backend and waits for them, in the simulation or on the kernel.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <gyre/backend.hpp>

#include "sim/sim_backend.hpp"
#include "sim/world.hpp"

namespace gyre::testing {

// An operation that remembers its completions.
struct TestOp : Op {
  TestOp() { on_complete = &record; }
  explicit TestOp(OpCode what) : TestOp() { code = what; }

  std::vector<Completion> completions;
  bool ended = false;

  int32_t result() const { return completions.empty() ? 0 : completions.back().result; }
  void reset() {
    completions.clear();
    ended = false;
  }

 private:
  static void record(Op& op, Completion completion) noexcept {
    auto& self = static_cast<TestOp&>(op);
    self.completions.push_back(completion);
    if (!completion.more) self.ended = true;
  }
};

class Rig {
 public:
  virtual ~Rig() = default;
  virtual Backend& backend() = 0;
  // Lets the backend work until the predicate holds; false if that takes far too long.
  virtual bool wait(const std::function<bool()>& predicate) = 0;
  // A directory to work in, and an address and a port nobody uses.
  virtual std::string directory() = 0;
  virtual uint16_t free_port() = 0;

  int32_t run(TestOp& op) {
    op.reset();
    backend().submit(op);
    return wait([&] { return op.ended; }) ? op.result() : INT32_MIN;
  }

  int32_t stop(TestOp& op) {
    if (!op.ended) {
      op.cancel_requested = true;
      backend().cancel(op);
    }
    return wait([&] { return op.ended; }) ? op.result() : INT32_MIN;
  }

  // --- the operations, one call each; results as the system call's
  int32_t open(const std::string& path, uint16_t flags) {
    TestOp op(OpCode::open);
    op.path = path.c_str();
    op.flags = flags;
    return run(op);
  }
  int32_t close(int fd) {
    TestOp op(OpCode::close);
    op.fd = fd;
    return run(op);
  }
  int32_t write(int fd, uint64_t offset, std::string_view bytes, uint16_t flags = 0) {
    TestOp op(OpCode::write);
    op.fd = fd;
    op.offset = offset;
    op.data = const_cast<char*>(bytes.data());
    op.len = static_cast<uint32_t>(bytes.size());
    op.flags = flags;
    return run(op);
  }
  int32_t read(int fd, uint64_t offset, std::string& into, size_t length) {
    into.assign(length, '?');
    TestOp op(OpCode::read);
    op.fd = fd;
    op.offset = offset;
    op.data = into.data();
    op.len = static_cast<uint32_t>(length);
    const int32_t result = run(op);
    into.resize(result > 0 ? static_cast<size_t>(result) : 0);
    return result;
  }
  int32_t fsync(int fd) {
    TestOp op(OpCode::fsync);
    op.fd = fd;
    return run(op);
  }
  int32_t sized(OpCode code, int fd, uint64_t offset, uint64_t length) {  // allocate, truncate
    TestOp op(code);
    op.fd = fd;
    op.offset = offset;
    op.length = length;
    return run(op);
  }
  int32_t named(OpCode code, const std::string& path, const std::string& path2 = {}) {
    TestOp op(code);
    op.path = path.c_str();
    op.path2 = path2.c_str();
    return run(op);
  }
  int32_t list(const std::string& path, std::vector<DirEntry>& out) {
    TestOp op(OpCode::list_dir);
    op.path = path.c_str();
    op.out = &out;
    return run(op);
  }
  int32_t stat(const std::string& path, FileStatus& out) {
    TestOp op(OpCode::stat);
    op.path = path.c_str();
    op.out = &out;
    return run(op);
  }
  int32_t stat_open(int fd, FileStatus& out) {
    TestOp op(OpCode::stat);
    op.fd = fd;
    op.out = &out;
    return run(op);
  }
  int32_t resolve(const std::string& name, std::vector<std::string>& out) {
    TestOp op(OpCode::resolve);
    op.path = name.c_str();
    op.out = &out;
    return run(op);
  }
  int32_t listen(const std::string& address, uint16_t port, uint16_t flags = 0) {
    TestOp op(OpCode::listen);
    op.path = address.c_str();
    op.offset = port;
    op.len = 16;
    op.flags = flags;
    return run(op);
  }
  int32_t connect(const std::string& address, uint16_t port) {
    TestOp op(OpCode::connect);
    op.path = address.c_str();
    op.offset = port;
    return run(op);
  }
  // Sends everything, or returns the error.
  int32_t send_all(int fd, std::string_view bytes) {
    size_t sent = 0;
    while (sent < bytes.size()) {
      iovec piece{const_cast<char*>(bytes.data() + sent), bytes.size() - sent};
      TestOp op(OpCode::send);
      op.fd = fd;
      op.data = &piece;
      op.len = 1;
      const int32_t result = run(op);
      if (result <= 0) return result;
      sent += static_cast<size_t>(result);
    }
    return static_cast<int32_t>(sent);
  }
  int32_t recv_into(int fd, std::string& into, size_t length, uint16_t flags = 0) {
    into.assign(length, '?');
    TestOp op(OpCode::recv_into);
    op.fd = fd;
    op.data = into.data();
    op.len = static_cast<uint32_t>(length);
    op.flags = flags;
    const int32_t result = run(op);
    into.resize(result > 0 ? static_cast<size_t>(result) : 0);
    return result;
  }
  int32_t shutdown(int fd, int how) {
    TestOp op(OpCode::shutdown);
    op.fd = fd;
    op.len = static_cast<uint32_t>(how);
    return run(op);
  }
  // Connected descriptors {client, server} through a new listener, which is closed again.
  std::pair<int, int> socket_pair(const std::string& address);
};

inline std::pair<int, int> Rig::socket_pair(const std::string& address) {
  const uint16_t port = free_port();
  const int listener = listen(address, port);
  TestOp accept(OpCode::accept);
  accept.fd = listener;
  backend().submit(accept);
  const int client = connect(address, port);
  wait([&] { return !accept.completions.empty(); });
  const int server = accept.completions.front().result;
  stop(accept);
  close(listener);
  return {client, server};
}

// The driver of a core whose operations the test submits itself.
struct ReapingDriver final : sim::Driver {
  explicit ReapingDriver(Backend& of) : backend(of) {}
  bool tick() override {
    backend.reap();
    backend.enter(nanos_never);
    return true;
  }
  Backend& backend;
};

// One core of one node of a world.
class SimRig final : public Rig {
 public:
  SimRig(sim::World& world, sim::Node& node, unsigned core = 0)
      : world_(world), node_(node), backend_(node, core) {
    node.set_driver(core, std::make_unique<ReapingDriver>(backend_));
  }

  sim::SimBackend& backend() override { return backend_; }
  sim::Node& node() { return node_; }
  bool wait(const std::function<bool()>& predicate) override {
    return world_.run_until(predicate, seconds(1000)) == sim::Stop::satisfied;
  }
  std::string directory() override { return ""; }
  uint16_t free_port() override { return next_port_++; }

 private:
  sim::World& world_;
  sim::Node& node_;
  sim::SimBackend backend_;
  uint16_t next_port_ = 7000;
};

}  // namespace gyre::testing
