#include "engine/disk_probe.hpp"

#include <fcntl.h>
#include <liburing.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "engine/session.hpp"
#include "sim/prng.hpp"

namespace gyre::engine {

namespace {

constexpr size_t piece_bytes = 1u << 20;

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};
using Buffer = std::unique_ptr<char, Free>;

Buffer aligned(size_t size_bytes) {
  return Buffer(static_cast<char*>(std::aligned_alloc(4096, size_bytes)));
}

struct ProbeFile {
  explicit ProbeFile(std::string at) : path(std::move(at)) {
    fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_DIRECT | O_CLOEXEC, 0600);
  }
  ~ProbeFile() {
    if (fd < 0) return;
    ::close(fd);
    ::unlink(path.c_str());
  }
  ProbeFile(const ProbeFile&) = delete;
  std::string path;
  int fd = -1;
};

bool fill(int fd, uint64_t file_bytes) {
  const Buffer piece = aligned(piece_bytes);
  sim::Prng(7, "probe").fill(piece.get(), piece_bytes);
  for (uint64_t at = 0; at < file_bytes; at += piece_bytes) {
    if (::pwrite(fd, piece.get(), piece_bytes, static_cast<off_t>(at)) != piece_bytes) return false;
  }
  return ::fdatasync(fd) == 0;
}

// Reads completed until `end`, or a negative error.
int64_t read_until(io_uring& ring, int fd, uint64_t file_bytes, Nanos end) {
  const Buffer memory = aligned(size_t{probe_depth} * probe_read_bytes);
  sim::Prng random(monotonic_now());
  const uint64_t places = file_bytes / 4096 - probe_read_bytes / 4096;
  const auto submit = [&](uint64_t slot) {
    io_uring_sqe* entry = io_uring_get_sqe(&ring);
    io_uring_prep_read(entry, fd, memory.get() + slot * probe_read_bytes, probe_read_bytes,
                       random.below(places) * 4096);
    entry->user_data = slot;
  };
  for (uint64_t slot = 0; slot < probe_depth; ++slot) submit(slot);
  int64_t reads = 0;
  int error = 0;
  for (unsigned in_flight = probe_depth; in_flight > 0;) {
    if (const int submitted = io_uring_submit_and_wait(&ring, 1); submitted < 0) return submitted;
    const bool goes_on = monotonic_now() < end && error == 0;
    io_uring_cqe* completions[probe_depth];
    const unsigned count = io_uring_peek_batch_cqe(&ring, completions, probe_depth);
    for (unsigned i = 0; i < count; ++i) {
      if (completions[i]->res < 0) error = completions[i]->res;
      reads += goes_on;
      if (goes_on) {
        submit(completions[i]->user_data);
      } else {
        --in_flight;
      }
    }
    io_uring_cq_advance(&ring, count);
  }
  return error < 0 ? error : reads;
}

}  // namespace

Result<double> probe_random_reads(const std::string& directory, uint64_t file_bytes,
                                  Nanos duration) {
  const ProbeFile file(directory + "/probe");
  if (file.fd < 0 || !fill(file.fd, file_bytes)) {
    return fail(Error::from_errno(errno, "writing a file to probe the disk with"));
  }
  io_uring ring{};
  if (const int made = io_uring_queue_init(probe_depth, &ring, 0); made < 0) {
    return fail(Error::from_errno(-made, "io_uring for the disk probe"));
  }
  const int64_t reads = read_until(ring, file.fd, file_bytes, monotonic_now() + duration);
  io_uring_queue_exit(&ring);
  if (reads < 0) return fail(Error::from_errno(static_cast<int>(-reads), "probing the disk"));
  return static_cast<double>(reads) * 1e9 / static_cast<double>(duration);
}

}  // namespace gyre::engine
