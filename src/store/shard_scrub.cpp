// Checking a shard's files while it serves: all of them at once for whoever asks (verify), and every
// table and value file once per scrub_period, a trickle, for damage that nobody has read yet
// (scrub). A value file is checked as a whole; only if that fails, the tables that name it are
// walked for the values that are damaged.
//
// Both read past the cache. What seems damaged is read a second time before it is called so. A file
// that a compaction takes out of service meanwhile is let go in the middle.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include <gyre/time.hpp>

#include "store/shard.hpp"
#include "store/table_verifier.hpp"
#include "store/value_verifier.hpp"

namespace gyre {

namespace {

// A scrub reads one table no faster than this: what it costs while it runs.
constexpr uint64_t scrub_bytes_per_second = 8u << 20;
constexpr uint64_t scrub_slice_bytes = TableVerifier::window_bytes;
constexpr Nanos empty_shard_pause = seconds(60);
constexpr size_t log_window_bytes = 128u << 10;

// Of one file.
class FileCheck final : public TableVerifier::Observer {
 public:
  FileCheck(const BlockFile& file, StopSource* stop, uint64_t bytes_per_second,
            uint64_t& progress_bytes)
      : file_(file),
        stop_(stop),
        bytes_per_second_(bytes_per_second),
        progress_bytes_(progress_bytes) {}

  // Of a table: the values of these files are read.
  void look_at_values(const TableFile& table, const ReadValues& read) {
    table_ = &table;
    read_ = &read;
  }

  void damaged(uint64_t offset, std::string_view what) override {
    report.add_damage(fmt::format("{}: offset {}: {}", file_.path(), offset, what));
  }

  std::optional<ValueSource> value_source(uint64_t file_number) override {
    if (table_ == nullptr) return std::nullopt;
    const auto& files = table_->value_files();
    const auto at = std::ranges::lower_bound(
        files, file_number, {}, [](const ValueFileRef& file) { return file->file_number(); });
    if (at == files.end() || (*at)->file_number() != file_number) return std::nullopt;
    return ValueSource{&(*at)->file(), (*at)->content_bytes(),
                       read_->all || read_->files.contains(file_number)};
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
    if (file_.is_obsolete()) co_return fail(Errc::closed, "the file is no longer used");
    co_return Result<void>{};
  }

  VerifyReport report;

