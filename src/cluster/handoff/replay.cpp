#include "cluster/handoff/replay.hpp"

#include <algorithm>
#include <utility>

#include <gyre/time.hpp>

#include "base/assert.hpp"
#include "cluster/handoff/test_faults.hpp"
#include "cluster/slot_table.hpp"

namespace gyre::cluster {

namespace {

constexpr size_t entry_overhead_bytes = 32;  // on the way, beside the key

uint64_t offer_bytes(const std::vector<KeyVersion>& entries) {
  uint64_t bytes = 0;
  for (const KeyVersion& entry : entries) bytes += entry_overhead_bytes + entry.key.size();
  return bytes;
}

}  // namespace

Replay::Replay(MissedLog& log, PeerNumber peer, ReplayTarget& target, ReplayOptions options)
    : log_(log),
      peer_(peer),
      target_(target),
      options_(options),
      bucket_(options.bytes_per_second) {}

Task<void> Replay::run() {
  Nanos backoff = 0;
  while (co_await log_.work(peer_).wait() && co_await target_.reachable()) {
    const Result<void> done = co_await pass();
    if (!done && done.error().code == Errc::cancelled) co_return;
    backoff = done ? 0 : std::clamp(2 * backoff, options_.backoff_min, options_.backoff_max);
    const Nanos wait = done ? pause() : backoff;
    if (wait != 0 && !co_await sleep_for(wait)) co_return;
  }
}

// Where only what is set aside is left, until it is due; something else may come before that.
Nanos Replay::pause() const {
  if (set_aside_.empty()) return 0;
  Nanos due = nanos_never;
  for (const auto& [key, value] : set_aside_) due = std::min(due, value.due);
  return std::clamp(due - Reactor::current().now(), options_.backoff_min, options_.set_aside_min);
}

// False: there are too many.
bool Replay::set_aside(const KeyVersion& entry) {
  if (set_aside_.size() >= options_.set_aside_count_max && !set_aside_.contains(entry.key))
    return false;
  SetAside& value = set_aside_[entry.key];
  value.version = entry.version;
  value.wait = std::clamp(2 * value.wait, options_.set_aside_min, options_.set_aside_max);
  value.due = Reactor::current().now() + value.wait;
  ++counts_.set_aside;
  return true;
}

Task<Result<void>> Replay::pass() {
  Result<void> done = co_await replay_records();
  if (done) done = co_await walk_slots();
  if (done) done = co_await try_again();
  ++(done ? counts_.passes : counts_.failures);
  co_return done;
}

// Records that come behind the cursor meanwhile are for the next pass.
Task<Result<void>> Replay::replay_records() {
  std::vector<MissedWrite> records = log_.records_after(peer_, 0, {}, options_.batch);
  while (!records.empty()) {
    const MissedWrite last = records.back();
    std::erase_if(records,
                  [this](const MissedWrite& record) { return set_aside_.contains(record.key); });
    std::vector<KeyVersion> entries;
    entries.reserve(records.size());
    for (const MissedWrite& record : records) entries.push_back({record.key, record.version});
    std::vector<bool> delivered;
    const Result<void> done = co_await deliver(entries, delivered);
    for (size_t i = 0; i < records.size(); ++i) {
      if (!delivered[i] && !handoff_test_faults.drop_on_failed_send) continue;
      log_.replayed(peer_, records[i].slot, records[i].key, records[i].version);
    }
    if (!done) co_return done;
    records = log_.records_after(peer_, last.slot, last.key, options_.batch);
  }
  co_return Result<void>{};
}

Task<Result<void>> Replay::walk_slots() {
  const OwedSlots* slots = log_.walk(peer_);
  if (slots == nullptr) co_return Result<void>{};
  for (bool at_end = false; !at_end;) {
    Result<WalkPage> page = co_await target_.scan(*slots, cursor_);
    if (!page) co_return fail(page.error());
    std::vector<KeyVersion> left;
    const auto is_left = [&](const KeyVersion& entry) {
      if (!set_aside_.contains(entry.key)) return false;
      left.push_back(entry);
      return true;
    };
    std::erase_if(page->entries, is_left);
    std::vector<bool> delivered;
    const Result<void> done = co_await deliver(page->entries, delivered);
    if (!done) co_return done;
    for (size_t i = 0; i < page->entries.size(); ++i) {
      if (!delivered[i]) left.push_back(page->entries[i]);
    }
    for (const KeyVersion& entry : left) {
      log_.missed(peer_, slot_of(entry.key), entry.key, entry.version);
    }
    at_end = page->at_end;
    GYRE_ASSERT(at_end || page->next > cursor_);
    cursor_ = std::move(page->next);
  }
  cursor_.clear();
  log_.end_walk(peer_);
  co_return Result<void>{};
}

Task<Result<void>> Replay::try_again() {
  std::vector<KeyVersion> entries;
  for (const auto& [key, value] : set_aside_) {
    if (value.due > Reactor::current().now() || entries.size() == options_.batch) continue;
    entries.push_back({key, value.version});
  }
  std::vector<bool> delivered;
  const Result<void> done = co_await deliver(entries, delivered);
  for (size_t i = 0; i < entries.size(); ++i) {
    if (delivered[i]) {
      log_.replayed(peer_, slot_of(entries[i].key), entries[i].key, entries[i].version);
    }
  }
  co_return done;
}

Task<Result<void>> Replay::deliver(const std::vector<KeyVersion>& entries,
                                   std::vector<bool>& delivered) {
  delivered.assign(entries.size(), false);
  if (entries.empty()) co_return Result<void>{};
  if (!co_await bucket_.take(offer_bytes(entries))) co_return fail(Errc::cancelled, "stopped");
  const Result<std::vector<bool>> lacks = co_await target_.offer(entries);
  if (!lacks) co_return fail(lacks.error());
  if (lacks->size() != entries.size()) co_return fail(Errc::invalid, "an answer of another length");
  counts_.offered += entries.size();
  uint64_t sent_bytes = 0;
  unsigned failures_in_row = 0;
  for (size_t i = 0; i < entries.size(); ++i) {
    delivered[i] = !(*lacks)[i];
    if (delivered[i]) {
      set_aside_.erase(entries[i].key);
      continue;
    }
    ++counts_.lacked;
    if (!co_await bucket_.take(std::exchange(sent_bytes, 0))) {
      co_return fail(Errc::cancelled, "stopped");
    }
    const Result<uint64_t> sent = co_await target_.send(entries[i].key);
    delivered[i] = sent || sent.error().code == Errc::not_found;
    if (delivered[i]) {
      failures_in_row = 0;
      set_aside_.erase(entries[i].key);
    }
    if (sent) {
      ++counts_.sent;
      counts_.sent_bytes += *sent;
      sent_bytes = *sent;
    } else if (delivered[i]) {
      ++counts_.gone;
    } else if (sent.error().code == Errc::cancelled || !set_aside(entries[i]) ||
               ++failures_in_row >= options_.failures_in_row_max) {
      co_return fail(sent.error());
    }
  }
  co_return Result<void>{};
}

}  // namespace gyre::cluster
