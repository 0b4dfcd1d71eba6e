// The floor: the cheapest HTTP responder this kernel allows, as the yardstick that every
// "CPU per request" of the lab is divided by.
//
// It answers each "\r\n\r\n" it receives with a fixed 200 and a 100-byte body, and does nothing
// else: no parsing, no timers, no limits, no backpressure. Per thread it has one ring with the
// flags of the node's reactor, one SO_REUSEPORT listener with a multishot accept, one multishot
// receive per connection out of a provided buffer ring, and one gathered send per connection and
// tick. What it costs is therefore the kernel's share of a request; what a node costs above it
// is the node's own.
//
// Requests with bodies are understood as far as the lab needs it: a Content-Length written that
// way is skipped, so that a PUT can be measured against the floor too.
//
// The flags --receive, --descriptors, --min-wait and --spin choose other ways to ask the kernel for
// the same, so that the choice of the node's runtime can be measured again on another kernel:
//   perf/lab/lab run cpu --contender spin='…/floor --listen {listen} --spin 50'
// The yardstick is the floor without them.
//
// This program stands alone on purpose. It shares nothing with src/, so it can't get slower or
// faster with it.

#include <arpa/inet.h>
#include <liburing.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <charconv>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace {

constexpr unsigned sq_entries = 1024;
constexpr unsigned cq_entries = 8192;
constexpr unsigned buffer_count = 256;  // a power of two
constexpr unsigned buffer_bytes = 16 << 10;
constexpr unsigned buffer_group = 1;
constexpr unsigned direct_descriptors = 4096;
constexpr unsigned feature_min_timeout = 1u << 15;  // newer than liburing 2.3
constexpr unsigned responses_per_send_max = 64;

constexpr std::string_view response =
    "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890"
    "123456789";

struct Options {
  std::string address = "127.0.0.1";
  uint16_t port = 8090;
  unsigned cores = 1;
  int first_cpu = -1;         // --pin: thread i runs on CPU first_cpu + i
  bool one_shot = false;      // --receive one-shot: a receive per request
  bool direct = false;        // --descriptors direct: sockets only in the ring's own table
  unsigned min_wait_us = 0;   // --min-wait: a sleep gathers this long, up to
  unsigned min_wait_for = 8;  //   this many completions
  unsigned spin_us = 0;       // --spin: looks this long for completions before it sleeps
};

[[noreturn]] void die(const char* what, int positive_errno) {
  std::fprintf(stderr, "floor: %s: %s\n", what, std::strerror(positive_errno));
  std::exit(1);
}

// How far a connection is in its current request. A request ends at the blank line, or, where it
// had a Content-Length, that many bytes later.
struct Connection {
  int fd = -1;
  uint32_t owed = 0;  // responses not yet handed to a send
  bool sending = false;
  bool closing = false;
  bool receiving = false;
  uint64_t body_left_bytes = 0;
  std::string head;  // bytes of an unfinished head
};

// What an operation was, in the low bits of user_data; the descriptor is above them.
enum Kind : uint64_t {
  kind_accept = 0,
  kind_recv = 1,
  kind_send = 2,
  kind_ignored = 3,
  kind_bits = 2,
};

uint64_t now_ns() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(time.tv_nsec);
}

// What io_uring_submit does before it enters; only the helper with the wait is newer than 2.3.
unsigned io_uring_flush(io_uring& ring) {
  __atomic_store_n(ring.sq.ktail, ring.sq.sqe_tail, __ATOMIC_RELEASE);
  ring.sq.sqe_head = ring.sq.sqe_tail;
  return ring.sq.sqe_tail - __atomic_load_n(ring.sq.khead, __ATOMIC_ACQUIRE);
}

class Responder {
 public:
  explicit Responder(const Options& options) : options_(options) {
    for (unsigned i = 0; i < responses_per_send_max; ++i) replies_.append(response);
  }

  [[noreturn]] void run() {
    open_ring();
    open_listener();
    arm_accept();
    for (;;) {
      submit_and_wait();
      reap();
      flush();
    }
  }

