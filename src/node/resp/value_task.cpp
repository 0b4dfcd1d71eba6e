#include "node/resp/value_task.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include <gyre/call.hpp>
#include <gyre/time.hpp>

#include "node/memory_wait.hpp"
#include "node/node.hpp"
#include "node/replication/coordinator.hpp"
#include "node/replication/replicated_read.hpp"
#include "node/resp/resp_server.hpp"
#include "store/large_reader.hpp"

namespace gyre {

namespace {

constexpr size_t stream_output_bytes = 256u << 10;
constexpr Nanos memory_patience = seconds(10);
constexpr std::string_view no_memory = "OOM no memory for a value of this size now; try again";

// A wait for memory with an end.
Task<Result<void>> acquire_both(Core& core, uint64_t bytes, bool pipelined) {
  if (pipelined && !co_await core.pipelined_memory().acquire(bytes)) {
    co_return fail(Errc::cancelled);
  }
  if (co_await core.transit_memory().acquire(bytes)) co_return Result<void>{};
  if (pipelined) core.pipelined_memory().release(bytes);
  co_return fail(Errc::cancelled);
}

// Carries a stream back to the core that must destroy it.
struct StreamDisposal : Message {
  std::unique_ptr<LargeValueStream> stream;
};

}  // namespace

ValueTask::ValueTask(RespServer& server, std::string_view stored_key, bool wants_value)
    : StoreTask(server, stored_key), key_(stored_key), wants_value_(wants_value) {}

ValueTask::~ValueTask() {
  if (transit_bytes_ != 0) home().transit_memory().release(transit_bytes_);
  if (pipelined_) home().pipelined_memory().release(transit_bytes_);
  if (!large_ || at_home()) return;
  auto* disposal = new StreamDisposal;
  disposal->stream = std::move(large_);
  disposal->deliver = [](Message& self, Reactor&) noexcept {
    delete static_cast<StreamDisposal*>(&self);
  };
  Reactor::current().send(owner_, *disposal);
}

void ValueTask::start() {
  if (!home().has_coordinator()) return go();
  const uint32_t from = home().coordinator().default_replicas();
  ReplicatedRead::start(home().coordinator(), key_.view(), from / 2 + 1, from, this,
                        [](void* self, const ReadAnswer& answer) noexcept {
                          static_cast<ValueTask*>(self)->take_replicated(answer);
                        });
}

// Values of several replicas are not streamed: they are whole in memory, which is reserved here.
void ValueTask::take_replicated(const ReadAnswer& answer) {
  if (answer.status == 504) {
    state_ = State::failed;
    failure_ = "NOREPLICAS Not enough good replicas to read from.";
  } else if (answer.status == 200) {
    state_ = State::found;
    size_bytes_ = answer.value.size();
    if (wants_value_ && size_bytes_ >= Memtable::large_value_bytes_min) {
      if (home().transit_memory().try_acquire(size_bytes_)) {
        transit_bytes_ = size_bytes_;
      } else {
        state_ = State::failed;
        failure_ = no_memory;
      }
    }
    if (wants_value_ && state_ == State::found) {
      if (size_bytes_ <= sizeof inline_) {
        if (size_bytes_ != 0) std::memcpy(inline_, answer.value.data(), size_bytes_);
        value_ = {inline_, size_bytes_};
      } else {
        body_.assign(answer.value);
        value_ = body_;
      }
    }
  }
  completed();
}

void ValueTask::work(Core& owner) {
  StoreRead read;
  switch (owner.shard(shard_).try_get(key_.view(), Reactor::current().wall_ms(), read)) {
    case ReadOutcome::found:
      take(std::move(read));
      break;
    case ReadOutcome::absent:
      break;
    case ReadOutcome::wait:
      owner.scope().spawn(work_slowly(owner));
      return;
  }
  done();
}

Task<void> ValueTask::work_slowly(Core& owner) {
  StoreRead read;
  Result<bool> found = co_await owner.shard(shard_).get(std::string(key_.view()),
                                                        Reactor::current().wall_ms(), read);
  if (!found) {
    state_ = State::failed;
    failure_ = "ERR " + found.error().message();
  } else if (*found) {
    take(std::move(read));
  }
  done();
}

void ValueTask::take(StoreRead&& read) {
  state_ = State::found;
  size_bytes_ = read.size_bytes;
  if (!wants_value_) return;
  if (read.large) {
    Result<LargeValueStream> stream = LargeValueStream::open(std::move(read));
    if (!stream) {
      state_ = State::failed;
      failure_ = "ERR " + stream.error().message();
      return;
    }
    large_ = std::make_unique<LargeValueStream>(std::move(*stream));
    return;
  }
  if (read.value.size() <= sizeof inline_) {
    if (!read.value.empty()) std::memcpy(inline_, read.value.data(), read.value.size());
    value_ = {inline_, read.value.size()};
  } else {
    body_.assign(read.value);
    value_ = body_;
  }
}

void ValueTask::write(resp::ReplyWriter& to) const {
  switch (state_) {
    case State::found:
      to.bulk(value_);
      break;
    case State::absent:
      to.null();
      break;
    case State::failed:
      to.error(failure_);
      break;
  }
}

// The next piece of a large value; a view into piece_ if it came from another core.
Task<Result<std::string_view>> ValueTask::next_piece() {
  if (at_home()) co_return co_await large_->next();
  Result<bool> more = co_await spawn_on(owner_, [this]() { return fetch_piece(this); });
  if (!more) co_return fail(more.error());
  co_return std::string_view(piece_);
}

Task<Result<bool>> ValueTask::fetch_piece(ValueTask* self) {
  Result<std::string_view> piece = co_await self->large_->next();
  if (!piece) co_return fail(piece.error());
  self->piece_.assign(*piece);
  co_return !piece->empty();
}

// Whoever asks for much at a time may not read it either: such clients share a half.
Task<bool> ValueTask::reserve_for_stream(bool pipelined) {
  Core& core = home();
  const uint64_t piece = std::min<uint64_t>(size_bytes_, stream_output_bytes);
  const uint64_t memory =
      LargeReader::memory_bytes_expected(size_bytes_) + piece + (at_home() ? 0 : piece);
  const uint64_t wanted = std::min<uint64_t>(
      memory, (pipelined ? core.pipelined_memory() : core.transit_memory()).capacity());
  core.transit_awaited();
  if (!core.may_wait_for_transit(pipelined)) co_return false;
  core.transit_waits(1, pipelined);
  const bool reserved =
      (co_await with_timeout<void>(memory_patience, acquire_both(core, wanted, pipelined)))
          .has_value();
  core.transit_waits(-1, pipelined);
  if (!reserved) co_return false;
  transit_bytes_ = wanted;
  pipelined_ = pipelined;
  co_return true;
}

Task<bool> ValueTask::stream(resp::Connection& to, resp::Protocol protocol) {
  // A client that still has earlier answers to read gets no memory yet.
  if (!co_await to.socket().drained(stream_output_bytes / 2)) co_return false;
  resp::ReplyWriter out(to.socket(), protocol);
  if (!co_await reserve_for_stream(to.pipelines())) {
    out.error(no_memory);
    co_return true;
  }
  out.begin_bulk(size_bytes_);
  uint64_t sent = 0;
  for (;;) {
    Result<std::string_view> piece = co_await next_piece();
    if (!piece) {
      Reactor::current().log("error", "event=read_failed " + piece.error().message());
      co_return false;
    }
    if (piece->empty()) break;
    sent += piece->size();
    to.socket().append(*piece);
    if (!co_await to.socket().drained(stream_output_bytes / 2)) co_return false;
  }
  out.end_bulk();
  co_return sent == size_bytes_;
}

}  // namespace gyre
