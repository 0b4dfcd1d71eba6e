// An Op is one effect on the world: everything the program does to sockets, files, names and
// clocks outside memory is an Op handed to a Backend (DESIGN D1).
//
// Life of an Op
//   - its owner fills it and calls Reactor::submit; from then on it must not move or die
//   - the backend calls on_complete once per completion, always from Backend::reap, never from
//     submit, cancel or enter. A completion without `more` is the last one: only then may the
//     owner reuse or free the Op and the memory it points to
//   - cancel is a request; the Op still completes, perhaps successfully: owners look at the
//     result before they look at why they stopped (a cancelled accept may carry a descriptor)
//   - on_complete only records and schedules; no logic runs inside reap
//
// `result` is what the system call would return: >= 0, or a negative errno.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace gyre {

enum class OpCode : uint8_t {
  nop,
  // sockets
  listen,     // path = address "1.2.3.4" or "::1", offset = port (0: any), len = backlog, flags;
              // result: fd
  accept,     // multishot on fd; result: a connected fd
  connect,    // path = numeric address, offset = port; result: a connected fd
  recv,       // multishot on fd into provided buffers; 0 = end of stream, -ENOBUFS = none left
  recv_into,  // one receive into data/len, `flag_wait_all` fills it whole unless the stream ends
  send,       // gathered: data = iovec array, len = its entries; result: bytes sent (may be short)
  shutdown,   // fd, len = SHUT_RD | SHUT_WR | SHUT_RDWR
  // files
  open,        // path, flags; result: fd
  close,       // fd (socket or file)
  read,        // fd, data, len, offset
  write,       // fd, data, len, offset, flag_dsync: durable when complete
  fsync,       // fd (file or directory), flag_data_only: fdatasync
  allocate,    // fd, offset, length in `length`: reserve blocks and extend the size
  truncate,    // fd, length
  rename,      // path -> path2, replaces atomically
  link,        // path -> path2, hard link
  unlink,      // path
  make_dir,    // path
  remove_dir,  // path (empty)
  // answers in structures, done off the loop
  list_dir,    // path; out = std::vector<DirEntry>*
  stat,        // path, or an open fd (without its name, too); out = FileStatus*
  free_space,  // path; out = uint64_t* bytes available
  lock_file,   // path, created if missing; exclusive until fd is closed; -EWOULDBLOCK if held;
               // result: fd
  resolve,     // path = host name; out = std::vector<std::string>* of numeric addresses
  // process
  signal,  // multishot: result = number of a received SIGINT/SIGTERM/SIGHUP
};

std::string_view to_string(OpCode code) noexcept;

enum OpFlag : uint16_t {
  // open
  flag_read = 1 << 0,
  flag_write = 1 << 1,
  flag_create = 1 << 2,
  flag_exclusive = 1 << 3,
  flag_truncate = 1 << 4,
  flag_direct =
      1 << 5,  // O_DIRECT: memory, offset and length aligned to limits::io_alignment_bytes
  flag_directory = 1 << 6,
  // write, fsync
  flag_dsync = 1 << 7,
  flag_data_only = 1 << 8,
  // recv_into
  flag_wait_all = 1 << 9,
  // listen
  flag_reuse_port = 1 << 10,  // one listener per core
  flag_probe_port = 1 << 11,  // fail with EADDRINUSE if another process already listens there
};

struct DirEntry {
  std::string name;
  bool is_directory = false;
  uint64_t size_bytes = 0;
};

struct FileStatus {
  bool exists = false;
  bool is_directory = false;
  uint64_t size_bytes = 0;
  uint64_t links = 0;  // names of a file, 0 once all are removed; of directories anything
};

// What comes with a completion beside the result.
struct Completion {
  int32_t result = 0;
  bool more = false;        // a multishot operation goes on
  bool has_buffer = false;  // `buffer` is a provided buffer that the receiver must recycle
  uint16_t buffer = 0;
};

struct Op {
  using Handler = void (*)(Op& op, Completion completion) noexcept;

  OpCode code = OpCode::nop;
  bool in_flight = false;         // set by submit, cleared before the last on_complete
  bool cancel_requested = false;  // set by Reactor::cancel, cleared by submit
  uint16_t flags = 0;
  int fd = -1;
  uint32_t len = 0;
  uint32_t backend_slot = 0;  // private to the backend
  uint64_t offset = 0;
  union {
    uint64_t length = 0;  // allocate, truncate
    void* out;            // list_dir, stat, free_space, resolve
  };
  void* data = nullptr;
  const char* path = nullptr;  // zero-terminated; must live until the last completion
  const char* path2 = nullptr;
  Handler on_complete = nullptr;

  Op() = default;
  Op(const Op&) = delete;
  Op& operator=(const Op&) = delete;
  ~Op();  // asserts that it is not in flight
};

}  // namespace gyre
