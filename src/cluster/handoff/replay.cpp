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
    if (done) {
      backoff = 0;
      continue;
    }
    if (done.error().code == Errc::cancelled) co_return;
    backoff = std::clamp(2 * backoff, options_.backoff_min, options_.backoff_max);
    if (!co_await sleep_for(backoff)) co_return;
  }
}

Task<Result<void>> Replay::pass() {
  Result<void> done = co_await replay_records();
  if (done) done = co_await walk_slots();
  ++(done ? counts_.passes : counts_.failures);
  co_return done;
}

// Records that come behind the cursor meanwhile are for the next pass.
Task<Result<void>> Replay::replay_records() {
  std::vector<MissedWrite> records = log_.records_after(peer_, 0, {}, options_.batch);
  while (!records.empty()) {
    std::vector<KeyVersion> entries;
    entries.reserve(records.size());
    for (const MissedWrite& record : records) entries.push_back({record.key, record.version});
    size_t delivered = 0;
    const Result<void> done = co_await deliver(entries, delivered);
    if (handoff_test_faults.drop_on_failed_send) delivered = records.size();
    for (size_t i = 0; i < delivered; ++i) {
      log_.replayed(peer_, records[i].slot, records[i].key, records[i].version);
    }
    if (!done) co_return done;
    const MissedWrite last = std::move(records.back());
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
    size_t delivered = 0;
    const Result<void> done = co_await deliver(page->entries, delivered);
    if (!done) co_return done;
    at_end = page->at_end;
    GYRE_ASSERT(at_end || page->next > cursor_);
    cursor_ = std::move(page->next);
  }
  cursor_.clear();
  log_.end_walk(peer_);
  co_return Result<void>{};
}

Task<Result<void>> Replay::deliver(const std::vector<KeyVersion>& entries, size_t& delivered) {
  delivered = 0;
  if (entries.empty()) co_return Result<void>{};
  if (!co_await bucket_.take(offer_bytes(entries))) co_return fail(Errc::cancelled, "stopped");
  const Result<std::vector<bool>> lacks = co_await target_.offer(entries);
  if (!lacks) co_return fail(lacks.error());
  if (lacks->size() != entries.size()) co_return fail(Errc::invalid, "an answer of another length");
  counts_.offered += entries.size();
  uint64_t sent_bytes = 0;
  for (; delivered < entries.size(); ++delivered) {
    if (!(*lacks)[delivered]) continue;
    ++counts_.lacked;
    if (!co_await bucket_.take(std::exchange(sent_bytes, 0))) {
      co_return fail(Errc::cancelled, "stopped");
    }
    const Result<uint64_t> sent = co_await target_.send(entries[delivered].key);
    if (sent) {
      ++counts_.sent;
      counts_.sent_bytes += *sent;
      sent_bytes = *sent;
    } else if (sent.error().code == Errc::not_found) {
      ++counts_.gone;
    } else {
      co_return fail(sent.error());
    }
  }
  co_return Result<void>{};
}

}  // namespace gyre::cluster
