#include "node/entity_exchange.hpp"

#include <cstring>
#include <utility>

#include <gyre/call.hpp>
#include <gyre/time.hpp>

#include "base/assert.hpp"
#include "http/etag.hpp"
#include "node/memory_wait.hpp"
#include "node/node.hpp"
#include "node/replication/replicated_read.hpp"
#include "node/replication/replicated_write.hpp"

namespace gyre {

namespace {

// How long a write waits for memory before the client is told to come back.
constexpr Nanos memory_patience = milliseconds(250);
constexpr Nanos body_memory_patience = seconds(10);
constexpr uint32_t retry_after_s = 1;
constexpr size_t stream_output_bytes = 256u << 10;

// A wait for memory with an end.
Task<Result<void>> acquire_for_stream(Core& core, uint64_t bytes, bool pipelined) {
  if (pipelined && !co_await core.pipelined_memory().acquire(bytes))
    co_return fail(Errc::cancelled);
  if (co_await core.transit_memory().acquire(bytes)) co_return Result<void>{};
  if (pipelined) core.pipelined_memory().release(bytes);
  co_return fail(Errc::cancelled);
}

void write_head(http::Connection& to, http::ResponseHead head) {
  head.date_line = to.date_line();
  Socket& out = to.socket();
  char* at = out.reserve(http::response_head_bytes_max);
  char* end = http::write_response_head(at, head);
  out.commit(static_cast<size_t>(end - at));
}

void write_failure(http::Connection& to, const http::AnswerStyle& style, uint16_t status,
                   std::string_view reason) {
  Socket& out = to.socket();
  char* at = out.reserve(http::error_answer_bytes_max);
  char* end = http::write_error_answer(at, {.status = status,
                                            .reason = reason,
                                            .close = style.close,
                                            .say_keep_alive = style.say_keep_alive,
                                            .without_body = style.head_only,
                                            .retry_after_s = status == 503 ? retry_after_s : 0,
                                            .date_line = to.date_line()});
  out.commit(static_cast<size_t>(end - at));
}

}  // namespace

// --- travelling ---------------------------------------------------------------------------------

void EntityExchange::go_to_owner() {
  if (owner_ == core_.index()) {
    work(core_);
    return;
  }
  ++core_.stats().requests_forwarded;
  deliver = [](Message& self, Reactor&) noexcept {
    auto& exchange = static_cast<EntityExchange&>(self);
    exchange.work(exchange.core_.node().core(exchange.owner_));
  };
  Reactor::current().send(owner_, *this);
}

void EntityExchange::go_back() {
  if (owner_ == core_.index()) {
    connection().finished(*this);
    return;
  }
  deliver = [](Message& self, Reactor&) noexcept {
    auto& exchange = static_cast<EntityExchange&>(self);
    exchange.connection().finished(exchange);
  };
  Reactor::current().send(core_.index(), *this);
}

// --- reading ------------------------------------------------------------------------------------

ReadExchange::ReadExchange(http::Connection& connection, Core& core, uint32_t shard, unsigned owner,
                           std::string_view key, std::string_view if_none_match)
    : EntityExchange(connection, core, shard, owner), key_(key), if_none_match_(if_none_match) {}

namespace {
// Carries a stream back to the core that must destroy it.
struct Disposal : Message {
  std::unique_ptr<LargeValueStream> stream;
};
}  // namespace

ReadExchange::~ReadExchange() {
  end_read();
  if (transit_bytes_ != 0) core_.transit_memory().release(transit_bytes_);
  if (pipelined_) core_.pipelined_memory().release(transit_bytes_);
  if (!large_ || owner_ == core_.index()) return;
  auto* disposal = new Disposal;
  disposal->stream = std::move(large_);
  disposal->deliver = [](Message& self, Reactor&) noexcept {
    delete static_cast<Disposal*>(&self);
  };
  Reactor::current().send(owner_, *disposal);
}

void ReadExchange::begin() {
  const bool next = connection().is_first_of(*this);
  slot_ = next ? Slot::awaited : Slot::awaited_later;
  core_.start_read(*this, next ? ReadTurn::next : ReadTurn::later);
}

void ReadExchange::at_front() {
  if (slot_ != Slot::awaited_later) return;
  slot_ = Slot::awaited;
  core_.expedite_read(*this);
}

void ReadExchange::go(ReadTurn turn) {
  slot_ = Slot::held;
  turn_ = turn;
  if (ack_ == 0) return go_to_owner();
  ReplicatedRead::start(core_.coordinator(), key_.view(), ack_, from_, this,
                        [](void* self, const ReadAnswer& answer) noexcept {
                          static_cast<ReadExchange*>(self)->take_replicated(answer);
                        });
}

// Values of several replicas are not streamed: they are whole in memory, which is reserved here.
void ReadExchange::take_replicated(const ReadAnswer& answer) {
  status_ = answer.status;
  version_ = answer.version;
  size_bytes_ = answer.value.size();
  if (status_ == 504) failure_ = "Not Enough Replicas";
  if (size_bytes_ > inline_bytes_max) {
    if (size_bytes_ >= Memtable::large_value_bytes_min) {
      if (core_.transit_memory().try_acquire(size_bytes_)) {
        transit_bytes_ = size_bytes_;
      } else {
        status_ = 503;
        failure_ = "no memory for a value of this size now; try again";
      }
    }
    if (status_ == 200) body_.assign(answer.value);
    value_ = body_;
  } else {
    if (!answer.value.empty()) std::memcpy(inline_, answer.value.data(), answer.value.size());
    value_ = {inline_, answer.value.size()};
  }
  connection().finished(*this);
}

void ReadExchange::refuse() {
  slot_ = Slot::none;
  status_ = 503;
  failure_ = too_many_unread;
  connection().finished(*this);
}

void ReadExchange::end_read() {
  if (std::exchange(slot_, Slot::none) == Slot::held) core_.read_ended(turn_);
}

void ReadExchange::work(Core& owner) {
  StoreRead read;
  Shard& shard = owner.shard(shard_);
  switch (shard.try_get(key_.view(), Reactor::current().wall_ms(), read)) {
    case ReadOutcome::found:
      take(std::move(read));
      break;
    case ReadOutcome::absent:
      status_ = 404;
      break;
    case ReadOutcome::wait:
      owner.scope().spawn(work_slowly(owner));
      return;
  }
  go_back();
}

Task<void> ReadExchange::work_slowly(Core& owner) {
  StoreRead read;
  Result<bool> found = co_await owner.shard(shard_).get(std::string(key_.view()),
                                                        Reactor::current().wall_ms(), read);
  if (!found) {
    status_ = 500;
    failure_ = found.error().message();
  } else if (*found) {
    take(std::move(read));
  } else {
    status_ = 404;
  }
  go_back();
}

void ReadExchange::take(StoreRead&& read) {
  status_ = 200;
  version_ = read.version;
  size_bytes_ = read.size_bytes;
  if (read.large) {
    Result<LargeValueStream> stream = LargeValueStream::open(std::move(read));
    if (!stream) {
      status_ = 500;
      failure_ = stream.error().message();
      return;
    }
    large_ = std::make_unique<LargeValueStream>(std::move(*stream));
    is_stream = true;
    return;
  }
  if (read.value.size() <= sizeof inline_) {
    std::memcpy(inline_, read.value.data(), read.value.size());
    value_ = {inline_, read.value.size()};
  } else {
    body_.assign(read.value);
    value_ = body_;
  }
}

http::ResponseHead ReadExchange::head() const {
  return {.status = 200,
          .close = style.close,
          .say_keep_alive = style.say_keep_alive,
          .content_type = http::ContentType::bytes,
          .content_length = size_bytes_,
          .etag = version_};
}

void ReadExchange::respond(http::Connection& to) {
  const bool unchanged = status_ == 200 && !if_none_match_.view().empty() &&
                         http::if_none_match_matches(if_none_match_.view(), version_);
  if (status_ == 200 && is_stream && !unchanged && !style.head_only) return;  // stream() does it
  is_stream = false;
  core_.count_status(unchanged ? 304 : status_);
  if (status_ != 200) {
    write_failure(
        to, style, status_,
        status_ == 404 ? "no value is stored under this key" : std::string_view(failure_));
    return;
  }
  http::ResponseHead answer = head();
  if (unchanged) {
    answer.status = 304;
    answer.body = http::ResponseHead::Body::none;
  }
  write_head(to, answer);
  if (!unchanged && !style.head_only) to.socket().append(value_);
}

// The next piece of a large value; a view into piece_ if it came from another core.
Task<Result<std::string_view>> ReadExchange::next_piece() {
  if (owner_ == core_.index()) co_return co_await large_->next();
  Result<bool> more = co_await spawn_on(owner_, [this]() { return fetch_piece(this); });
  if (!more) co_return fail(more.error());
  co_return std::string_view(piece_);
}

Task<Result<bool>> ReadExchange::fetch_piece(ReadExchange* self) {
  Result<std::string_view> piece = co_await self->large_->next();
  if (!piece) co_return fail(piece.error());
  self->piece_.assign(*piece);
  co_return !piece->empty();
}

Task<bool> ReadExchange::stream(http::Connection& to) {
  // From here on it counts in transit memory.
  end_read();
  // A client that still has earlier answers to read gets no memory yet.
  if (!co_await to.socket().drained(stream_output_bytes / 2)) co_return false;
  const uint64_t piece = std::min<uint64_t>(size_bytes_, stream_output_bytes);
  const uint64_t memory = LargeReader::memory_bytes_expected(size_bytes_) + piece +
                          (owner_ == core_.index() ? 0 : piece);  // its copy on this core
  // Whoever asks for much at a time may not read it either: such clients share a half.
  const bool pipelined = to.pipelines();
  const uint64_t wanted = std::min<uint64_t>(
      memory, (pipelined ? core_.pipelined_memory() : core_.transit_memory()).capacity());
  core_.transit_awaited();
  bool reserved = false;
  if (core_.may_wait_for_transit(pipelined)) {
    core_.transit_waits(1, pipelined);
    reserved = (co_await with_timeout<void>(body_memory_patience,
                                            acquire_for_stream(core_, wanted, pipelined)))
                   .has_value();
    core_.transit_waits(-1, pipelined);
  }
  if (!reserved) {
    core_.count_status(503);
    write_failure(to, style, 503, "no memory for a value of this size now; try again");
    co_return true;
  }
  transit_bytes_ = wanted;
  pipelined_ = pipelined;
  core_.count_status(200);
  write_head(to, head());
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
  co_return sent == size_bytes_;
}

// --- writing ------------------------------------------------------------------------------------

WriteExchange::WriteExchange(http::Connection& connection, Core& core, uint32_t shard,
                             unsigned owner, Kind kind, std::string_view key, uint64_t expire_at_ms,
                             bool chunked, uint64_t content_length)
    : EntityExchange(connection, core, shard, owner),
      key_(key),
      chunked_(chunked),
      content_length_(content_length) {
  unsafe = true;
  record.kind = kind;
  record.expire_at_ms = expire_at_ms;
  status_ = kind == Kind::tombstone ? 202 : 201;
  if (!chunked_) buffer.expect(content_length_);
}

WriteExchange::~WriteExchange() {
  if (transit_bytes_ != 0) core_.transit_memory().release(transit_bytes_);
}

// A body of known length is reserved whole once a little of it has come, so that clients that
// promise much and send nothing reserve nothing, and that two half-received ones
// can't starve each other; a chunked one grows.
uint64_t WriteExchange::transit_wanted(size_t piece_bytes) const {
  if (!chunked_) return transit_bytes_ < content_length_ ? content_length_ - transit_bytes_ : 0;
  const uint64_t unused = transit_bytes_ - buffer.size();
  return piece_bytes > unused ? piece_bytes - unused : 0;
}

bool WriteExchange::take_body(std::string_view piece, bool whole) {
  if (record.kind == Kind::tombstone) return true;  // a body of a DELETE means nothing
  if (whole && piece.size() <= view_bytes_max) {
    view_ = piece;
    return true;
  }
  if (!chunked_ && buffer.empty() && early_.size() + piece.size() <= early_bytes_max &&
      transit_bytes_ == early_.size() && core_.transit_memory().try_acquire(piece.size())) {
    transit_bytes_ += piece.size();
    early_.append(piece);
    return true;
  }
  const uint64_t wanted = transit_wanted(piece.size());
  if (wanted != 0) {
    if (!core_.transit_memory().try_acquire(wanted)) return false;
    transit_bytes_ += wanted;
  }
  use_early();
  buffer.append(piece);
  return true;
}

Task<bool> WriteExchange::make_room(size_t size_bytes) {
  const uint64_t wanted = transit_wanted(size_bytes);
  core_.transit_awaited();
  bool acquired = false;
  if (core_.may_wait_for_transit()) {
    // A chunked body that has taken memory must not wait for others who have too.
    const Nanos patience = chunked_ && transit_bytes_ != 0 ? memory_patience : body_memory_patience;
    core_.transit_waits(1);
    acquired = (co_await with_timeout<void>(patience, acquire(core_.transit_memory(), wanted)))
                   .has_value();
    core_.transit_waits(-1);
  }
  if (!acquired) {
    status_ = 503;
    failure_ = "no memory for the body now; try again";
    co_return false;
  }
  transit_bytes_ += wanted;  // kept: what is given back goes to whoever waits next
  co_return true;
}

void WriteExchange::use_early() {
  if (early_.empty()) return;
  buffer.append(early_);
  std::string().swap(early_);
}

void WriteExchange::detach_body() {
  if (view_.empty()) return;
  buffer.append(view_);
  view_ = {};
}

void WriteExchange::begin() {
  if (status_ == 503) {
    connection().finished(*this);
    return;
  }
  record.key = key_.view();
  use_early();
  if (ack_ != 0) return begin_replicated();
  if (owner_ != core_.index() && !view_.empty()) {
    if (view_.size() <= sizeof inline_) {
      std::memcpy(inline_, view_.data(), view_.size());
      view_ = {inline_, view_.size()};
    } else {
      detach_body();
    }
  }
  go_to_owner();
}

// The write may have replicas to wait for when its client has long been answered: bytes and memory
// become its own.
void WriteExchange::begin_replicated() {
  WriteSpec spec{.key = std::string(key_.view()),
                 .value = buffer.empty() ? std::string(view_) : buffer.to_string(),
                 .tombstone = record.kind == Kind::tombstone,
                 .expire_at_ms = record.expire_at_ms,
                 .ack = ack_,
                 .from = from_};
  buffer.clear();
  const uint64_t needed = spec.key.size() + spec.value.size();
  if (transit_bytes_ < needed) {
    if (!core_.transit_memory().try_acquire(needed - transit_bytes_)) {
      status_ = 503;
      failure_ = "too many writes wait for slow replicas; try again";
      connection().finished(*this);
      return;
    }
    transit_bytes_ = needed;
  }
  spec.transit_bytes = std::exchange(transit_bytes_, 0);
  ReplicatedWrite::start(core_.coordinator(), std::move(spec), this,
                         [](void* self, const WriteAnswer& answer) noexcept {
                           auto& exchange = *static_cast<WriteExchange*>(self);
                           if (answer.status != 201) {
                             exchange.status_ = answer.status;
                             exchange.failure_ = answer.reason;
                           }
                           exchange.record.version = answer.version;
                           exchange.connection().finished(exchange);
                         });
}

void WriteExchange::work(Core& owner) {
  // Nothing gives memory back any more: do not wait for it.
  if (owner.shard(shard_).read_only()) return ended(Errc::read_only);
  const size_t value_bytes = buffer.empty() ? view_.size() : buffer.size();
  charged_bytes = StoreWrite::charge_for(record.key.size(), value_bytes);
  if (owner.write_memory().try_acquire(charged_bytes)) {
    submit(owner);
    return;
  }
  owner.shard(shard_).memory_wanted();
  if (charged_bytes > owner.write_memory().capacity()) {
    charged_bytes = 0;
    failure_ = "the value is larger than the memory for writes; raise --memory";
    ended(Errc::too_large);
    return;
  }
  if (owner_ == core_.index()) detach_body();
  owner.scope().spawn(work_with_patience(owner));
}

Task<void> WriteExchange::work_with_patience(Core& owner) {
  Result<void> acquired =
      co_await with_timeout<void>(memory_patience, acquire(owner.write_memory(), charged_bytes));
  if (!acquired) {
    charged_bytes = 0;
    ended(owner.shard(shard_).read_only() ? Errc::read_only : Errc::overloaded);
    co_return;
  }
  submit(owner);
}

void WriteExchange::submit(Core& owner) {
  if (buffer.empty()) {
    record.value = view_;
  } else {
    record.value_buffer = &buffer;
  }
  done = [](StoreWrite& self, Errc result) noexcept {
    static_cast<WriteExchange&>(self).ended(result);
  };
  const Errc verdict = owner.shard(shard_).write(*this);
  if (verdict == Errc::ok) return;
  owner.write_memory().release(std::exchange(charged_bytes, 0));
  ended(verdict);
}

// On the owner's core.
void WriteExchange::ended(Errc result) {
  switch (result) {
    case Errc::ok:
      break;
    case Errc::too_large:
      status_ = 413;
      break;
    case Errc::io:  // 503 would say that it is not stored
      status_ = 500;
      failure_ = "the disk failed during this write; whether it is stored shows after a restart: " +
                 core_.node().core(owner_).shard(shard_).read_only_reason();
      break;
    case Errc::read_only:
      status_ = 503;
      failure_ = core_.node().core(owner_).shard(shard_).read_only_reason();
      break;
    default:
      status_ = 503;
      failure_ = core_.node().core(owner_).shard(shard_).refusal_reason();
      break;
  }
  go_back();
}

void WriteExchange::respond(http::Connection& to) {
  core_.count_status(status_);
  if (status_ >= 400) {
    write_failure(to, style, status_, failure_);
    return;
  }
  write_head(to, {.status = status_,
                  .close = style.close,
                  .say_keep_alive = style.say_keep_alive,
                  .etag = record.version});
}

}  // namespace gyre
