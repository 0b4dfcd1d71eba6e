// Stream sockets of one core.
//
// Receiving: one multishot receive into the core's provided buffers. A consumer that waits gets
// a view straight into the buffer and gives it back in the same tick. Bytes that arrive while
// nobody waits are copied into a private spill at once, and the receive is cancelled until the
// consumer comes back: so a connection that is busy, or hostile, never holds provided buffers,
// and TCP pushes back on its peer. When the buffers run out (-ENOBUFS) the socket parks and is
// armed again when one is recycled, never in a loop.
//
// Sending: bytes are appended to an output queue of chunks; one gathered send per socket and
// tick, one in flight, the next takes everything that gathered meanwhile. A peer that does not
// read makes `output_bytes` grow: producers wait in `drained`.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <gyre/io.hpp>
#include <gyre/reactor.hpp>
#include <gyre/result.hpp>
#include <gyre/sync.hpp>
#include <gyre/task.hpp>

namespace gyre {

class Socket {
 public:
  static constexpr size_t chunk_bytes = 16u << 10;
  static constexpr size_t reserve_bytes_max = chunk_bytes;
  // Of one send: it completes only when all of it has left, and bytes_sent has to show progress
  // while a slow peer reads a large value.
  static constexpr size_t send_bytes_max = 256u << 10;
  static constexpr size_t spill_bytes_pause = 8u << 10;  // beyond it the receive is cancelled
  static constexpr size_t spill_bytes_kept = 512;        // each of two, while nothing arrives

  explicit Socket(int fd);
  explicit Socket(Descriptor connected) : Socket(connected.release()) {}
  ~Socket();  // asserts that it was closed
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  int fd() const { return fd_; }

  // --- receiving -----------------------------------------------------------------------------
  // Bytes from the peer; an empty view is the end of the stream. The view is valid until the
  // next receive or release. Errc::closed on a reset, Errc::cancelled when stopped.
  class Receive;
  [[nodiscard]] Receive receive() noexcept;
  // Gives the buffer behind the last view back. Call it before waiting for anything else.
  void release() noexcept;
  // The consumer will wait for something else, perhaps for long: nothing more is received until the
  // next receive(). What is on its way already goes to the spill.
  void pause_receive() noexcept;
  // Drops what came and was not asked for.
  void discard_received() noexcept;
  // True if `receive` would answer without waiting.
  bool receive_ready() const {
    return !pending_.empty() || !spill_.empty() || ended_ || error_ != 0 || interrupted_;
  }
  // Makes the present or next receive answer Errc::timed_out, once. For deadlines.
  void interrupt_receive() noexcept;
  size_t spill_bytes() const { return spill_.size(); }
  // Memory held for received bytes; an idle connection keeps at most 2 * spill_bytes_kept.
  size_t receive_bytes_kept() const { return spill_.capacity() + spill_taken_.capacity(); }
  uint64_t bytes_received() const { return bytes_received_; }

  // --- sending -------------------------------------------------------------------------------
  // Room for `size` <= reserve_bytes_max contiguous bytes; commit what was written.
  char* reserve(size_t size_bytes);
  void commit(size_t size_bytes);
  void append(std::string_view bytes);
  // Sends `bytes` from where they lie; `release(owner)` is called when they are no longer needed.
  void append_reference(std::string_view bytes, void* owner, void (*release)(void*) noexcept);
  size_t output_bytes() const { return output_bytes_; }
  uint64_t bytes_sent() const { return bytes_sent_; }
  // True once at most `bytes` wait to be sent; false if the connection broke or the task stopped.
  Task<bool> drained(size_t bytes);
  bool broken() const { return broken_; }
  // Gives the connection up: output is discarded, waiting tasks resume. close() is still needed.
  void abort() noexcept;

  // --- ending --------------------------------------------------------------------------------
  // Sends FIN: after what is in the output queue if that is drained first.
  IoDone shutdown_send();
  // Cancels what is in flight, waits for it, closes. Unsent output is discarded.
  Task<void> close();
  // Instead of close: gives the connection up for somebody else to go on with, on this core or
  // another. Nothing may wait to be sent; the last view of receive() ends.
  struct Detached {
    Descriptor fd;
    std::string received;  // and not taken by receive()
  };
  Task<Detached> detach();