 private:
  void open_ring() {
    io_uring_params params{};
    params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                   IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL |
                   IORING_SETUP_CLAMP | IORING_SETUP_CQSIZE;
    params.cq_entries = cq_entries;
    if (int rc = io_uring_queue_init_params(sq_entries, &ring_, &params); rc < 0) {
      die("io_uring_setup", -rc);
    }
    if (int rc = io_uring_register_ring_fd(&ring_); rc < 0) die("register ring fd", -rc);
    if (options_.direct) {
      if (int rc = io_uring_register_files_sparse(&ring_, direct_descriptors); rc < 0) {
        die("register descriptors", -rc);
      }
    }
    if (options_.min_wait_us > 0 && (ring_.features & feature_min_timeout) == 0) {
      die("--min-wait takes a kernel from 6.12 on", ENOSYS);
    }

    void* memory = nullptr;
    if (posix_memalign(&memory, 4096, buffer_count * sizeof(io_uring_buf)) != 0) {
      die("buffer ring", ENOMEM);
    }
    std::memset(memory, 0, buffer_count * sizeof(io_uring_buf));
    buffers_ = static_cast<io_uring_buf_ring*>(memory);
    if (posix_memalign(&memory, 4096, size_t{buffer_count} * buffer_bytes) != 0) {
      die("buffers", ENOMEM);
    }
    buffer_memory_ = static_cast<char*>(memory);
    io_uring_buf_reg registration{};
    registration.ring_addr = reinterpret_cast<uint64_t>(buffers_);
    registration.ring_entries = buffer_count;
    registration.bgid = buffer_group;
    if (int rc = io_uring_register_buf_ring(&ring_, &registration, 0); rc < 0) {
      die("register buffer ring", -rc);
    }
    for (unsigned i = 0; i < buffer_count; ++i) give_back(i);
    publish_buffers();
  }

  void open_listener() {
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener_ < 0) die("socket", errno);
    const int on = 1;
    setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(listener_, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    setsockopt(listener_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);  // accepted sockets inherit it
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(options_.port);
    if (inet_pton(AF_INET, options_.address.c_str(), &address.sin_addr) != 1) {
      die("--listen takes an IPv4 address and a port, such as 127.0.0.1:8090", EINVAL);
    }
    if (bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
      die("bind", errno);
    }
    if (listen(listener_, 4096) != 0) die("listen", errno);
  }

  // --- one tick -------------------------------------------------------------------------------

  void submit_and_wait() {
    if (options_.spin_us > 0 && spin()) return;
    const int rc = options_.min_wait_us > 0 ? gather() : io_uring_submit_and_wait(&ring_, 1);
    if (rc < 0 && rc != -EINTR && rc != -EAGAIN && rc != -EBUSY && rc != -ETIME) {
      die("io_uring_enter", -rc);
    }
  }

  // True if completions came. The pause leaves the other hardware thread its turn.
  bool spin() {
    io_uring_submit_and_get_events(&ring_);
    for (const uint64_t end = now_ns() + uint64_t{options_.spin_us} * 1000; now_ns() < end;) {
      if (io_uring_cq_ready(&ring_) > 0) return true;
      if ((IO_URING_READ_ONCE(*ring_.sq.kflags) & IORING_SQ_TASKRUN) != 0) {
        io_uring_get_events(&ring_);
      }
      __builtin_ia32_pause();
    }
    return io_uring_cq_ready(&ring_) > 0;
  }

  // Sleeps until min_wait_for completions are there, or min_wait_us have passed and one is.
  int gather() {
    // Without a timeout of its own the wait would end, empty, with the minimum.
    __kernel_timespec until{.tv_sec = 3600, .tv_nsec = 0};
    io_uring_getevents_arg argument{};
    argument.ts = reinterpret_cast<uint64_t>(&until);
    argument.sigmask_sz = _NSIG / 8;
    argument.pad = options_.min_wait_us;  // min_wait_usec in newer headers
    const unsigned submit = io_uring_flush(ring_);
    return io_uring_enter2(
        static_cast<unsigned>(ring_.enter_ring_fd), submit, options_.min_wait_for,
        IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG | IORING_ENTER_REGISTERED_RING,
        reinterpret_cast<sigset_t*>(&argument), sizeof argument);
  }

