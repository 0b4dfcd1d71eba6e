#include "store/shared_file.hpp"

#include <cerrno>

#include <gyre/reactor.hpp>
#include <gyre/sync.hpp>

#include "base/assert.hpp"
#include "base/limits.hpp"

namespace gyre {

// Owned by its OverlappedIo until that abandons it, then by itself. It is freed from the ready
// list, never inside the completion: freeing it may close the file, which submits an operation.
struct OverlappedIo::State : Op, Runnable {
  Ref<SharedFile> file;
  AlignedBuffer buffer;
  size_t size_bytes = 0;
  int32_t result = 0;
  bool abandoned = false;
  Event ended;

  static void completed(Op& op, Completion completion) noexcept {
    auto& state = static_cast<State&>(op);
    state.result = completion.result;
    if (state.abandoned) {
      state.schedule_free();
    } else {
      state.ended.set();
    }
  }
  // Without a reactor the process is ending; there is nobody to close the file.
  void schedule_free() {
    if (Reactor* const reactor = Reactor::current_or_null()) reactor->schedule(*this);
  }
};

void OverlappedIo::start(Ref<SharedFile> file, OpCode code, uint64_t offset, AlignedBuffer buffer,
                         size_t size_bytes) {
  GYRE_ASSERT(state_ == nullptr && size_bytes != 0 && size_bytes <= buffer.size());
  GYRE_ASSERT(offset % limits::io_alignment_bytes == 0);
  GYRE_ASSERT(size_bytes % limits::io_alignment_bytes == 0);
  state_ = new State;
  state_->code = code;
  state_->fd = file->file().fd();
  state_->len = static_cast<uint32_t>(size_bytes);
  state_->offset = offset;
  state_->data = buffer.data();
  state_->on_complete = &State::completed;
  state_->file = std::move(file);
  state_->buffer = std::move(buffer);
  state_->size_bytes = size_bytes;
  Reactor::current().submit(*state_);
}

void OverlappedIo::start_read(Ref<SharedFile> file, uint64_t offset, size_t size_bytes) {
  start(std::move(file), OpCode::read, offset, AlignedBuffer(size_bytes), size_bytes);
}

void OverlappedIo::start_write(Ref<SharedFile> file, uint64_t offset, AlignedBuffer buffer,
                               size_t size_bytes) {
  start(std::move(file), OpCode::write, offset, std::move(buffer), size_bytes);
}

bool OverlappedIo::in_flight() const {
  return state_ != nullptr && !state_->ended.is_set();
}

Task<Result<OverlappedIo::Done>> OverlappedIo::finish() {
  GYRE_ASSERT(state_ != nullptr);
  co_await detail::Uninterrupted{state_->ended};
  State& state = *state_;
  const bool again = state.result == -EINTR || state.result == -EAGAIN;
  size_t done_bytes = state.result > 0 ? static_cast<size_t>(state.result) : 0;
  Result<void> rest;
  if (state.result < 0 && !again) {
    rest = fail(Error::from_errno(-state.result));
  } else if (done_bytes < state.size_bytes) {  // goes on at the last aligned position
    const size_t from = done_bytes / limits::io_alignment_bytes * limits::io_alignment_bytes;
    const std::span<char> left = state.buffer.span().subspan(from, state.size_bytes - from);
    if (state.code == OpCode::read) {
      const Result<size_t> more = co_await state.file->file().read_full(state.offset + from, left);
      if (more) {
        done_bytes = from + *more;
      } else {
        rest = fail(more.error());
      }
    } else {
      rest =
          co_await state.file->file().write_full(state.offset + from, {left.data(), left.size()});
      done_bytes = state.size_bytes;
    }
  }
  Done done{std::move(state.buffer), done_bytes};
  delete std::exchange(state_, nullptr);
  if (!rest) co_return fail(rest.error());
  co_return done;
}

void OverlappedIo::abandon() noexcept {
  State* const state = std::exchange(state_, nullptr);
  if (state == nullptr) return;
  state->abandoned = true;
  state->run = [](Runnable& self) noexcept { delete static_cast<State*>(&self); };
  if (state->ended.is_set()) delete state;
}

size_t OverlappedIo::memory_bytes() const {
  return state_ == nullptr ? 0 : state_->buffer.size();
}

}  // namespace gyre