 private:
  const BlockFile& file_;
  const TableFile* table_ = nullptr;
  const ReadValues* read_ = nullptr;
  StopSource* stop_;
  uint64_t bytes_per_second_;
  uint64_t& progress_bytes_;
  uint64_t since_pause_ = 0;
};

// What seems damaged is read a second time before it is called so. `attempt` checks the file, tells
// the FileCheck what it finds, and fails if it could not get to the end.
// Errc::cancelled: stopped. Errc::closed: the file went out of service, and nothing is said of it.
template <class Attempt>
Task<Result<VerifyReport>> check_file(const BlockFile& file, uint64_t bytes_per_second,
                                      uint64_t& progress_bytes, Attempt attempt) {
  StopSource* const stop = co_await current_stop();
  for (bool again = false;; again = true) {
    const uint64_t progress_before = progress_bytes;
    FileCheck check(file, stop, bytes_per_second, progress_bytes);
    const Result<void> done = co_await attempt(check);
    if (!done && (done.error().code == Errc::cancelled || done.error().code == Errc::closed))
      co_return fail(done.error());
    if (!done) check.report.add_damage(fmt::format("{}: {}", file.path(), done.error().message()));
    check.report.bytes = file.size_bytes();
    progress_bytes = progress_before + file.size_bytes();
    if (again || check.report.damage_count == 0) co_return std::move(check.report);
  }
}

}  // namespace

Task<Result<VerifyReport>> Shard::verify_table(TableRef table, uint64_t bytes_per_second,
                                               uint64_t* progress_bytes, ReadValues read) {
  const auto attempt = [&](FileCheck& check) -> Task<Result<void>> {
    check.look_at_values(*table, read);
    TableVerifier verifier(table->file(), check);
    const Result<bool> opened = co_await verifier.open(table->size_bytes(), table->file_number());
    Result<void> done = opened ? Result<void>{} : fail(opened.error());
    if (opened && *opened) done = co_await verifier.check(&table->record());
    check.report.tables = 1;
    check.report.entries = verifier.found().entry_count;
    check.report.large_values = verifier.found().large_count + verifier.separate_count();
    co_return done;
  };
  Result<VerifyReport> report =
      co_await check_file(*table, bytes_per_second, *progress_bytes, attempt);
  if (report) note_damage(*table, *report);
  co_return report;
}

Task<Result<VerifyReport>> Shard::verify_values(ValueFileRef values, uint64_t bytes_per_second,
                                                uint64_t* progress_bytes) {
  const auto attempt = [&](FileCheck& check) -> Task<Result<void>> {
    const Result<std::optional<ValueFooter>> done = co_await verify_value_file(
        values->file(), values->size_bytes(), values->file_number(), check);
    co_return done ? Result<void>{} : fail(done.error());
  };
  co_return co_await check_file(*values, bytes_per_second, *progress_bytes, attempt);
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

// What the next start would read of the log, up to what is durable now. Segments may be recycled
// under it when a flush ends: then it begins again, as the log does.
Task<Result<void>> Shard::verify_log(VerifyReport& report) {
  for (bool again = false;;) {
    const uint64_t start = manifest_->state().log_start_position();
    const Result<uint64_t> read = co_await read_log(start, log_->synced_position());
    if (closing_ || verify_abandoned_) co_return fail(Errc::cancelled, "stopped");
    if (read) {
      report.bytes += *read;
      verify_progress_.bytes += *read;
      verify_progress_.bytes_done += *read;
      co_return Result<void>{};
    }
    if (read.error().code == Errc::cancelled) co_return fail(read.error());
    if (manifest_->state().log_start_position() != start) continue;
    if (!std::exchange(again, true)) continue;
    report.add_damage(read.error().message());
    co_return Result<void>{};
  }
}

// Bytes read.
Task<Result<uint64_t>> Shard::read_log(uint64_t start_position, uint64_t end_position) {
  if (start_position >= end_position) co_return 0;
  Result<std::vector<DirEntry>> entries = co_await list_directory(options_.directory);
  if (!entries) co_return fail(entries.error());
  std::map<uint64_t, uint64_t> segments;  // id, bytes
  for (const DirEntry& entry : *entries) {
    const FileName name = parse_file_name(entry.name);
    if (!entry.is_directory && name.kind == FileKind::log) segments[name.number] = entry.size_bytes;
  }
  LogReader reader({.salt = options_.log_salt,
                    .start_position = start_position,
                    .skip_through_seq = manifest_->state().flushed_through_seq(),
                    .promised_position = end_position,
                    .window_bytes = limits::io_alignment_bytes,
                    .stop_position = end_position,
                    .check_only = true});
  LogFeed feed(log_window_bytes);
  const Result<void> done = co_await check_log(reader, feed, segments);
  co_await feed.close();
  if (!done) co_return fail(done.error());
  co_return feed.bytes_read();
}

Task<Result<void>> Shard::check_log(LogReader& reader, LogFeed& feed,
                                    const std::map<uint64_t, uint64_t>& segments) {
  for (const auto& [id, bytes] : segments) {
    const Result<void> added =
        co_await feed.add(reader, id, bytes, join_path(options_.directory, log_file_name(id)));
    if (!added) co_return added;
  }
  for (;;) {
    const Result<LogReader::Event> event = reader.next();
    if (!event) co_return fail(event.error());
    if (*event == LogReader::Event::end) co_return Result<void>{};
    if (*event == LogReader::Event::record) continue;
    if (Result<void> fed = co_await feed.supply(reader); !fed) co_return fed;
    co_await maybe_yield();
  }
}

Task<Result<VerifyReport>> Shard::verify() {
  const Call call(*this);
  const std::shared_ptr<const TableLevels> levels = levels_;
  const std::map<uint64_t, ValueFileRef> value_files = levels->value_files();
  verify_progress_ = {.tables = levels->table_count(), .bytes = levels->total_bytes()};
  for (const auto& [number, file] : value_files) verify_progress_.bytes += file->size_bytes();
  verify_abandoned_ = false;
  VerifyReport report;
  if (Result<void> good = co_await manifest_->verify(); !good) {
    if (good.error().code == Errc::cancelled) co_return fail(good.error());
    report.add_damage(good.error().message());
  }
  if (Result<void> checked = co_await verify_log(report); !checked) {
    co_return fail(checked.error());
  }
  ReadValues read;
  for (const auto& [number, file] : value_files) {
    if (closing_ || verify_abandoned_) co_return fail(Errc::cancelled, "stopped");
    if (file->is_obsolete()) continue;
    const Result<FileStatus> status = co_await file_status(file->path());
    if (status && !status->exists && !file->is_obsolete()) {
      report.add_damage(file->path() + ": missing, though it is in use");
    }
    Result<VerifyReport> checked = co_await verify_values(file, 0, &verify_progress_.bytes_done);
    if (checked) {
      if (checked->damage_count != 0) read.files.insert(number);
      report.add(std::move(*checked));
    } else if (checked.error().code != Errc::closed) {
      co_return fail(checked.error());
    }
  }
  for (unsigned level = 0; level < limits::table_level_count; ++level) {
    for (const TableRef& table : levels->level(level)) {
      if (closing_ || verify_abandoned_) co_return fail(Errc::cancelled, "stopped");
      if (table->is_obsolete()) continue;
      const Result<FileStatus> status = co_await file_status(table->path());
      if (status && !status->exists && !table->is_obsolete()) {
        report.add_damage(table->path() + ": missing, though it is in use");
      }
      Result<VerifyReport> checked =
          co_await verify_table(table, 0, &verify_progress_.bytes_done, read);
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

// The first file from `position` on, or the first of all.
Ref<BlockFile> Shard::next_to_scrub(uint64_t position) const {
  Ref<BlockFile> next = host_->next_file(position);
  return next ? next : host_->next_file(0);
}

Task<Result<void>> Shard::scrub(Ref<BlockFile> file, uint64_t bytes_per_second) {
  uint64_t progress_bytes = 0;
  ++stats_.scrubbed_tables;
  stats_.scrubbed_bytes += file->size_bytes();
  const uint64_t number = file->file_number();
  if (const TableRef table = host_->open_table(number)) {
    file.reset();
    const auto checked = co_await verify_table(table, bytes_per_second, &progress_bytes, {});
    co_return checked ? Result<void>{} : fail(checked.error());
  }
  const ValueFileRef values = host_->open_value_file(number);
  file.reset();
  if (!values) co_return Result<void>{};
  const Result<VerifyReport> checked =
      co_await verify_values(values, bytes_per_second, &progress_bytes);
  if (!checked) co_return fail(checked.error());
  if (checked->damage_count == 0) co_return Result<void>{};
  const std::shared_ptr<const TableLevels> levels = levels_;
  for (unsigned level = 0; level < limits::table_level_count; ++level) {
    for (const TableRef& table : levels->level(level)) {
      const auto& named = table->value_files();
      if (std::find(named.begin(), named.end(), values) == named.end()) continue;
      const auto walked =
          co_await verify_table(table, bytes_per_second, &progress_bytes, {.files = {number}});
      if (!walked && walked.error().code == Errc::cancelled) co_return fail(walked.error());
    }
  }
  co_return Result<void>{};
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
    if (const Ref<BlockFile> next = next_to_scrub(position)) {  // not kept during the wait
      // A table that is being installed is not counted yet.
      const auto total = static_cast<double>(std::max(stored_bytes(), next->size_bytes()));
      const auto period = static_cast<double>(options_.scrub_period);
      pause = static_cast<Nanos>(share * period * static_cast<double>(next->size_bytes()) / total);
      rate = std::max(rate, static_cast<uint64_t>(2 * total * 1e9 / period));
      share = 1;
      position = next->file_number();
    }
    if (!co_await sleep_for(pause)) co_return;
    Ref<BlockFile> file = next_to_scrub(position);
    if (!file) continue;
    position = file->file_number() + 1;
    const Result<void> checked = co_await scrub(std::move(file), rate);
    if (!checked && checked.error().code == Errc::cancelled) co_return;
  }
}

}  // namespace gyre