  void reap() {
    for (;;) {
      unsigned head = 0;
      unsigned count = 0;
      io_uring_cqe* cqe = nullptr;
      io_uring_for_each_cqe(&ring_, head, cqe) {
        ++count;
        completed(*cqe);
      }
      io_uring_cq_advance(&ring_, count);
      publish_buffers();
      // The kernel hands out at most 20 deferred completions per enter: fetch what is left.
      if ((IO_URING_READ_ONCE(*ring_.sq.kflags) & IORING_SQ_TASKRUN) == 0) return;
      io_uring_get_events(&ring_);
      // The flag may stay set with nothing behind it: responses must not wait for its next change.
      if (io_uring_cq_ready(&ring_) == 0) return;
    }
  }

  void flush() {
    for (const int fd : ready_) {
      Connection& connection = *connections_[static_cast<size_t>(fd)];
      connection.owed > 0 && !connection.sending && !connection.closing ? send(connection)
                                                                        : finish(connection);
    }
    ready_.clear();
  }

  void completed(const io_uring_cqe& cqe) {
    const auto kind = static_cast<Kind>(cqe.user_data & ((1u << kind_bits) - 1));
    if (kind == kind_accept) {
      if (cqe.res >= 0) accepted(cqe.res);
      if ((cqe.flags & IORING_CQE_F_MORE) == 0) arm_accept();
      return;
    }
    if (kind == kind_ignored) return;
    Connection& connection = *connections_[cqe.user_data >> kind_bits];
    kind == kind_recv ? received(connection, cqe) : sent(connection, cqe.res);
  }

  void accepted(int fd) {
    if (connections_.size() <= static_cast<size_t>(fd)) {
      connections_.resize(static_cast<size_t>(fd) + 1);
    }
    auto& slot = connections_[static_cast<size_t>(fd)];
    slot = std::make_unique<Connection>();
    slot->fd = fd;
    arm_recv(*slot);
  }

  void received(Connection& connection, const io_uring_cqe& cqe) {
    if ((cqe.flags & IORING_CQE_F_BUFFER) != 0) {
      const unsigned id = cqe.flags >> IORING_CQE_BUFFER_SHIFT;
      if (cqe.res > 0) {
        consume(connection,
                {buffer_memory_ + size_t{id} * buffer_bytes, static_cast<size_t>(cqe.res)});
      }
      give_back(id);
    }
    if ((cqe.flags & IORING_CQE_F_MORE) == 0) {
      connection.receiving = false;
      if (cqe.res > 0 || cqe.res == -ENOBUFS) {
        publish_buffers();
        arm_recv(connection);
      } else {
        connection.closing = true;
      }
    }
    ready_.push_back(connection.fd);
  }

  void sent(Connection& connection, int result) {
    connection.sending = false;
    if (result <= 0) connection.closing = true;
    ready_.push_back(connection.fd);
  }

  // --- requests -------------------------------------------------------------------------------

  static void consume(Connection& connection, std::string_view bytes) {
    if (connection.head.empty()) {
      const size_t used = consume_whole(connection, bytes);
      connection.head.assign(bytes.substr(used));
      return;
    }
    connection.head.append(bytes);
    connection.head.erase(0, consume_whole(connection, connection.head));
  }

