// The file half of SimBackend: each operation takes effect once, at a random time after its
// submission, and completes then. (A crash point may lie between effect and completion.)
#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

#include "base/assert.hpp"
#include "base/limits.hpp"
#include "sim/sim_backend.hpp"
#include "sim/world.hpp"

namespace gyre::sim {

namespace {
// (A path may be set to "" for these.)
bool uses_descriptor(OpCode code) {
  return code == OpCode::read || code == OpCode::write || code == OpCode::fsync ||
         code == OpCode::allocate || code == OpCode::truncate;
}

bool is_sync(const Op& op) {
  return op.code == OpCode::fsync || (op.code == OpCode::write && (op.flags & flag_dsync) != 0);
}
}  // namespace

Nanos SimBackend::file_latency(const Op& op) {
  const DiskOptions& options = node_.disk().options;
  Latency range = options.name;
  if (op.code == OpCode::read) range = options.read;
  if (op.code == OpCode::write) range = options.write;
  if (op.code == OpCode::resolve) range = {microseconds(100), milliseconds(20)};
  if (is_sync(op)) range = options.sync;
  Nanos result = prng_.between(range.min, range.max);
  if (prng_.chance_ppm(options.stall_ppm)) {
    world_.note_fault("disk stall");
    result += prng_.between(options.stall.min, options.stall.max);
  }
  return result;
}

// When the disk has moved the bytes of the operation, and of those that came before it.
Nanos SimBackend::transfer_end(const Op& op) {
  Disk& disk = node_.disk();
  const bool transfers = op.code == OpCode::read || op.code == OpCode::write;
  if (disk.options.bytes_per_second == 0 || !transfers) return local_time();
  const double seconds_each = 1.0 / static_cast<double>(disk.options.bytes_per_second);
  disk.busy_until = std::max(disk.busy_until, local_time()) +
                    static_cast<Nanos>(static_cast<double>(op.len) * seconds_each * 1e9);
  return disk.busy_until;
}

void SimBackend::submit_file_op(uint32_t index) {
  Slot& slot = slots_[index];
  const Op& op = *slot.op;
  if (op.code == OpCode::write) take_bytes_at_submit(slot);
  // Noise until it completes, so that using it earlier shows.
  if (op.code == OpCode::read && op.len != 0) std::memset(op.data, 0xdb, op.len);
  later(transfer_end(op) + file_latency(op), index, &SimBackend::file_effect);
}

// A device may fetch the bytes as late as when it completes: changing them in flight shows.
void SimBackend::take_bytes_at_submit(Slot& slot) {
  const Op& op = *slot.op;
  slot.copy = static_cast<Copy>(prng_.below(3));
  if (slot.copy == Copy::at_completion) return;
  if (op.code == OpCode::write) {
    slot.bytes.assign(static_cast<const char*>(op.data), op.len);
    return;
  }
  const auto* pieces = static_cast<const iovec*>(op.data);
  for (uint32_t i = 0; i < op.len; ++i) {
    slot.bytes.append(static_cast<const char*>(pieces[i].iov_base), pieces[i].iov_len);
  }
}

std::string_view SimBackend::bytes_to_write(Slot& slot) {
  const Op& op = *slot.op;
  const std::string_view memory(static_cast<const char*>(op.data), op.len);
  if (slot.copy == Copy::at_completion) return memory;
  if (slot.copy == Copy::torn && op.len != 0) {
    const size_t from = prng_.below(op.len);
    slot.bytes.replace(from, std::string::npos, memory.substr(from));
  }
  return slot.bytes;
}

// False (and `error`) if the kernel would refuse before it looks at the disk.
bool SimBackend::fill_request(Slot& slot, DiskRequest& request, int32_t& error) {
  const Op& op = *slot.op;
  request.code = op.code;
  request.flags = op.flags;
  request.offset = op.offset;
  if (op.code == OpCode::open || op.code == OpCode::lock_file) {
    if (node_.handles_.size() >= node_.options().descriptors_max) return error = -EMFILE, false;
  }
  if (!uses_descriptor(op.code)) {
    request.path = op.path;
    request.path2 = op.path2;
    return true;
  }
  const Handle& handle = node_.handles_.at(op.fd);
  request.inode = handle.inode;
  request.length = op.code == OpCode::read ? op.len : op.length;
  const bool writes = (handle.flags & flag_write) != 0;
  const bool reads = (handle.flags & flag_read) != 0 || !writes;
  const bool needs_write =
      op.code == OpCode::write || op.code == OpCode::allocate || op.code == OpCode::truncate;
  if ((op.code == OpCode::read && !reads) || (op.code == OpCode::write && !writes)) {
    return error = -EBADF, false;
  }
  if (needs_write && !writes) return error = op.code == OpCode::truncate ? -EINVAL : -EBADF, false;
  if (op.code == OpCode::read || op.code == OpCode::write) {
    const auto address = reinterpret_cast<uintptr_t>(op.data);
    if ((handle.flags & flag_direct) != 0 &&
        (address | op.offset | op.len) % limits::io_alignment_bytes != 0) {
      return error = -EINVAL, false;
    }
    request.out = static_cast<char*>(op.data);
    if (op.code == OpCode::write) request.data = bytes_to_write(slot);
  }
  return true;
}

void SimBackend::file_effect(uint32_t index) {
  Slot& slot = slots_[index];
  const Op& op = *slot.op;
  switch (op.code) {
    case OpCode::list_dir:
    case OpCode::stat:
    case OpCode::free_space:
    case OpCode::resolve:
      post(index, answer(op));
      return;
    default:
      break;
  }
  DiskRequest request;
  int32_t result = 0;
  if (!fill_request(slot, request, result)) {
    post(index, result);
    return;
  }
  Disk& disk = node_.disk();
  const bool was_stopped = disk.stopped();
  InodeId inode = 0;
  result = disk.execute(request, &inode);
  world_.trace().note(world_.time(), node_.id(), core_.index, "disk", static_cast<int64_t>(op.code),
                      result, static_cast<int64_t>(disk.write_points()));
  if (op.code == OpCode::write && result > 0) {
    world_.trace().bytes(request.data.substr(0, static_cast<size_t>(result)));
  }
  if (disk.stopped() && !was_stopped) world_.stop_run();
  post(index, finish_open(op, result, inode));
}

int32_t SimBackend::finish_open(const Op& op, int32_t result, InodeId inode) {
  if (result < 0 || inode == 0) return result;
  Handle handle{.kind = Handle::file, .inode = inode};
  handle.flags = op.code == OpCode::lock_file ? uint16_t{flag_read | flag_write} : op.flags;
  handle.lock = op.code == OpCode::lock_file;
  return node_.add_handle(handle);
}

int32_t SimBackend::answer(const Op& op) {
  Disk& disk = node_.disk();
  if (disk.stopped()) return -EIO;
  switch (op.code) {
    case OpCode::list_dir:
      return disk.list_dir(op.path, *static_cast<std::vector<DirEntry>*>(op.out));
    case OpCode::stat: {
      auto& status = *static_cast<FileStatus*>(op.out);
      if (op.fd < 0) return disk.stat(op.path, status);
      status = disk.stat(node_.handles_.at(op.fd).inode);
      return 0;
    }
    case OpCode::free_space: {
      FileStatus status;
      disk.stat(op.path, status);
      if (!status.exists) return -ENOENT;
      *static_cast<uint64_t*>(op.out) = disk.free_bytes();
      return 0;
    }
    default: {
      auto& addresses = *static_cast<std::vector<std::string>*>(op.out);
      if (is_numeric_address(op.path)) {
        addresses = {op.path};
        return 0;
      }
      const auto found = node_.names().find(op.path);
      if (found == node_.names().end() || found->second.empty()) return -ENOENT;
      addresses = found->second;
      return 0;
    }
  }
}

// A power cut leaves at most a volatile mark; after a kill the kernel finishes it or does not.
void SimBackend::interrupt_file_op(uint32_t index, bool power_cut) {
  Slot& slot = slots_[index];
  DiskRequest request;
  int32_t error = 0;
  switch (slot.op->code) {
    case OpCode::list_dir:
    case OpCode::stat:
    case OpCode::free_space:
    case OpCode::resolve:
    case OpCode::read:
      return;
    default:
      break;
  }
  if (!fill_request(slot, request, error)) return;
  if (power_cut) {
    node_.disk().execute_interrupted(request);
  } else if (prng_.one_in(2)) {
    InodeId opened = 0;
    node_.disk().execute(request, &opened);
  }
}

}  // namespace gyre::sim
