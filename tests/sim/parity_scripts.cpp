// Scripts keep to what the contract promises: no order between operations in flight, no sizes of
// single receives. The expected notes were taken from the kernel.
#include "parity_scripts.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

namespace gyre::testing {

std::string Notes::error_name(int error) {
  return ::strerrorname_np(error);
}

namespace {

// A descriptor's number is of no interest.
int64_t opened(int32_t result) {
  return std::min(result, 0);
}

// --- files ---------------------------------------------------------------------------------------

void open_and_write(Rig& rig, Notes& notes) {
  const std::string path = rig.directory() + "/f";
  notes.note("open what is missing", rig.open(path, flag_read));
  int fd = rig.open(path, flag_read | flag_write | flag_create | flag_exclusive);
  notes.note("create", opened(fd));
  notes.note("create again", rig.open(path, flag_write | flag_create | flag_exclusive));
  notes.note("write", rig.write(fd, 3, "hello"));
  notes.note("write dsync", rig.write(fd, 8, " world", flag_dsync));
  std::string into;
  notes.note("read", rig.read(fd, 0, into, 100));
  notes.say(std::string(into.c_str() + 3, into.size() - 3));
  notes.note("read at the end", rig.read(fd, 14, into, 10));
  notes.note("fsync", rig.fsync(fd));
  notes.note("close", rig.close(fd));
  fd = rig.open(path, flag_read);
  notes.note("write to what is open for reading", rig.write(fd, 0, "x"));
  notes.note("truncate it", rig.sized(OpCode::truncate, fd, 0, 1));
  notes.note("close", rig.close(fd));
  fd = rig.open(path, flag_write);
  notes.note("read from what is open for writing", rig.read(fd, 0, into, 1));
  notes.note("close", rig.close(fd));
  fd = rig.open(path, flag_write | flag_truncate);
  FileStatus status;
  notes.note("stat", rig.stat(path, status));
  notes.note("size after truncation at open", static_cast<int64_t>(status.size_bytes));
  notes.note("close", rig.close(fd));
}

void sizes(Rig& rig, Notes& notes) {
  const std::string path = rig.directory() + "/f";
  const int fd = rig.open(path, flag_read | flag_write | flag_create);
  FileStatus status;
  const auto size = [&] {
    rig.stat(path, status);
    notes.note("size", static_cast<int64_t>(status.size_bytes));
  };
  notes.note("allocate", rig.sized(OpCode::allocate, fd, 0, 8192));
  size();
  notes.note("allocate inside", rig.sized(OpCode::allocate, fd, 0, 4096));
  size();
  notes.note("allocate nothing", rig.sized(OpCode::allocate, fd, 0, 0));
  rig.write(fd, 0, std::string(6000, 'x'));
  notes.note("shrink", rig.sized(OpCode::truncate, fd, 0, 5000));
  notes.note("grow", rig.sized(OpCode::truncate, fd, 0, 5500));
  size();
  std::string into;
  rig.read(fd, 4990, into, 100);
  notes.note("x", std::count(into.begin(), into.end(), 'x'));
  notes.note("zeros", std::count(into.begin(), into.end(), '\0'));
  rig.write(fd, 20'000, "far");
  size();
  rig.close(fd);
}

void names(Rig& rig, Notes& notes) {
  const std::string dir = rig.directory() + "/";
  rig.close(rig.open(dir + "a", flag_write | flag_create));
  rig.close(rig.open(dir + "b", flag_write | flag_create));
  notes.note("make_dir", rig.named(OpCode::make_dir, dir + "d"));
  notes.note("make_dir again", rig.named(OpCode::make_dir, dir + "d"));
  notes.note("make_dir over a file", rig.named(OpCode::make_dir, dir + "a"));
  notes.note("make_dir in nothing", rig.named(OpCode::make_dir, dir + "no/d"));
  notes.note("rename", rig.named(OpCode::rename, dir + "a", dir + "d/a"));
  notes.note("rename what is missing", rig.named(OpCode::rename, dir + "a", dir + "c"));
  notes.note("rename a file over a directory", rig.named(OpCode::rename, dir + "b", dir + "d"));
  notes.note("rename a directory over a file", rig.named(OpCode::rename, dir + "d", dir + "b"));
  notes.note("rename over a file", rig.named(OpCode::rename, dir + "b", dir + "d/a"));
  notes.note("link", rig.named(OpCode::link, dir + "d/a", dir + "l"));
  notes.note("link again", rig.named(OpCode::link, dir + "d/a", dir + "l"));
  notes.note("link a directory", rig.named(OpCode::link, dir + "d", dir + "m"));
  notes.note("link what is missing", rig.named(OpCode::link, dir + "x", dir + "m"));
  notes.note("unlink", rig.named(OpCode::unlink, dir + "l"));
  notes.note("unlink again", rig.named(OpCode::unlink, dir + "l"));
  notes.note("unlink a directory", rig.named(OpCode::unlink, dir + "d"));
  notes.note("remove_dir with a file", rig.named(OpCode::remove_dir, dir + "d"));
  notes.note("remove_dir of a file", rig.named(OpCode::remove_dir, dir + "d/a"));
  std::vector<DirEntry> entries;
  notes.note("list", rig.list(dir + "d", entries));
  for (const DirEntry& entry : entries) notes.say(entry.name);
  notes.note("list a file", rig.list(dir + "d/a", entries));
  notes.note("list nothing", rig.list(dir + "e", entries));
  notes.note("open below a file", rig.open(dir + "d/a/x", flag_read));
  FileStatus status;
  notes.note("stat below a file", rig.stat(dir + "d/a/x", status));
  notes.note("stat nothing", rig.stat(dir + "e", status));
  notes.note("exists", status.exists ? 1 : 0);
  notes.note("stat a directory", rig.stat(dir + "d", status));
  notes.note("is a directory", status.is_directory ? 1 : 0);
  rig.named(OpCode::unlink, dir + "d/a");
  notes.note("remove_dir", rig.named(OpCode::remove_dir, dir + "d"));
  notes.note("remove_dir again", rig.named(OpCode::remove_dir, dir + "d"));
  notes.note("a long name", rig.named(OpCode::make_dir, dir + std::string(256, 'n')));
}

void directories_and_locks(Rig& rig, Notes& notes) {
  const std::string dir = rig.directory();
  rig.close(rig.open(dir + "/f", flag_write | flag_create));
  int fd = rig.open(dir + "/", flag_read | flag_directory);
  notes.note("open a directory", opened(fd));
  notes.note("fsync it", rig.fsync(fd));
  std::string into;
  notes.note("read it", rig.read(fd, 0, into, 10));
  rig.close(fd);
  notes.note("open a file as a directory", rig.open(dir + "/f", flag_read | flag_directory));
  notes.note("open a directory for writing", rig.open(dir + "/", flag_write));
  const int lock = rig.named(OpCode::lock_file, dir + "/LOCK");
  notes.note("lock", opened(lock));
  notes.note("lock again", rig.named(OpCode::lock_file, dir + "/LOCK"));
  rig.close(lock);
  const int again = rig.named(OpCode::lock_file, dir + "/LOCK");
  notes.note("lock after close", opened(again));
  rig.close(again);
  uint64_t free = 0;
  TestOp space(OpCode::free_space);
  const std::string here = dir + "/";
  const std::string missing = dir + "/no";
  space.path = here.c_str();
  space.out = &free;
  notes.note("free space", rig.run(space));
  notes.note("some", free > 0 ? 1 : 0);
  space.path = missing.c_str();
  notes.note("free space of nothing", rig.run(space));
  std::vector<std::string> addresses;
  notes.note("resolve an address", rig.resolve("127.0.0.1", addresses));
  notes.say(addresses.empty() ? "" : addresses[0]);
}

void unlinked_while_open(Rig& rig, Notes& notes) {
  const std::string path = rig.directory() + "/f";
  const int fd = rig.open(path, flag_read | flag_write | flag_create);
  rig.write(fd, 0, "still here");
  FileStatus status;
  const auto stat = [&] {
    notes.note("stat", rig.stat_open(fd, status));
    notes.note("size", static_cast<int64_t>(status.size_bytes));
    notes.note("links", static_cast<int64_t>(status.links));
  };
  stat();
  rig.named(OpCode::link, path, path + "2");
  notes.note("unlink", rig.named(OpCode::unlink, path));
  stat();
  notes.note("unlink the other name", rig.named(OpCode::unlink, path + "2"));
  std::string into;
  notes.note("read", rig.read(fd, 0, into, 100));
  notes.say(into);
  notes.note("truncate", rig.sized(OpCode::truncate, fd, 0, 5));
  stat();
  notes.note("close", rig.close(fd));
}

// --- sockets -------------------------------------------------------------------------------------

void listening(Rig& rig, Notes& notes) {
  const uint16_t port = rig.free_port();
  notes.note("connect to nobody", rig.connect("127.0.0.1", port));
  notes.note("connect to nonsense", rig.connect("nonsense", port));
  notes.note("listen on nonsense", rig.listen("1.2.3", port));
  const int first = rig.listen("127.0.0.1", port);
  notes.note("listen", opened(first));
  notes.note("listen again", rig.listen("127.0.0.1", port));
  notes.note("listen sharing", rig.listen("127.0.0.1", port, flag_reuse_port));
  notes.note("close", rig.close(first));
  const int shared = rig.listen("127.0.0.1", port, flag_reuse_port | flag_probe_port);
  notes.note("listen sharing", opened(shared));
  const int second = rig.listen("127.0.0.1", port, flag_reuse_port);
  notes.note("and again", opened(second));
  notes.note("with a probe", rig.listen("127.0.0.1", port, flag_reuse_port | flag_probe_port));
  rig.close(shared);
  rig.close(second);
  const int any = rig.listen("127.0.0.1", 0);
  notes.note("listen on any port", opened(any));
  rig.close(any);
}

void echo(Rig& rig, Notes& notes) {
  const auto [client, server] = rig.socket_pair("127.0.0.1");
  notes.note("send", rig.send_all(client, "hello"));
  std::string into;
  notes.note("receive", rig.recv_into(server, into, 5, flag_wait_all));
  notes.say(into);
  rig.send_all(server, "world, and more");
  notes.note("receive a part", rig.recv_into(client, into, 5, flag_wait_all));
  notes.say(into);
  rig.close(server);
  notes.note("receive the rest", rig.recv_into(client, into, 100, flag_wait_all));
  notes.say(into);
  notes.note("and the end", rig.recv_into(client, into, 100));
  rig.close(client);
}

void endings(Rig& rig, Notes& notes) {
  std::string into;
  {
    const auto [a, b] = rig.socket_pair("127.0.0.1");
    notes.note("shutdown", rig.shutdown(a, SHUT_WR));
    notes.note("receive the end", rig.recv_into(b, into, 10));
    notes.note("send against it", rig.send_all(b, "still"));
    notes.note("receive", rig.recv_into(a, into, 5, flag_wait_all));
    notes.note("send after shutdown", rig.send_all(a, "x"));
    rig.close(a);
    rig.close(b);
  }
  {
    const auto [a, b] = rig.socket_pair("127.0.0.1");
    rig.send_all(a, "never read");
    rig.recv_into(b, into, 1);
    rig.close(b);
    notes.note("the peer closed with unread bytes", rig.recv_into(a, into, 10));
    rig.close(a);
  }
  {
    const auto [a, b] = rig.socket_pair("127.0.0.1");
    TestOp recv(OpCode::recv);
    recv.fd = a;
    rig.backend().submit(recv);
    notes.note("shutdown both", rig.shutdown(a, SHUT_RDWR));
    rig.wait([&] { return recv.ended; });
    notes.note("the receive in flight", recv.result());
    notes.note("the peer", rig.recv_into(b, into, 10));
    rig.close(a);
    rig.close(b);
  }
}

// Receives everything by multishot, arming again when it ends early or buffers ran out.
void multishot(Rig& rig, Notes& notes) {
  const auto [client, server] = rig.socket_pair("127.0.0.1");
  const std::string sent(50'000, 'm');
  notes.note("send", rig.send_all(client, sent));
  rig.close(client);
  TestOp recv(OpCode::recv);
  recv.fd = server;
  std::string got;
  bool end = false;
  bool empty_buffer = false;
  while (!end) {
    recv.reset();
    rig.backend().submit(recv);
    if (!rig.wait([&] { return recv.ended; })) break;
    for (const Completion& completion : recv.completions) {
      if (completion.has_buffer) {
        empty_buffer |= completion.result <= 0;
        got.append(rig.backend().buffer(completion.buffer).data(),
                   static_cast<size_t>(completion.result));
        rig.backend().recycle(completion.buffer);
      }
      end |= completion.result == 0;
    }
    if (recv.result() < 0 && recv.result() != -ENOBUFS) {
      notes.note("receive", recv.result());
      break;
    }
  }
  notes.note("received", static_cast<int64_t>(got.size()));
  notes.note("equal", got == sent ? 1 : 0);
  notes.note("an empty buffer", empty_buffer ? 1 : 0);
  notes.note("buffers out",
             static_cast<int64_t>(rig.backend().buffer_count() - rig.backend().buffers_free()));
  rig.close(server);
}

void out_of_buffers(Rig& rig, Notes& notes) {
  const auto [client, server] = rig.socket_pair("127.0.0.1");
  std::vector<uint16_t> held;
  TestOp recv(OpCode::recv);
  recv.fd = server;
  // One byte per receive until every buffer is out.
  while (rig.backend().buffers_free() != 0) {
    if (!recv.in_flight) {
      recv.reset();
      rig.backend().submit(recv);
    }
    const size_t before = recv.completions.size();
    rig.send_all(client, "x");
    rig.wait([&] { return recv.completions.size() > before; });
  }
  rig.send_all(client, "y");
  if (!recv.in_flight) {
    recv.reset();
    rig.backend().submit(recv);
  }
  rig.wait([&] { return recv.ended; });
  notes.note("no buffer left", recv.result());
  notes.note("has one", recv.completions.back().has_buffer ? 1 : 0);
  for (uint16_t id = 0; id < rig.backend().buffer_count(); ++id) rig.backend().recycle(id);
  std::string into;
  notes.note("the byte is still there", rig.recv_into(server, into, 1));
  notes.say(into);
  rig.close(client);
  rig.close(server);
}

void cancels(Rig& rig, Notes& notes) {
  const uint16_t port = rig.free_port();
  const int listener = rig.listen("127.0.0.1", port);
  TestOp accept(OpCode::accept);
  accept.fd = listener;
  rig.backend().submit(accept);
  notes.note("cancel an accept", rig.stop(accept));
  const auto [a, b] = rig.socket_pair("127.0.0.1");
  TestOp recv(OpCode::recv);
  recv.fd = a;
  rig.backend().submit(recv);
  notes.note("cancel a receive", rig.stop(recv));
  notes.note("again, when it has ended", rig.stop(recv));
  char memory[8];
  TestOp into(OpCode::recv_into);
  into.fd = a;
  into.data = memory;
  into.len = sizeof memory;
  into.flags = flag_wait_all;
  rig.backend().submit(into);
  notes.note("cancel a receive into memory", rig.stop(into));
  TestOp signal(OpCode::signal);
  rig.backend().submit(signal);
  notes.note("cancel a signal", rig.stop(signal));
  // The sockets still work.
  rig.send_all(b, "fine");
  std::string text;
  notes.note("receive", rig.recv_into(a, text, 4, flag_wait_all));
  rig.close(listener);
  rig.close(a);
  rig.close(b);
  const BackendStats& stats = rig.backend().stats();
  notes.note("in flight", static_cast<int64_t>(stats.submitted - stats.completed));
}

// clang-format off
const Script scripts[] = {
    {"open_and_write", &open_and_write, R"(open what is missing: ENOENT
create: 0
create again: EEXIST
write: 5
write dsync: 6
read: 14
hello world
read at the end: 0
fsync: 0
close: 0
write to what is open for reading: EBADF
truncate it: EINVAL
close: 0
read from what is open for writing: EBADF
close: 0
stat: 0
size after truncation at open: 0
close: 0
)"},
    {"sizes", &sizes, R"(allocate: 0
size: 8192
allocate inside: 0
size: 8192
allocate nothing: EINVAL
shrink: 0
grow: 0
size: 5500
x: 10
zeros: 90
size: 20003
)"},
    {"names", &names, R"(make_dir: 0
make_dir again: EEXIST
make_dir over a file: EEXIST
make_dir in nothing: ENOENT
rename: 0
rename what is missing: ENOENT
rename a file over a directory: EISDIR
rename a directory over a file: ENOTDIR
rename over a file: 0
link: 0
link again: EEXIST
link a directory: EPERM
link what is missing: ENOENT
unlink: 0
unlink again: ENOENT
unlink a directory: EISDIR
remove_dir with a file: ENOTEMPTY
remove_dir of a file: ENOTDIR
list: 0
a
list a file: ENOTDIR
list nothing: ENOENT
open below a file: ENOTDIR
stat below a file: ENOTDIR
stat nothing: 0
exists: 0
stat a directory: 0
is a directory: 1
remove_dir: 0
remove_dir again: ENOENT
a long name: ENAMETOOLONG
)"},
    {"directories_and_locks", &directories_and_locks, R"(open a directory: 0
fsync it: 0
read it: EISDIR
open a file as a directory: ENOTDIR
open a directory for writing: EISDIR
lock: 0
lock again: EAGAIN
lock after close: 0
free space: 0
some: 1
free space of nothing: ENOENT
resolve an address: 0
127.0.0.1
)"},
    {"unlinked_while_open", &unlinked_while_open, R"(stat: 0
size: 10
links: 1
unlink: 0
stat: 0
size: 10
links: 1
unlink the other name: 0
read: 10
still here
truncate: 0
stat: 0
size: 5
links: 0
close: 0
)"},
    {"listening", &listening, R"(connect to nobody: ECONNREFUSED
connect to nonsense: EINVAL
listen on nonsense: EINVAL
listen: 0
listen again: EADDRINUSE
listen sharing: EADDRINUSE
close: 0
listen sharing: 0
and again: 0
with a probe: EADDRINUSE
listen on any port: 0
)"},
    {"echo", &echo, R"(send: 5
receive: 5
hello
receive a part: 5
world
receive the rest: 10
, and more
and the end: 0
)"},
    {"endings", &endings, R"(shutdown: 0
receive the end: 0
send against it: 5
receive: 5
send after shutdown: EPIPE
the peer closed with unread bytes: ECONNRESET
shutdown both: 0
the receive in flight: 0
the peer: 0
)"},
    {"multishot", &multishot, R"(send: 50000
received: 50000
equal: 1
an empty buffer: 0
buffers out: 0
)"},
    {"out_of_buffers", &out_of_buffers, R"(no buffer left: ENOBUFS
has one: 0
the byte is still there: 1
y
)"},
    {"cancels", &cancels, R"(cancel an accept: ECANCELED
cancel a receive: ECANCELED
again, when it has ended: ECANCELED
cancel a receive into memory: ECANCELED
cancel a signal: ECANCELED
receive: 4
in flight: 0
)"},
};
// clang-format on

}  // namespace

std::span<const Script> parity_scripts() {
  return scripts;
}

}  // namespace gyre::testing