  // Returns how many bytes belong to finished heads and to bodies.
  static size_t consume_whole(Connection& connection, std::string_view bytes) {
    size_t at = 0;
    for (;;) {
      if (connection.body_left_bytes > 0) {
        const size_t skip = std::min<uint64_t>(connection.body_left_bytes, bytes.size() - at);
        connection.body_left_bytes -= skip;
        at += skip;
        if (connection.body_left_bytes > 0) return at;
        ++connection.owed;
      }
      const size_t end = bytes.find("\r\n\r\n", at);
      if (end == std::string_view::npos) return at;
      const std::string_view head = bytes.substr(at, end - at);
      at = end + 4;
      // Only a request with a body is looked at any closer, so that a GET stays at the floor.
      if (head.starts_with("PUT ")) {
        constexpr std::string_view name = "Content-Length: ";
        if (const size_t found = head.find(name); found != std::string_view::npos) {
          for (size_t i = found + name.size(); i < head.size(); ++i) {
            if (head[i] < '0' || head[i] > '9') break;
            connection.body_left_bytes =
                connection.body_left_bytes * 10 + static_cast<uint64_t>(head[i] - '0');
          }
        }
      }
      if (connection.body_left_bytes == 0) ++connection.owed;
    }
  }

  // --- operations -----------------------------------------------------------------------------

  unsigned char descriptor_flag() const { return options_.direct ? IOSQE_FIXED_FILE : 0; }

  io_uring_sqe& next_sqe() {
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    if (sqe == nullptr) {
      io_uring_submit(&ring_);
      sqe = io_uring_get_sqe(&ring_);
      if (sqe == nullptr) die("submission queue", ENOSPC);
    }
    return *sqe;
  }

  static uint64_t tag(int fd, Kind kind) {
    return (static_cast<uint64_t>(static_cast<unsigned>(fd)) << kind_bits) | kind;
  }

  void arm_accept() {
    io_uring_sqe& sqe = next_sqe();
    if (options_.direct) {
      io_uring_prep_multishot_accept_direct(&sqe, listener_, nullptr, nullptr, 0);
    } else {
      io_uring_prep_multishot_accept(&sqe, listener_, nullptr, nullptr, SOCK_CLOEXEC);
    }
    sqe.user_data = kind_accept;
  }

  void arm_recv(Connection& connection) {
    io_uring_sqe& sqe = next_sqe();
    if (options_.one_shot) {
      io_uring_prep_recv(&sqe, connection.fd, nullptr, buffer_bytes, 0);
    } else {
      io_uring_prep_recv_multishot(&sqe, connection.fd, nullptr, 0, 0);
    }
    sqe.flags |= IOSQE_BUFFER_SELECT | descriptor_flag();
    sqe.buf_group = buffer_group;
    sqe.user_data = tag(connection.fd, kind_recv);
    connection.receiving = true;
  }

  void send(Connection& connection) {
    const uint32_t count = std::min(connection.owed, responses_per_send_max);
    connection.owed -= count;
    connection.sending = true;
    io_uring_sqe& sqe = next_sqe();
    io_uring_prep_send(&sqe, connection.fd, replies_.data(), count * response.size(),
                       MSG_WAITALL | MSG_NOSIGNAL);
    sqe.flags |= descriptor_flag();
    sqe.user_data = tag(connection.fd, kind_send);
  }

  // Closes once nothing of the connection is in flight any more.
  void finish(Connection& connection) {
    if (!connection.closing || connection.fd < 0 || connection.sending) return;
    if (connection.receiving) {  // a broken send: the receive ends with the socket
      if (options_.direct) {
        io_uring_sqe& sqe = next_sqe();
        io_uring_prep_cancel64(&sqe, tag(connection.fd, kind_recv), 0);
        sqe.user_data = kind_ignored;
      } else {
        shutdown(connection.fd, SHUT_RDWR);
      }
      return;
    }
    if (options_.direct) {
      io_uring_sqe& sqe = next_sqe();
      io_uring_prep_close_direct(&sqe, static_cast<unsigned>(connection.fd));
      sqe.user_data = kind_ignored;
    } else {
      close(connection.fd);
    }
    connection.fd = -1;
  }

  void give_back(unsigned id) {
    // liburing 2.3's helper, with the count kept until a whole batch is published.
    io_uring_buf_ring_add(buffers_, buffer_memory_ + size_t{id} * buffer_bytes, buffer_bytes,
                          static_cast<uint16_t>(id), buffer_count - 1,
                          static_cast<int>(unpublished_));
    ++unpublished_;
  }

