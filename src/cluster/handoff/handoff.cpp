#include "cluster/handoff/handoff.hpp"

#include <algorithm>
#include <utility>

#include <gyre/reactor.hpp>
#include <gyre/time.hpp>

#include "cluster/handoff/test_faults.hpp"

namespace gyre::cluster {

Handoff::Handoff(std::unique_ptr<MissedLog> log, HandoffOptions options)
    : options_(options), log_(std::move(log)), unconfirmed_(options.unconfirmed_max) {}

Task<Result<std::unique_ptr<Handoff>>> Handoff::open(std::string directory,
                                                     HandoffOptions options) {
  Result<std::unique_ptr<MissedLog>> log =
      co_await MissedLog::open(std::move(directory), options.log);
  if (!log) co_return fail(log.error());
  co_return std::unique_ptr<Handoff>(new Handoff(std::move(*log), options));
}

Taken Handoff::take(const UnconfirmedWrite& write) {
  const Nanos now = Reactor::current().now();
  if (!unconfirmed_.take(write, now)) {
    UnconfirmedWrite oldest;
    if (!unconfirmed_.take_expired(nanos_never, oldest)) {  // all of them are being written
      ++counts_.refused;
      return Taken::refused;
    }
    ++counts_.crowded_out;
    owe(oldest);
    unconfirmed_.take(write, now);
  }
  ++counts_.taken;
  newest_hlc_ = std::max(newest_hlc_, write.version.hlc);
  newest_at_ = now;
  const bool late =
      write.version.hlc < log_->watermark_max() && !handoff_test_faults.late_write_unmarked;
  if (!late) return log_->begun() ? Taken::held : Taken::commit_first;
  ++counts_.late;
  if (write.version.hlc < log_->watermark()) log_->set_watermark(write.version.hlc);
  return Taken::commit_first;
}

void Handoff::confirm(std::span<const Version> versions) {
  for (const Version version : versions) counts_.confirmed += unconfirmed_.confirm(version) ? 1 : 0;
}

void Handoff::coordinator_lost(PeerNumber coordinator) {
  unconfirmed_.take_of(coordinator, [this](const UnconfirmedWrite& write) {
    ++counts_.coordinator_lost;
    owe(write);
  });
}

void Handoff::owe(const UnconfirmedWrite& write) {
  if (handoff_test_faults.forget_unconfirmed) return;
  for (const PeerNumber peer : write.others) log_->owe(peer, write.slot, write.version.hlc);
}

// While writes come, one that was on its way for long may still be older than those that came. Once
// none has come for that long, nothing that came is left open.
uint64_t Handoff::next_watermark() const {
  const auto lag = static_cast<Nanos>(options_.watermark_lag_us) * microseconds(1);
  uint64_t limit = newest_hlc_ + 1;
  if (Reactor::current().now() - newest_at_ < lag) {
    limit -= std::min(limit, hlc_from_us(options_.watermark_lag_us));
  }
  if (handoff_test_faults.watermark_passes_held) return limit;
  return std::min(limit, unconfirmed_.oldest_hlc());
}

Task<Result<void>> Handoff::step() {
  const Nanos now = Reactor::current().now();
  UnconfirmedWrite write;
  while (unconfirmed_.take_expired(now - options_.unconfirmed_for_max, write)) {
    ++counts_.expired;
    owe(write);
  }
  // Behind what became owed, so that it is not durable before that.
  const uint64_t watermark = next_watermark();
  if (!in_doubt() && watermark > log_->watermark()) log_->set_watermark(watermark);
  co_return co_await log_->commit();
}

Task<void> Handoff::run() {
  while (co_await sleep_for(options_.step)) {
    static_cast<void>(co_await step());  // counted; the next step tries again
  }
}

Task<Result<void>> Handoff::resolve_doubt(DoubtSource& source) {
  const std::optional<uint64_t> from = log_->in_doubt_from();
  if (!from) co_return Result<void>{};
  OwedSlots slots;
  const Result<void> found = co_await source.slots_since(*from, slots);
  if (!found) co_return found;
  slots.for_each([&](uint32_t slot, uint64_t hlc) {
    for (const PeerNumber peer : source.others(slot)) log_->owe(peer, slot, hlc);
  });
  counts_.slots_in_doubt += slots.count();
  log_->doubt_resolved();
  co_return co_await log_->commit();
}

uint64_t Handoff::settled_before() const {
  return std::min(unconfirmed_.oldest_hlc(), log_->oldest_hlc());
}

Task<Result<void>> Handoff::close() {
  UnconfirmedWrite write;
  while (unconfirmed_.take_any(write)) owe(write);
  co_return co_await log_->close(true);
}

}  // namespace gyre::cluster
