#include <cerrno>
#include <cstdlib>
#include <cstring>

#include <gyre/socket.hpp>
#include <gyre/time.hpp>

#include "base/assert.hpp"
#include "runtime/receive_parking.hpp"

namespace gyre {

// --- output chunks ------------------------------------------------------------------------------

// A piece of the output queue: bytes of its own behind the struct, or a reference to somebody
// else's. [sent, end) is still to be sent; new bytes are appended behind `end` even while the
// part before it is in flight.
struct Socket::OutputChunk {
  OutputChunk* next = nullptr;
  const char* begin = nullptr;
  uint32_t sent = 0;
  uint32_t end = 0;
  uint32_t capacity = 0;  // 0 for references
  void* owner = nullptr;
  void (*release)(void*) noexcept = nullptr;

  char* own_bytes() { return reinterpret_cast<char*>(this + 1); }
};

namespace {

constexpr size_t chunks_kept_max = 64;  // 1 MiB per core, from its reservation

struct ChunkPool {
  std::vector<void*> free;
  size_t live = 0;
  ~ChunkPool() { release(); }
  void release() noexcept {
    for (void* chunk : free) std::free(chunk);
    free.clear();
    free.shrink_to_fit();
  }
};
thread_local ChunkPool chunk_pool;

}  // namespace

size_t output_bytes_live() noexcept {
  return chunk_pool.live * Socket::chunk_bytes;
}
void release_output_pool() noexcept {
  chunk_pool.release();
}

Socket::OutputChunk& Socket::writable_chunk(size_t size_bytes) {
  // A reference has no capacity: nothing may be written behind somebody else's bytes.
  if (output_tail_ != nullptr && output_tail_->end + size_bytes <= output_tail_->capacity) {
    return *output_tail_;
  }
  void* memory = nullptr;
  if (!chunk_pool.free.empty()) {
    memory = chunk_pool.free.back();
    chunk_pool.free.pop_back();
  } else {
    memory = std::malloc(sizeof(OutputChunk) + chunk_bytes);
    GYRE_ASSERT(memory != nullptr);
  }
  ++chunk_pool.live;
  auto* chunk = new (memory) OutputChunk;
  chunk->begin = chunk->own_bytes();
  chunk->capacity = chunk_bytes;
  (output_tail_ != nullptr ? output_tail_->next : output_head_) = chunk;
  output_tail_ = chunk;
  return *chunk;
}

void Socket::pop_chunk() noexcept {
  OutputChunk* chunk = output_head_;
  output_head_ = chunk->next;
  if (output_head_ == nullptr) output_tail_ = nullptr;
  if (chunk->capacity == 0) {
    if (chunk->release != nullptr) chunk->release(chunk->owner);
    free_frame(chunk, sizeof(OutputChunk));
    return;
  }
  --chunk_pool.live;
  if (chunk_pool.free.size() < chunks_kept_max) {
    chunk_pool.free.push_back(chunk);
  } else {
    std::free(chunk);
  }
}

char* Socket::reserve(size_t size_bytes) {
  GYRE_ASSERT(size_bytes <= reserve_bytes_max);
  OutputChunk& chunk = writable_chunk(size_bytes);
  return chunk.own_bytes() + chunk.end;
}

void Socket::commit(size_t size_bytes) {
  if (size_bytes == 0) return;
  OutputChunk& chunk = *output_tail_;
  GYRE_ASSERT(chunk.end + size_bytes <= chunk.capacity);
  chunk.end += static_cast<uint32_t>(size_bytes);
  output_bytes_ += size_bytes;
  if (!send_op_.in_flight) Reactor::current().at_tick_end(flush_);
}

void Socket::append(std::string_view bytes) {
  while (!bytes.empty()) {
    OutputChunk& chunk = writable_chunk(1);
    const size_t piece = std::min<size_t>(bytes.size(), chunk.capacity - chunk.end);
    std::memcpy(chunk.own_bytes() + chunk.end, bytes.data(), piece);
    commit(piece);
    bytes.remove_prefix(piece);
  }
}

void Socket::append_reference(std::string_view bytes, void* owner,
                              void (*release)(void*) noexcept) {
  if (bytes.empty()) {
    if (release != nullptr) release(owner);
    return;
  }
  GYRE_ASSERT(bytes.size() <= UINT32_MAX);
  auto* chunk = new (allocate_frame(sizeof(OutputChunk))) OutputChunk;
  chunk->begin = bytes.data();
  chunk->end = static_cast<uint32_t>(bytes.size());
  chunk->owner = owner;
  chunk->release = release;
  (output_tail_ != nullptr ? output_tail_->next : output_head_) = chunk;
  output_tail_ = chunk;
  output_bytes_ += bytes.size();
  if (!send_op_.in_flight) Reactor::current().at_tick_end(flush_);
}

// --- sending ------------------------------------------------------------------------------------

Socket::Flush::Flush(Socket& of)
    : TickHook([](TickHook& self) noexcept { static_cast<Flush&>(self).socket.submit_send(); }),
      socket(of) {}

void Socket::submit_send() noexcept {
  if (send_op_.in_flight || output_bytes_ == 0 || closing_) return;
  if (broken_) {
    fail_output();
    return;
  }
  constexpr size_t iov_max = 64;
  iov_.clear();
  size_t room = send_bytes_max;
  for (OutputChunk* chunk = output_head_; chunk != nullptr && iov_.size() < iov_max && room > 0;
       chunk = chunk->next) {
    if (chunk->end == chunk->sent) continue;
    const size_t piece = std::min<size_t>(chunk->end - chunk->sent, room);
    iov_.push_back({const_cast<char*>(chunk->begin) + chunk->sent, piece});
    room -= piece;
  }
  send_op_.code = OpCode::send;
  send_op_.fd = fd_;
  send_op_.data = iov_.data();
  send_op_.len = static_cast<uint32_t>(iov_.size());
  send_op_.on_complete = &Socket::on_send;
  send_op_.cancel_requested = false;
  Reactor::current().submit(send_op_);
}

void Socket::on_send(Op& op, Completion completion) noexcept {
  static_cast<SocketOp&>(op).socket.sent(completion.result);
}

void Socket::sent(int32_t result) noexcept {
  if (result < 0 && result != -EINTR && result != -EAGAIN) {
    fail_output();
    note_idle();
    return;
  }
  size_t left = result > 0 ? static_cast<size_t>(result) : 0;
  output_bytes_ -= left;
  bytes_sent_ += left;
  while (output_head_ != nullptr) {
    OutputChunk& chunk = *output_head_;
    const size_t piece = std::min<size_t>(left, chunk.end - chunk.sent);
    chunk.sent += static_cast<uint32_t>(piece);
    left -= piece;
    if (chunk.sent != chunk.end) break;
    pop_chunk();
  }
  if (closing_) {
    note_idle();
  } else if (output_bytes_ > 0) {
    // A short send, or more was appended meanwhile: it goes with this tick's submissions.
    Reactor::current().at_tick_end(flush_);
  }
  progress_.set();
}

void Socket::fail_output() noexcept {
  broken_ = true;
  while (output_head_ != nullptr) pop_chunk();
  output_bytes_ = 0;
  progress_.set();
}

Task<bool> Socket::drained(size_t bytes) {
  while (output_bytes_ > bytes && !broken_) {
    progress_.reset();
    if (!co_await progress_.wait()) co_return false;
  }
  co_return !broken_;
}

// --- receiving ----------------------------------------------------------------------------------

Socket::Socket(int fd) : fd_(fd) {
  GYRE_ASSERT(fd >= 0);
  ++Reactor::current().descriptors_open;
}

Socket::~Socket() {
  GYRE_ASSERT(fd_ < 0);
}

void Socket::arm_receive() noexcept {
  if (receive_op_.in_flight || ended_ || error_ != 0 || closing_ || parked_) return;
  receive_op_.code = OpCode::recv;
  receive_op_.fd = fd_;
  receive_op_.on_complete = &Socket::on_receive;
  receive_op_.cancel_requested = false;
  Reactor::current().submit(receive_op_);
}

void Socket::on_receive(Op& op, Completion completion) noexcept {
  static_cast<SocketOp&>(op).socket.received(completion);
}

void Socket::received(Completion completion) noexcept {
  Reactor& reactor = Reactor::current();
  if (completion.result > 0) {
    const auto size = static_cast<uint32_t>(completion.result);
    bytes_received_ += size;
    if (waiting_ && spill_.empty()) {
      pending_.push_back({completion.buffer, size});
    } else {
      if (!closing_) spill_.append(reactor.backend().buffer(completion.buffer).data(), size);
      reactor.receive_parking().recycle(reactor, completion.buffer);
      if (spill_.size() > spill_bytes_pause && completion.more) reactor.cancel(receive_op_);
    }
  } else {
    if (completion.has_buffer) reactor.receive_parking().recycle(reactor, completion.buffer);
    if (completion.result == 0) {
      ended_ = true;
    } else if (completion.result == -ENOBUFS) {
      if (!closing_ && !detaching_) reactor.receive_parking().park(reactor, *this);
    } else if (completion.result != -ECANCELED && completion.result != -EINTR &&
               completion.result != -EAGAIN) {
      error_ = -completion.result;
    }
  }
  if (closing_ || detaching_) {
    if (!completion.more) note_idle();
    return;
  }
  if (waiting_ && receive_ready()) {
    readable_.set();
  } else if (waiting_ && !completion.more) {
    arm_receive();  // the kernel ended the multishot (overflow, cancel): go on
  }
}

void Socket::release() noexcept {
  if (!holding_) return;
  holding_ = false;
  Reactor& reactor = Reactor::current();
  reactor.receive_parking().recycle(reactor, current_);
}

void Socket::pause_receive() noexcept {
  release();
  std::string().swap(spill_taken_);
  Reactor::current().cancel(receive_op_);
}

void Socket::discard_received() noexcept {
  std::string().swap(spill_);
  std::string().swap(spill_taken_);
}

bool Socket::Receive::await_ready() noexcept {
  socket_.release();
  socket_.readable_.reset();
  ready_ = socket_.receive_ready();
  if (!ready_) {
    // About to wait, perhaps for long: nobody looks at either any more.
    for (std::string* idle : {&socket_.spill_, &socket_.spill_taken_}) {
      if (idle->capacity() > spill_bytes_kept) std::string().swap(*idle);
    }
    socket_.arm_receive();
  }
  return ready_;
}

void Socket::interrupt_receive() noexcept {
  interrupted_ = true;
  if (waiting_) readable_.set();
}

Result<std::string_view> Socket::Receive::await_resume() {
  Socket& socket = socket_;
  socket.waiting_ = false;
  // What arrived in this tick is answered first (the buffers must not be held); the interrupt
  // stays for the next receive, so that a peer who never pauses can't outrun a deadline.
  if (socket.interrupted_ && socket.pending_.empty()) {
    socket.interrupted_ = false;
    return fail(Errc::timed_out);
  }
  if (!socket.pending_.empty()) {
    const Pending first = socket.pending_.front();
    socket.current_ = first.buffer;
    socket.holding_ = true;
    Reactor& reactor = Reactor::current();
    const std::string_view view(reactor.backend().buffer(first.buffer).data(), first.size);
    // More than one buffer arrived in this tick: the rest moves to the spill, so that nothing
    // stays in the core's buffers while the consumer waits for something else.
    for (size_t i = 1; i < socket.pending_.size(); ++i) {
      const Pending& more = socket.pending_[i];
      socket.spill_.append(reactor.backend().buffer(more.buffer).data(), more.size);
      reactor.receive_parking().recycle(reactor, more.buffer);
    }
    socket.pending_.clear();
    return view;
  }
  if (!socket.spill_.empty()) {
    socket.spill_taken_.clear();
    if (socket.spill_taken_.capacity() > 2 * spill_bytes_pause) socket.spill_taken_.shrink_to_fit();
    socket.spill_taken_.swap(socket.spill_);
    return std::string_view(socket.spill_taken_);
  }
  if (socket.error_ != 0) return fail(Error::from_errno(socket.error_, "receive"));
  if (socket.ended_) return std::string_view();
  return fail(Errc::cancelled);
}

// --- ending -------------------------------------------------------------------------------------

IoDone Socket::shutdown_send() {
  return IoDone({.code = OpCode::shutdown, .fd = fd_, .len = 1 /* SHUT_WR */});
}

void Socket::abort() noexcept {
  broken_ = true;
  Reactor::current().cancel(send_op_);
  if (!send_op_.in_flight) fail_output();
  progress_.set();
  if (error_ == 0) error_ = ECONNABORTED;
  if (waiting_) readable_.set();
}

void Socket::note_idle() noexcept {
  const bool ending = closing_ || detaching_;
  if (ending && !receive_op_.in_flight && !send_op_.in_flight) idle_.set();
}

Task<void> Socket::close() {
  GYRE_ASSERT(fd_ >= 0 && !closing_);
  release();
  closing_ = true;
  Reactor& reactor = Reactor::current();
  if (parked_) reactor.receive_parking().unpark(*this);
  for (const Pending& pending : pending_)
    reactor.receive_parking().recycle(reactor, pending.buffer);
  pending_.clear();
  reactor.cancel(receive_op_);
  reactor.cancel(send_op_);
  while (receive_op_.in_flight || send_op_.in_flight) {
    // Not cancellable: the operations own this socket's memory until they complete.
    idle_.reset();
    co_await detail::Uninterrupted{idle_};
  }
  if (flush_.queued) reactor.cancel_hook(flush_);
  fail_output();
  --reactor.descriptors_open;
  const int fd = std::exchange(fd_, -1);
  static_cast<void>(co_await IoDone({.code = OpCode::close, .fd = fd}));
}

Task<Socket::Detached> Socket::detach() {
  GYRE_ASSERT(fd_ >= 0 && !closing_ && !waiting_ && output_bytes_ == 0 && !send_op_.in_flight);
  release();
  detaching_ = true;
  Reactor& reactor = Reactor::current();
  if (parked_) reactor.receive_parking().unpark(*this);
  reactor.cancel(receive_op_);
  while (receive_op_.in_flight) {
    idle_.reset();
    co_await detail::Uninterrupted{idle_};
  }
  if (flush_.queued) reactor.cancel_hook(flush_);
  --reactor.descriptors_open;
  co_return Detached{Descriptor(std::exchange(fd_, -1)), std::move(spill_)};
}

// --- listener -----------------------------------------------------------------------------------

Listener::~Listener() {
  GYRE_ASSERT(fd_ < 0);
}

Task<Result<void>> Listener::open(Options options) {
  const auto flags = static_cast<uint16_t>((options.reuse_port ? flag_reuse_port : 0) |
                                           (options.probe_port ? flag_probe_port : 0));
  Result<uint32_t> fd = co_await IoCount({.code = OpCode::listen,
                                          .flags = flags,
                                          .len = static_cast<uint32_t>(options.backlog),
                                          .offset = options.port},
                                         options.address);
  if (!fd) co_return fail(fd.error());
  fd_ = static_cast<int>(*fd);
  closing_ = false;
  ++Reactor::current().descriptors_open;
  co_return Result<void>{};
}

namespace {
// Troubles of one connection, or of the network for a while (accept(2)): the next one may succeed.
bool concerns_one_connection(int error) {
  switch (error) {
    case ECONNABORTED:
    case EINTR:
    case EAGAIN:
    case ECANCELED:
    case EPERM:  // a firewall rule
    case EPROTO:
    case ENOPROTOOPT:
    case EOPNOTSUPP:
    case ENETDOWN:
    case ENETUNREACH:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENONET:
    case ETIMEDOUT:
      return true;
    default:
      return false;
  }
}
}  // namespace

void Listener::on_accept(Op& op, Completion completion) noexcept {
  Listener& listener = static_cast<AcceptOp&>(op).listener;
  if (completion.result >= 0) {
    listener.accepted_.push_back(completion.result);
  } else if (!concerns_one_connection(-completion.result)) {
    listener.error_ = -completion.result;
  }
  if (!completion.more) listener.idle_.set();
  listener.ready_.set();
}

Task<Result<Descriptor>> Listener::accept() {
  for (;;) {
    if (closing_ || fd_ < 0) co_return fail(Errc::closed);
    if (taken_ < accepted_.size()) co_return Descriptor(accepted_[taken_++]);
    accepted_.clear();
    taken_ = 0;
    ready_.reset();
    const int error = std::exchange(error_, 0);
    if (error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM) {
      if (!co_await sleep_for(milliseconds(100))) co_return fail(Errc::cancelled);
    } else if (error != 0) {
      co_return fail(Error::from_errno(error, "accept"));
    }
    if (!op_.in_flight) {
      op_.code = OpCode::accept;
      op_.fd = fd_;
      op_.on_complete = &Listener::on_accept;
      op_.cancel_requested = false;
      Reactor::current().submit(op_);
    }
    if (!co_await ready_.wait()) co_return fail(Errc::cancelled);
  }
}

Task<void> Listener::close() {
  if (fd_ < 0) co_return;
  closing_ = true;
  Reactor& reactor = Reactor::current();
  reactor.cancel(op_);
  while (op_.in_flight) {
    idle_.reset();
    co_await detail::Uninterrupted{idle_};
  }
  for (size_t i = taken_; i < accepted_.size(); ++i) close_detached(reactor, accepted_[i]);
  accepted_.clear();
  taken_ = 0;
  --reactor.descriptors_open;
  const int fd = std::exchange(fd_, -1);
  static_cast<void>(co_await IoDone({.code = OpCode::close, .fd = fd}));
}

Task<Result<std::vector<std::string>>> resolve(std::string host) {
  std::vector<std::string> addresses;
  Result<void> done = co_await IoDone({.code = OpCode::resolve, .out = &addresses}, host);
  if (!done) co_return fail(done.error());
  if (addresses.empty()) co_return fail(Errc::not_found, "no address for " + host);
  co_return addresses;
}

}  // namespace gyre