  void publish_buffers() {
    if (unpublished_ == 0) return;
    io_uring_buf_ring_advance(buffers_, static_cast<int>(unpublished_));
    unpublished_ = 0;
  }

  const Options options_;
  io_uring ring_{};
  io_uring_buf_ring* buffers_ = nullptr;
  char* buffer_memory_ = nullptr;
  unsigned unpublished_ = 0;
  int listener_ = -1;
  std::vector<std::unique_ptr<Connection>> connections_;  // by descriptor
  std::vector<int> ready_;                                // touched in this tick; may repeat
  std::string replies_;
};

constexpr const char* usage =
    "usage: floor [--listen ADDR:PORT] [--cores N] [--pin FIRST_CPU] [variant]\n"
    "  --listen ADDR:PORT  IPv4 address and port (default 127.0.0.1:8090)\n"
    "  --cores N           threads, each with its own ring and listener (default 1)\n"
    "  --pin FIRST_CPU     thread i runs on CPU FIRST_CPU + i (default: not pinned)\n"
    "Variants, to measure what they change:\n"
    "  --receive multishot|one-shot  one operation for a connection, or one per request\n"
    "  --descriptors plain|direct    sockets in the process's table, or in the ring's own\n"
    "  --min-wait US[:N]             a sleep gathers N completions (default 8) for at most US\n"
    "  --spin US                     looks for completions for US before it sleeps\n";

bool parse_number(std::string_view text, unsigned& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && end == text.data() + text.size();
}

// Returns false if it is none, or its value means nothing.
bool parse_variant(std::string_view flag, const char* value, Options& options) {
  const std::string_view text = value;
  if (flag == "--receive") {
    options.one_shot = text == "one-shot";
    return options.one_shot || text == "multishot";
  }
  if (flag == "--descriptors") {
    options.direct = text == "direct";
    return options.direct || text == "plain";
  }
  if (flag == "--spin") return parse_number(text, options.spin_us);
  if (flag == "--min-wait") {
    const size_t colon = text.find(':');
    return parse_number(text.substr(0, colon), options.min_wait_us) &&
           (colon == std::string_view::npos ||
            parse_number(text.substr(colon + 1), options.min_wait_for));
  }
  return false;
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view flag = argv[i];
    if (flag == "--help") {
      std::fputs(usage, stdout);
      std::exit(0);
    }
    const char* value = i + 1 < argc ? argv[++i] : nullptr;
    const bool known = flag == "--listen" || flag == "--cores" || flag == "--pin" ||
                       (value != nullptr && parse_variant(flag, value, options));
    if (!known || value == nullptr) {
      std::fputs(usage, stderr);
      std::exit(2);
    }
    if (flag == "--cores") options.cores = static_cast<unsigned>(std::max(1, std::atoi(value)));
    if (flag == "--pin") options.first_cpu = std::atoi(value);
    if (flag == "--listen") {
      const std::string_view text = value;
      const size_t colon = text.rfind(':');
      if (colon == std::string_view::npos) die("--listen takes ADDR:PORT", EINVAL);
      options.address = text.substr(0, colon);
      options.port = static_cast<uint16_t>(std::atoi(value + colon + 1));
    }
  }
  return options;
}

void serve(const Options& options, unsigned index) {
  if (options.first_cpu >= 0) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(static_cast<size_t>(options.first_cpu) + index, &set);
    if (const int rc = pthread_setaffinity_np(pthread_self(), sizeof set, &set); rc != 0) {
      die("--pin", rc);
    }
  }
  Responder(options).run();
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = parse(argc, argv);
  std::signal(SIGPIPE, SIG_IGN);
  std::printf("floor: %s:%u, cores %u\n", options.address.c_str(), options.port, options.cores);
  std::fflush(stdout);
  std::vector<std::thread> threads;
  for (unsigned i = 1; i < options.cores; ++i) threads.emplace_back(serve, options, i);
  serve(options, 0);
}
