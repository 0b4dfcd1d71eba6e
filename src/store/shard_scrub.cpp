// Checking a shard's files while it serves: all of them at once for whoever asks (verify), and every
// table once per scrub_period, a trickle, for damage that nobody has read yet (scrub).
//
// Both read past the cache. What seems damaged is read a second time before it is called so. A table
// that a compaction takes out of service meanwhile is let go in the middle.
#include <fmt/format.h>

#include <algorithm>

#include <gyre/time.hpp>

#include "store/shard.hpp"
#include "store/table_verifier.hpp"

namespace gyre {

namespace {

// A scrub reads one table no faster than this: what it costs while it runs.
constexpr uint64_t scrub_bytes_per_second = 8u << 20;
constexpr uint64_t scrub_slice_bytes = TableVerifier::window_bytes;
constexpr Nanos empty_shard_pause = seconds(60);

// Of one table.
class TableCheck final : public TableVerifier::Observer {
 public:
  TableCheck(const TableFile& table, StopSource* stop, uint64_t bytes_per_second,
             uint64_t& progress_bytes)
      : table_(table),
        stop_(stop),
        bytes_per_second_(bytes_per_second),
        progress_bytes_(progress_bytes) {}

  void damaged(uint64_t offset, std::string_view what) override {
    report.add_damage(fmt::format("{}: offset {}: {}", table_.path(), offset, what));
  }

  Task<Result<void>> after_block(uint64_t bytes_read) override {
    progress_bytes_ += bytes_read;
    since_pause_ += bytes_read;
    if (bytes_per_second_ != 0 && since_pause_ >= scrub_slice_bytes) {
      const auto pause =
          static_cast<double>(since_pause_) * 1e9 / static_cast<double>(bytes_per_second_);
      since_pause_ = 0;
      if (!co_await sleep_for(static_cast<Nanos>(pause))) co_return fail(Errc::cancelled);
    } else {
      co_await maybe_yield();
    }
    if (stop_ != nullptr && stop_->stop_requested()) co_return fail(Errc::cancelled);
    if (table_.is_obsolete()) co_return fail(Errc::closed, "the table is no longer used");
    co_return Result<void>{};
  }

  VerifyReport report;