 private:
  friend class ReceiveParking;
  struct OutputChunk;
  struct SocketOp : Op {
    explicit SocketOp(Socket& of) : socket(of) {}
    Socket& socket;
  };
  struct Flush : TickHook {
    explicit Flush(Socket& of);
    Socket& socket;
  };
  struct Pending {
    uint16_t buffer;
    uint32_t size;
  };

  static void on_receive(Op& op, Completion completion) noexcept;
  static void on_send(Op& op, Completion completion) noexcept;
  void received(Completion completion) noexcept;
  void sent(int32_t result) noexcept;
  void arm_receive() noexcept;
  void submit_send() noexcept;
  void fail_output() noexcept;
  OutputChunk& writable_chunk(size_t size_bytes);
  void pop_chunk() noexcept;
  void note_idle() noexcept;

  int fd_;
  int32_t error_ = 0;  // positive errno of the receive side
  bool ended_ = false;
  bool broken_ = false;
  bool closing_ = false;
  bool detaching_ = false;
  bool interrupted_ = false;
  bool waiting_ = false;  // a consumer is in receive()
  bool parked_ = false;   // waits for provided buffers
  bool holding_ = false;  // current_ belongs to the consumer
  uint16_t current_ = 0;
  uint64_t bytes_received_ = 0;
  uint64_t bytes_sent_ = 0;
  Socket* next_parked_ = nullptr;

  SocketOp receive_op_{*this};
  Event readable_;
  std::vector<Pending> pending_;  // only within a tick
  std::string spill_;
  std::string spill_taken_;  // what the consumer is looking at

  SocketOp send_op_{*this};
  Flush flush_{*this};
  OutputChunk* output_head_ = nullptr;
  OutputChunk* output_tail_ = nullptr;
  size_t output_bytes_ = 0;
  std::vector<iovec> iov_;
  Event progress_;  // something was sent, or the connection broke
  Event idle_;      // nothing in flight (only while closing)

 public:
  class Receive {
   public:
    explicit Receive(Socket& socket) : socket_(socket), wait_(socket.readable_.wait()) {}
    bool await_ready() noexcept;
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> handle) noexcept {
      if (!wait_.await_suspend(handle)) return false;
      socket_.waiting_ = true;
      return true;
    }
    Result<std::string_view> await_resume();

   private:
    Socket& socket_;
    Event::Wait wait_;
    bool ready_ = false;
  };
};

inline Socket::Receive Socket::receive() noexcept {
  return Receive(*this);
}

// Memory of output chunks of this thread that are in use. Up to 1 MiB more is kept for reuse: it is
// nobody's output, and must not count against who wants to answer.
size_t output_bytes_live() noexcept;
void release_output_pool() noexcept;

// Accepts connections on one core.
class Listener {
 public:
  Listener() = default;
  ~Listener();  // asserts that it was closed
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  struct Options {
    std::string address = "127.0.0.1";
    uint16_t port = 0;
    int backlog = 4096;
    bool reuse_port = false;  // several cores listen on the same port
    bool probe_port = false;  // refuse a port that another process serves
  };
  Task<Result<void>> open(Options options);
  bool is_open() const { return fd_ >= 0; }
  int fd() const { return fd_; }

  // A connected descriptor. Errors that pass by themselves (too many open
  // files) pause accepting for 100 ms and do not end it. Errc::cancelled when stopped, Errc::closed
  // once close was called.
  Task<Result<Descriptor>> accept();
  Task<void> close();

 private:
  struct AcceptOp : Op {
    explicit AcceptOp(Listener& of) : listener(of) {}
    Listener& listener;
  };
  static void on_accept(Op& op, Completion completion) noexcept;

  int fd_ = -1;
  bool closing_ = false;
  AcceptOp op_{*this};
  std::vector<int> accepted_;
  size_t taken_ = 0;
  int32_t error_ = 0;
  Event ready_;
  Event idle_;
};

// Connects to a numeric address. Awaits to Result<Descriptor>, what a Socket is made of.
inline IoDescriptor connect_to(std::string address, uint16_t port) {
  return IoDescriptor({.code = OpCode::connect, .offset = port, .cancellable = true},
                      std::move(address));
}
// Numeric addresses of a name, asked off the loop.
Task<Result<std::vector<std::string>>> resolve(std::string host);

}  // namespace gyre
