#include "runtime/uring/prepare.hpp"

#include <fcntl.h>
#include <poll.h>

#include <algorithm>
#include <climits>

#include "base/assert.hpp"
#include "runtime/uring/buffer_pool.hpp"
#include "runtime/uring/uapi.hpp"

namespace gyre::uring {

namespace {

// Descriptors stay blocking (no O_NONBLOCK): a send that io_uring has to wait for would else
// complete with a spurious EAGAIN.
constexpr int send_flags = MSG_NOSIGNAL | MSG_WAITALL;
constexpr size_t send_bytes_max = 1u << 30;  // the field has 32 bits; more is a short send
constexpr mode_t file_mode = 0644;
constexpr mode_t dir_mode = 0755;

int open_flags(const Op& op, bool without_direct) {
  int flags = O_CLOEXEC;
  const bool reads = (op.flags & flag_read) != 0;
  const bool writes = (op.flags & flag_write) != 0;
  flags |= writes ? (reads ? O_RDWR : O_WRONLY) : O_RDONLY;
  if (op.flags & flag_create) flags |= O_CREAT;
  if (op.flags & flag_exclusive) flags |= O_EXCL;
  if (op.flags & flag_truncate) flags |= O_TRUNC;
  if (op.flags & flag_directory) flags |= O_DIRECTORY;
  if (op.flags & flag_direct) flags |= O_DIRECT;
  // The attempt that failed for O_DIRECT alone has created the file already.
  if (without_direct) flags &= ~(O_DIRECT | O_EXCL);
  return flags;
}

void prepare_send(io_uring_sqe& sqe, Op& op, CompletionTable::Entry& entry) {
  auto* pieces = static_cast<iovec*>(op.data);
  GYRE_ASSERT(op.len > 0);
  if (op.len == 1) {
    const size_t bytes = std::min(pieces->iov_len, send_bytes_max);
    io_uring_prep_send(&sqe, op.fd, pieces->iov_base, bytes, send_flags);
    return;
  }
  entry.message = msghdr{};
  entry.message.msg_iov = pieces;
  entry.message.msg_iovlen = std::min<size_t>(op.len, IOV_MAX);  // more of them: a short send
  io_uring_prep_sendmsg(&sqe, op.fd, &entry.message, send_flags);
}

void prepare_recv(io_uring_sqe& sqe, const Op& op, const Abilities& abilities) {
  io_uring_prep_recv_multishot(&sqe, op.fd, nullptr, 0, 0);
  sqe.flags |= IOSQE_BUFFER_SELECT;
  sqe.buf_group = BufferPool::group;
  // The limit of a whole multishot (6.17) travels where file_index is otherwise.
  sqe.file_index = abilities.recv_bytes_max;
}

bool prepare_path(io_uring_sqe& sqe, Op& op, const CompletionTable::Entry& entry) {
  switch (op.code) {
    case OpCode::open:
      io_uring_prep_openat(&sqe, AT_FDCWD, op.path, open_flags(op, entry.retried), file_mode);
      return true;
    case OpCode::rename:
      io_uring_prep_renameat(&sqe, AT_FDCWD, op.path, AT_FDCWD, op.path2, 0);
      return true;
    case OpCode::link:
      io_uring_prep_linkat(&sqe, AT_FDCWD, op.path, AT_FDCWD, op.path2, 0);
      return true;
    case OpCode::unlink:
      io_uring_prep_unlinkat(&sqe, AT_FDCWD, op.path, 0);
      return true;
    case OpCode::make_dir:
      io_uring_prep_mkdirat(&sqe, AT_FDCWD, op.path, dir_mode);
      return true;
    case OpCode::remove_dir:
      io_uring_prep_unlinkat(&sqe, AT_FDCWD, op.path, AT_REMOVEDIR);
      return true;
    default:
      return false;
  }
}

}  // namespace

void prepare(io_uring_sqe& sqe, Op& op, CompletionTable::Entry& entry, const Abilities& abilities) {
  if (prepare_path(sqe, op, entry)) return;
  switch (op.code) {
    case OpCode::nop:
      io_uring_prep_nop(&sqe);
      break;
    case OpCode::accept:
      io_uring_prep_multishot_accept(&sqe, op.fd, nullptr, nullptr, SOCK_CLOEXEC);
      break;
    case OpCode::connect: {
      const bool v6 = entry.address.sin6_family == AF_INET6;
      io_uring_prep_connect(&sqe, entry.fd, reinterpret_cast<sockaddr*>(&entry.address),
                            v6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in));
      break;
    }
    case OpCode::recv:
      prepare_recv(sqe, op, abilities);
      break;
    case OpCode::recv_into:
      io_uring_prep_recv(&sqe, op.fd, op.data, op.len,
                         (op.flags & flag_wait_all) != 0 ? MSG_WAITALL : 0);
      break;
    case OpCode::send:
      prepare_send(sqe, op, entry);
      break;
    case OpCode::close:
      io_uring_prep_close(&sqe, op.fd);
      break;
    case OpCode::read:
      io_uring_prep_read(&sqe, op.fd, op.data, op.len, op.offset);
      break;
    case OpCode::write:
      io_uring_prep_write(&sqe, op.fd, op.data, op.len, op.offset);
      if (op.flags & flag_dsync) sqe.rw_flags = RWF_DSYNC;
      break;
    case OpCode::fsync:
      io_uring_prep_fsync(&sqe, op.fd,
                          (op.flags & flag_data_only) != 0 ? IORING_FSYNC_DATASYNC : 0);
      break;
    case OpCode::allocate:
      io_uring_prep_rw(IORING_OP_FALLOCATE, &sqe, op.fd, nullptr, 0, op.offset);
      sqe.addr = op.length;  // mode (in len) 0: the size grows too, so later writes stay inline
      break;
    case OpCode::truncate:
      io_uring_prep_rw(opcode_ftruncate, &sqe, op.fd, nullptr, 0, op.length);
      break;
    case OpCode::signal:
      io_uring_prep_poll_multishot(&sqe, entry.fd, POLLIN);
      break;
    default:
      GYRE_ASSERT(!"not a ring operation");
  }
}

}  // namespace gyre::uring