 private:
  const TableFile& table_;
  StopSource* stop_;
  uint64_t bytes_per_second_;
  uint64_t& progress_bytes_;
  uint64_t since_pause_ = 0;
};

}  // namespace

// Errc::cancelled: stopped. Errc::closed: the table went out of service, and nothing is said of it.
Task<Result<VerifyReport>> Shard::verify_table(TableRef table, uint64_t bytes_per_second,
                                               uint64_t* progress_bytes) {
  StopSource* const stop = co_await current_stop();
  VerifyReport report;
  for (unsigned attempt = 0; attempt < 2; ++attempt) {
    const uint64_t progress_before = *progress_bytes;
    TableCheck check(*table, stop, bytes_per_second, *progress_bytes);
    TableVerifier verifier(table->file(), check);
    Result<bool> opened = co_await verifier.open(table->size_bytes(), table->file_number());
    Result<void> done = opened ? Result<void>{} : fail(opened.error());
    if (opened && *opened) done = co_await verifier.check(&table->record());
    if (!done && (done.error().code == Errc::cancelled || done.error().code == Errc::closed)) {
      co_return fail(done.error());
    }
    if (!done)
      check.report.add_damage(fmt::format("{}: {}", table->path(), done.error().message()));
    report = std::move(check.report);
    report.tables = 1;
    report.bytes = table->size_bytes();
    report.entries = verifier.found().entry_count;
    report.large_values = verifier.found().large_count;
    *progress_bytes = progress_before + table->size_bytes();
    if (report.damage_count == 0) break;
  }
  note_damage(*table, report);
  co_return report;
}

void Shard::note_damage(TableFile& table, const VerifyReport& report) {
  if (table.is_damaged() != (report.damage_count != 0)) {
    table.set_damaged(report.damage_count != 0);
    set_levels(levels_);  // what is to be merged has changed
    compaction_wanted_.set();
  }
  const uint64_t number = table.file_number();
  std::erase_if(damaged_, [&](const DamagedTable& known) {
    const bool sound = known.file_number == number && report.damage_count == 0;
    return sound || manifest_->state().find(known.file_number) == nullptr;
  });
  if (report.damage_count == 0) return;
  const auto known = std::find_if(damaged_.begin(), damaged_.end(),
                                  [&](const DamagedTable& d) { return d.file_number == number; });
  const DamagedTable damaged{number, report.damage_count, report.damage.front()};
  if (known != damaged_.end()) {
    *known = damaged;
    return;
  }
  damaged_.push_back(damaged);
  Reactor::current().log(
      "error", fmt::format("shard={} event=damaged_table places={} first=\"{}\" advice=\"reads of "
                           "other blocks go on; restore the file from a checkpoint or a replica\"",
                           options_.identity.index, damaged.places, damaged.first));
}

std::vector<DamagedTable> Shard::damaged_tables() const {
  std::vector<DamagedTable> still;
  for (const DamagedTable& damaged : damaged_) {
    if (manifest_->state().find(damaged.file_number) != nullptr) still.push_back(damaged);
  }
  return still;
}

Task<Result<VerifyReport>> Shard::verify() {
  const Call call(*this);
  const std::shared_ptr<const TableLevels> levels = levels_;
  verify_progress_ = {.tables = levels->table_count(), .bytes = levels->total_bytes()};
  verify_abandoned_ = false;
  VerifyReport report;
  if (Result<void> good = co_await manifest_->verify(); !good) {
    if (good.error().code == Errc::cancelled) co_return fail(good.error());
    report.add_damage(good.error().message());
  }
  for (unsigned level = 0; level < limits::table_level_count; ++level) {
    for (const TableRef& table : levels->level(level)) {
      if (closing_ || verify_abandoned_) co_return fail(Errc::cancelled, "stopped");
      if (table->is_obsolete()) continue;
      const Result<FileStatus> status = co_await file_status(table->path());
      if (status && !status->exists && !table->is_obsolete()) {
        report.add_damage(table->path() + ": missing, though it is in use");
      }
      Result<VerifyReport> checked = co_await verify_table(table, 0, &verify_progress_.bytes_done);
      ++verify_progress_.tables_done;
      if (checked) {
        report.add(std::move(*checked));
      } else if (checked.error().code != Errc::closed) {
        co_return fail(checked.error());
      }
    }
  }
  co_return report;
}

// --- scrub ---------------------------------------------------------------------------------------

// The table with the smallest number that is not below `position`, or with the smallest of all.
TableRef Shard::next_to_scrub(uint64_t position) const {
  TableRef behind;
  TableRef first;
  for (unsigned level = 0; level < limits::table_level_count; ++level) {
    for (const TableRef& table : levels_->level(level)) {
      const uint64_t number = table->file_number();
      if (!first || number < first->file_number()) first = table;
      if (number >= position && (!behind || number < behind->file_number())) behind = table;
    }
  }
  return behind ? behind : first;
}

// Each table waits for its share of the period, by bytes, and is then read at a bounded rate.
// Where it begins, and how much of the first share is left, is drawn: a node that is restarted more
// often than the period still gets everywhere.
Task<void> Shard::scrub_loop() {
  Reactor& reactor = Reactor::current();
  constexpr double two_to_64 = 18446744073709551616.0;
  double share = static_cast<double>(reactor.random()) / two_to_64;
  uint64_t position =
      reactor.random() % std::max<uint64_t>(manifest_->state().next_file_number(), 1);
  for (;;) {
    Nanos pause = std::min(empty_shard_pause, options_.scrub_period);
    uint64_t rate = scrub_bytes_per_second;
    if (const TableRef next = next_to_scrub(position)) {  // not kept during the wait
      const auto total = static_cast<double>(levels_->total_bytes());
      const auto period = static_cast<double>(options_.scrub_period);
      pause = static_cast<Nanos>(share * period * static_cast<double>(next->size_bytes()) / total);
      rate = std::max(rate, static_cast<uint64_t>(2 * total * 1e9 / period));
      share = 1;
      position = next->file_number();
    }
    if (!co_await sleep_for(pause)) co_return;
    const TableRef table = next_to_scrub(position);
    if (!table) continue;
    position = table->file_number() + 1;
    uint64_t progress_bytes = 0;
    const Result<VerifyReport> checked = co_await verify_table(table, rate, &progress_bytes);
    if (checked) {
      ++stats_.scrubbed_tables;
      stats_.scrubbed_bytes += checked->bytes;
    } else if (checked.error().code == Errc::cancelled) {
      co_return;
    }
  }
}

}  // namespace gyre
