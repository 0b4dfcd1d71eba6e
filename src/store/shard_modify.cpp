// Read-modify-write (StoreModify): the value is made when the log is about to take it, from what the
// memtables and tables hold then.
//
//   append_modify ─> prepare ─> log ─> logged, committed, completed
//        ^             ├─ the newest entry is on the disk ─> read_for ──────────┐
//        │             ├─ there is no memory for the value ─> find_memory_for ──┤
//        │             └─ nothing is to be written ─> left_ ─> completed        │
//        └──────────────────────────────────────────────────────────────────────┘
//
// What the memtables and tables hold is all of the newest state of the key then: a modify whose turn
// doesn't come at once holds back whatever of its key comes after it (held_), and large records that
// the log was taking before are waited for (LogClient::Prepared::later).
#include <gyre/time.hpp>

#include "base/hash.hpp"
#include "store/large_reader.hpp"
#include "store/shard.hpp"
#include "store/test_faults.hpp"

namespace gyre {

namespace {

constexpr Nanos memory_patience = milliseconds(250);

bool is_expired(const StoreRead& read, uint64_t now_ms) {
  return read.expire_at_ms != 0 && read.expire_at_ms <= now_ms;
}

}  // namespace

void Shard::append_modify(StoreModify& modify) {
  if (read_only_) return completed(modify, Errc::read_only);
  if (modify.hash == 0) modify.hash = hash64(modify.record.key);
  if (log_->has_queue()) {
    hold_others(modify);
    return log_->enqueue(modify);
  }
  const Prepared prepared = prepare(modify);
  if (prepared == Prepared::gone) return;
  modify.record.deferred = prepared == Prepared::later;
  if (!modify.record.deferred && log_->try_append(modify)) return;
  hold_others(modify);
  log_->enqueue(modify);
}

LogClient::Prepared Shard::prepare(LogWrite& write) noexcept {
  auto& modify = static_cast<StoreModify&>(write);
  if (log_->awaits_large(modify.record.key)) return Prepared::later;
  StoreRead current;
  const ReadOutcome outcome = find_newest(modify, current);
  if (outcome == ReadOutcome::wait) {
    begin_wait(modify, &Shard::read_for);
    return Prepared::gone;
  }
  const bool present = outcome == ReadOutcome::found;
  if (present && current.large && modify.wants_value &&
      current.size_bytes > modify.value_bytes_max) {
    completed(modify, Errc::too_large);
    return Prepared::gone;
  }
  if (modify.compute(modify, current, present) == StoreModify::Act::leave) {
    leave(modify, current.seq);
    return Prepared::gone;
  }
  if (!charge(modify)) {
    begin_wait(modify, &Shard::find_memory_for);
    return Prepared::gone;
  }
  // What is made is paid for now, however it came to be so much; its turn it had before.
  if (controller_.pressure() < 1)
    controller_.take(modify.record.value_bytes(), Reactor::current().now());
  context_.clock.observe(current.version.hlc);
  modify.record.version = context_.clock.next(Reactor::current().wall_us());
  return Prepared::ready;
}

// As try_get, but what isn't visible yet counts, and what was read for this one.
ReadOutcome Shard::find_newest(StoreModify& modify, StoreRead& out) {
  const uint64_t now_ms = Reactor::current().wall_ms();
  if (const std::unique_ptr<StoreModify::Known> known = std::move(modify.known_)) {
    out = std::move(known->read);
    return known->present && !is_expired(out, now_ms) ? ReadOutcome::found : ReadOutcome::absent;
  }
  const uint64_t seq = store_test_faults.modify_sees_visible ? visible_seq_ : Memtable::seq_newest;
  const ReadOutcome outcome = try_lookup(modify.record.key, modify.hash, seq, now_ms, out);
  const bool in_file = outcome == ReadOutcome::found && out.large_file;
  return in_file && modify.wants_value ? ReadOutcome::wait : outcome;
}

// So that what is acquired is what the record takes. False: there is no memory for it now.
bool Shard::charge(StoreModify& modify) {
  const WriteRecord& record = modify.record;
  const size_t needed = StoreWrite::charge_for(record.key.size(), record.value_bytes());
  Semaphore& memory = context_.write_memory;
  if (modify.charged_bytes >= needed) {
    memory.release(std::exchange(modify.charged_bytes, needed) - needed);
    return true;
  }
  if (!memory.try_acquire(needed - modify.charged_bytes)) return false;
  modify.charged_bytes = needed;
  return true;
}

// --- order ---------------------------------------------------------------------------------------

// From now on writes of its key wait until it is logged or gone.
void Shard::hold_others(StoreModify& modify) {
  if (!store_test_faults.modify_holds_nobody) holders_.emplace(modify.hash, &modify);
}

bool Shard::is_held(StoreWrite& write) {
  if (write.hash == 0) write.hash = hash64(write.record.key);
  const auto holder = holders_.find(write.hash);
  if (holder == holders_.end()) return false;
  if (!write.record.deferred) keep_bytes(write);
  holder->second->held_.push(write);
  return true;
}

// If it holds any back.
void Shard::let_others_go(StoreWrite& write) {
  const auto holder = holders_.find(write.hash);
  if (holder == holders_.end() || holder->second != &write) return;
  StoreModify& modify = *holder->second;
  holders_.erase(holder);
  if (modify.held_.empty()) return;
  released_.take_all(modify.held_);
  Reactor::current().at_tick_end(release_hook_);
}

// In the order in which they came; later ones come after them.
void Shard::append_released() {
  while (!released_.empty()) {
    auto& write = static_cast<StoreWrite&>(released_.pop());
    if (read_only_) {
      completed(write, Errc::read_only);
    } else if (holders_.empty() || !is_held(write)) {
      append_now(write);
    }
  }
}

// --- nothing to be written -----------------------------------------------------------------------

void Shard::leave(StoreModify& modify, uint64_t seen_seq) {
  let_others_go(modify);
  if (seen_seq <= visible_seq_ || store_test_faults.leave_before_durable) {
    return completed(modify, Errc::ok);
  }
  // In the order of their turns.
  const auto* last = static_cast<const StoreModify*>(left_.tail);
  modify.seen_seq_ = left_.empty() ? seen_seq : std::max(seen_seq, last->seen_seq_);
  left_.push(modify);
}

void Shard::release_left(uint64_t through_seq) {
  while (!left_.empty() && static_cast<const StoreModify*>(left_.head)->seen_seq_ <= through_seq) {
    completed(left_.pop(), Errc::ok);
  }
}

// --- what has to wait ----------------------------------------------------------------------------

void Shard::begin_wait(StoreModify& modify, Task<void> (Shard::*wait)(StoreModify&)) {
  if (closing_) return completed(modify, Errc::closed);
  hold_others(modify);
  scope_.spawn((this->*wait)(modify));
}

Task<void> Shard::read_for(StoreModify& modify) {
  ++stats_.modifies_read;
  auto known = std::make_unique<StoreModify::Known>();
  const Result<bool> present = co_await lookup(std::string(modify.record.key), Sees::newest,
                                               Reactor::current().wall_ms(), known->read);
  Result<void> read = present ? Result<void>() : fail(present.error());
  if (read && *present && known->read.large_file && modify.wants_value) {
    read = co_await load_large(modify, known->read);
  }
  if (!read) {
    const Errc code = closing_ ? Errc::closed : read.error().code;
    const bool ours = code == Errc::too_large || code == Errc::overloaded ||
                      code == Errc::read_only || code == Errc::closed;
    if (!ours) modify.failure = read.error().message();
    completed(modify, ours ? code : Errc::corrupt);
    co_return;
  }
  known->present = *present;
  modify.known_ = std::move(known);
  append_modify(modify);
}

// Out of its file into `large_buffer`, within memory for writes.
Task<Result<void>> Shard::load_large(StoreModify& modify, StoreRead& read) {
  if (read.size_bytes > modify.value_bytes_max) co_return fail(Errc::too_large);
  const size_t bytes = StoreWrite::charge_for(modify.record.key.size(), read.size_bytes) +
                       std::max<size_t>(modify.charged_bytes, read.size_bytes);
  if (Result<void> charged = co_await recharge(modify, bytes); !charged) co_return charged;
  Result<LargeReader> reader = LargeReader::open(std::move(read.large_file), read.large_encoded);
  if (!reader) co_return fail(reader.error());
  read.large_buffer.expect(read.size_bytes);
  for (;;) {
    Result<std::string_view> piece = co_await reader->next();
    if (!piece) co_return fail(piece.error());
    if (piece->empty()) co_return Result<void>{};
    read.large_buffer.append(*piece);
  }
}

// For what was made last.
Task<void> Shard::find_memory_for(StoreModify& modify) {
  const WriteRecord& record = modify.record;
  const size_t needed = StoreWrite::charge_for(record.key.size(), record.value_bytes());
  if (Result<void> charged = co_await recharge(modify, needed); !charged) {
    completed(modify, charged.error().code);
    co_return;
  }
  append_modify(modify);
}

// What it has goes back first, so that nobody holds memory while it waits for more.
Task<Result<void>> Shard::recharge(StoreModify& modify, size_t size_bytes) {
  context_.write_memory.release(std::exchange(modify.charged_bytes, 0));
  const Result<void> reserved = co_await with_timeout<void>(
      std::max(memory_patience, modify.patience), reserve_memory(size_bytes));
  if (!reserved) {
    const Errc code = reserved.error().code;
    if (code == Errc::cancelled) co_return fail(Errc::closed);
    co_return fail(code == Errc::timed_out ? Errc::overloaded : code);
  }
  modify.charged_bytes = size_bytes;
  co_return Result<void>{};
}

}  // namespace gyre
