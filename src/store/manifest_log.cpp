#include "store/manifest_log.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include <gyre/time.hpp>

#include "base/assert.hpp"
#include "base/io_alignment.hpp"
#include "base/limits.hpp"
#include "store/file_names.hpp"
#include "store/test_faults.hpp"

namespace gyre {

namespace {

constexpr uint64_t alignment = limits::io_alignment_bytes;
static_assert(manifest_record_alignment_bytes % alignment == 0);
constexpr uint64_t allocation_step_bytes = 256u << 10;
// A snapshot costs several syncs: a shard of few tables does not take one every few edits.
constexpr uint64_t edits_before_roll_min = 64;
// Edits hold keys, which may be long: the file stays within this times the snapshot.
constexpr uint64_t growth_before_roll = 4;
constexpr uint64_t bytes_before_roll_min = 1u << 20;
constexpr size_t current_bytes_max = 256;
constexpr size_t snapshot_piece_bytes = 128u << 10;

constexpr std::string_view remedy =
    "restore the directory from a checkpoint, or wipe it and let the replicas rebuild it";

AlignedBuffer aligned_copy(std::string_view bytes) {
  AlignedBuffer buffer(bytes.size());
  std::memcpy(buffer.data(), bytes.data(), bytes.size());
  return buffer;
}

// What a directory holds, as far as it is ours.
struct Holdings {
  bool current = false;
  bool current_temporary = false;
  bool tables_or_logs = false;
  std::vector<uint64_t> manifests;
};

Holdings take_stock(const std::vector<DirEntry>& entries) {
  Holdings out;
  for (const DirEntry& entry : entries) {
    if (entry.is_directory) continue;
    const FileName name = parse_file_name(entry.name);
    if (name.kind == FileKind::current) out.current = true;
    if (name.kind == FileKind::current_temporary) out.current_temporary = true;
    if (name.kind == FileKind::manifest) out.manifests.push_back(name.number);
    if (name.kind == FileKind::table || name.kind == FileKind::log) out.tables_or_logs = true;
  }
  return out;
}

}  // namespace

std::string ManifestLog::path_of(uint64_t number) const {
  return join_path(directory_, manifest_file_name(number));
}

// --- a new shard ---------------------------------------------------------------------------------

Task<Result<std::unique_ptr<ManifestLog>>> ManifestLog::create(std::string directory,
                                                               ShardIdentity identity) {
  std::unique_ptr<ManifestLog> log(new ManifestLog(directory));
  const Result<std::vector<DirEntry>> entries = co_await list_directory(directory);
  if (!entries) co_return fail(entries.error());
  const Holdings holdings = take_stock(*entries);
  if (holdings.current) {
    co_return fail(Errc::already_exists, directory + " holds a shard already");
  }
  if (holdings.tables_or_logs) {
    co_return fail(Errc::corrupt, fmt::format("{} holds tables or logs, but no {}; {}", directory,
                                              current_file_name, remedy));
  }
  for (const uint64_t number : holdings.manifests) {
    log->number_next_ = std::max(log->number_next_, number + 1);
  }
  VersionEdit first;
  first.snapshot_of = identity;
  first.edit_number = 1;
  first.next_file_number = log->next_file_number_;
  const Result<void> applied = log->state_.apply(first);
  if (!applied) co_return fail(applied.error());
  const Result<void> rolled = co_await log->roll();
  if (!rolled) co_return fail(rolled.error());
  co_await log->remove_leftovers();
  co_return log;
}

Task<Result<void>> ManifestLog::write_copy(std::string directory, VersionEdit state) {
  std::unique_ptr<ManifestLog> log(new ManifestLog(std::move(directory)));
  log->next_file_number_ = state.next_file_number;
  Result<void> done = log->state_.apply(state);
  if (done) done = co_await log->roll();
  static_cast<void>(co_await log->close());
  co_return done;
}

// --- opening -------------------------------------------------------------------------------------

Task<Result<std::unique_ptr<ManifestLog>>> ManifestLog::open(std::string directory) {
  std::unique_ptr<ManifestLog> log(new ManifestLog(std::move(directory)));
  Result<void> done = co_await log->read_current();
  if (done) done = co_await log->read_edits();
  // The process may have been killed between a write or rename and its sync. Nothing is built on
  // what was read before it is durable: else a power cut could take it back later.
  if (done) done = co_await log->file_.sync();
  if (done) done = co_await sync_directory(log->directory_);
  if (done) done = co_await log->count_manifests();
  if (!done) co_return fail(done.error());
  if (log->found_torn_tail_ || log->wants_roll()) {
    const Result<void> rolled = co_await log->roll();
    log->roll_owed_ = !rolled && log->found_torn_tail_;
    const bool may_wait = !rolled && rolled.error().code == Errc::no_space && !log->poisoned();
    if ((log->roll_owed_ || log->poisoned()) && !may_wait) co_return fail(rolled.error());
  }
  co_await log->remove_leftovers();
  co_return log;
}

Task<Result<void>> ManifestLog::read_current() {
  const std::string path = join_path(directory_, current_file_name);
  const Result<std::string> content = co_await read_file(path, current_bytes_max);
  if (!content) co_return fail(content.error());
  FileName name;
  if (content->ends_with('\n')) {
    name = parse_file_name(std::string_view(*content).substr(0, content->size() - 1));
  }
  if (name.kind != FileKind::manifest) {
    co_return fail(Errc::corrupt,
                   fmt::format("{}: at offset 0: does not name a manifest; {}", path, remedy));
  }
  number_ = name.number;
  number_next_ = number_ + 1;
  co_return Result<void>{};
}

Task<Result<void>> ManifestLog::read_edits() {
  const std::string path = path_of(number_);
  const Result<FileStatus> status = co_await file_status(path);
  if (!status) co_return fail(status.error());
  if (!status->exists) {
    co_return fail(Errc::corrupt, fmt::format("{}: missing, but {} names it; {}", path,
                                              current_file_name, remedy));
  }
  if (status->size_bytes > limits::manifest_bytes_max) {
    co_return fail(Errc::too_large, fmt::format("{}: {} bytes, at most {} are read", path,
                                                status->size_bytes, limits::manifest_bytes_max));
  }
  Result<File> file = co_await File::open(path, flag_read | flag_write | flag_direct);
  if (!file) co_return fail(file.error());
  file_ = std::move(*file);
  const AlignedBuffer buffer(std::max<uint64_t>(io_align_up(status->size_bytes), alignment));
  const Result<size_t> size =
      co_await file_.read_full(0, {buffer.data(), io_align_up(status->size_bytes)});
  if (!size) co_return fail(Error{size.error().code, size.error().os_error, "read " + path});
  // An unaligned rest of an interrupted preallocation is allocated once more.
  allocated_bytes_ = io_align_down(*size);
  co_return replay({buffer.data(), *size});
}

Result<void> ManifestLog::replay(std::string_view content) {
  const auto in_file = [&](const Error& error) {
    const std::string_view advice =
        error.code == Errc::unsupported ? "start a newer program on this directory" : remedy;
    return fail(Error{error.code, error.os_error,
                      fmt::format("{}: {}; {}", path_of(number_), error.detail, advice)});
  };
  ManifestReader reader(content, number_);
  for (;;) {
    VersionEdit edit;
    const uint64_t offset = reader.valid_bytes();
    const Result<ManifestReader::Step> step = reader.next(edit);
    if (!step) return in_file(step.error());
    if (*step != ManifestReader::Step::edit) {
      found_torn_tail_ = *step == ManifestReader::Step::torn_tail;
      break;
    }
    const Result<void> applied = state_.apply(edit);
    if (!applied) {
      Error error = applied.error();
      error.detail = fmt::format("at offset {}: {}", offset, error.detail);
      return in_file(error);
    }
    if (edit.snapshot_of) {
      snapshot_bytes_ = reader.valid_bytes();
    } else {
      ++edits_since_snapshot_;
    }
  }
  offset_ = reader.valid_bytes();
  next_file_number_ = store_test_faults.reuse_file_numbers ? 1 : state_.next_file_number();
  return {};
}

Task<Result<void>> ManifestLog::count_manifests() {
  const Result<std::vector<DirEntry>> entries = co_await list_directory(directory_);
  if (!entries) co_return fail(entries.error());
  for (const uint64_t number : take_stock(*entries).manifests) {
    number_next_ = std::max(number_next_, number + 1);
  }
  co_return Result<void>{};
}

// Best effort: what stays is looked for again at the next start.
Task<void> ManifestLog::remove_leftovers() {
  const Result<std::vector<DirEntry>> entries = co_await list_directory(directory_);
  if (!entries) co_return;
  const Holdings holdings = take_stock(*entries);
  for (const uint64_t number : holdings.manifests) {
    if (number != number_) static_cast<void>(co_await unlink_file(path_of(number)));
  }
  if (holdings.current_temporary) {
    static_cast<void>(co_await unlink_file(join_path(directory_, current_temporary_file_name)));
  }
}

// --- appending -----------------------------------------------------------------------------------

Error ManifestLog::poison(const Error& error) {
  poisoned_ = Error{Errc::read_only, error.os_error,
                    fmt::format("{}: a write or sync failed, so that nobody knows what a crash "
                                "would leave; the shard stays read-only until it is restarted ({})",
                                path_of(number_), error.message())};
  return *poisoned_;
}

Task<Result<void>> ManifestLog::append(VersionEdit edit) {
  if (!co_await turn_.acquire()) co_return fail(Errc::cancelled, "stopped before a manifest edit");
  const Result<void> done = co_await append_alone(std::move(edit));
  turn_.release();
  co_return done;
}

Task<Result<void>> ManifestLog::append_alone(VersionEdit edit) {
  if (poisoned_) co_return fail(*poisoned_);
  if (roll_owed_) {
    if (const Result<void> rolled = co_await roll(); !rolled) co_return rolled;
    roll_owed_ = false;
  }
  edit.snapshot_of.reset();
  edit.edit_number = state_.edit_number() + 1;
  edit.next_file_number = std::max(edit.next_file_number, next_file_number_);
  edit.log_number = std::max(edit.log_number, state_.log_number());
  edit.log_start_position = std::max(edit.log_start_position, state_.log_start_position());
  edit.flushed_through_seq = std::max(edit.flushed_through_seq, state_.flushed_through_seq());
  edit.log_promised_position = std::max(edit.log_promised_position, state_.log_promised_position());
  edit.hlc_max = std::max(edit.hlc_max, state_.hlc_max());

  std::string record;
  append_manifest_record(record, number_, edit);
  // What can't be read back must not be written.
  if (offset_ + record.size() > limits::manifest_bytes_max) {
    const Result<void> rolled = co_await roll();
    if (!rolled && poisoned_) co_return fail(*poisoned_);
    if (offset_ + record.size() > limits::manifest_bytes_max) {
      co_return fail(
          Errc::too_large,
          fmt::format("{}: the keys of {} tables don't fit a manifest of {} bytes",
                      path_of(number_), state_.table_count(), limits::manifest_bytes_max));
    }
    record.clear();
    append_manifest_record(record, number_, edit);
  }
  const Result<void> reserved = co_await reserve(offset_ + record.size());
  if (!reserved) co_return reserved;
  const Result<void> applied = state_.apply(edit);
  if (!applied) co_return applied;
  next_file_number_ = std::max(next_file_number_, edit.next_file_number);
  const AlignedBuffer buffer = aligned_copy(record);
  const uint16_t flags = store_test_faults.skip_manifest_sync ? 0 : flag_dsync;
  const Result<void> written =
      co_await file_.write_full(offset_, {buffer.data(), record.size()}, flags);
  if (!written) co_return fail(poison(written.error()));
  offset_ += record.size();
  ++edits_since_snapshot_;
  if (wants_roll()) {
    // The edit is durable whatever becomes of this.
    const Result<void> rolled = co_await roll();
    if (!rolled) roll_not_before_ = 2 * edits_since_snapshot_;
  }
  co_return Result<void>{};
}

// Allocates the file up to `end` at least, ahead of the writes.
Task<Result<void>> ManifestLog::reserve(uint64_t end) {
  if (end <= allocated_bytes_) co_return Result<void>{};
  const uint64_t length =
      std::max<uint64_t>(io_align_up(end - allocated_bytes_), allocation_step_bytes);
  const Result<void> done = co_await file_.allocate(allocated_bytes_, length);
  // A file system that can't preallocate still takes writes.
  if (!done && done.error().os_error != EOPNOTSUPP) {
    co_return fail(Error{done.error().code, done.error().os_error,
                         fmt::format("{}: no room for the next edit", path_of(number_))});
  }
  allocated_bytes_ += length;
  co_return Result<void>{};
}

// --- a new manifest ------------------------------------------------------------------------------

bool ManifestLog::wants_roll() const {
  const bool many =
      edits_since_snapshot_ > std::max<uint64_t>(edits_before_roll_min, state_.table_count());
  const bool long_ones =
      offset_ > std::max(bytes_before_roll_min, growth_before_roll * snapshot_bytes_);
  return (many || long_ones) && edits_since_snapshot_ != 0 &&
         edits_since_snapshot_ >= roll_not_before_;
}

Task<Result<void>> ManifestLog::roll() {
  const uint64_t number = number_next_++;
  Result<NewManifest> made = co_await write_new(number);
  Result<void> named;
  if (made) named = co_await write_current_temporary(number);
  if (!made || !named) {  // nothing names the new one: the old one goes on
    static_cast<void>(co_await unlink_file(path_of(number)));
    co_return fail(made ? named.error() : made.error());
  }
  Result<void> current = co_await rename_file(join_path(directory_, current_temporary_file_name),
                                              join_path(directory_, current_file_name));
  if (current) current = co_await sync_directory(directory_);
  if (!current) co_return fail(poison(current.error()));

  const uint64_t old_number = std::exchange(number_, number);
  std::swap(file_, made->file);
  offset_ = snapshot_bytes_ = made->record_bytes;
  allocated_bytes_ = made->allocated_bytes;
  edits_since_snapshot_ = 0;
  roll_not_before_ = 0;
  if (made->file.is_open()) static_cast<void>(co_await made->file.close());
  if (old_number != 0) static_cast<void>(co_await unlink_file(path_of(old_number)));
  co_return Result<void>{};
}

// Durable with its name, but not named in CURRENT. The snapshot has the number of the last edit, so
// that the next one follows both.
Task<Result<ManifestLog::NewManifest>> ManifestLog::write_new(uint64_t number) {
  VersionEdit head = state_.snapshot_head();
  head.edit_number = state_.edit_number();
  head.next_file_number = next_file_number_;
  SnapshotRecord record(state_, std::move(head), number);
  while (record.measure_some()) co_await maybe_yield();
  Result<File> file = co_await File::open(
      path_of(number), flag_read | flag_write | flag_direct | flag_create | flag_exclusive);
  if (!file) co_return fail(file.error());
  NewManifest out;
  out.file = std::move(*file);
  out.record_bytes = record.record_bytes();
  out.allocated_bytes = std::max(out.record_bytes, allocation_step_bytes);
  Result<void> done = co_await out.file.allocate(0, out.allocated_bytes);
  if (!done && done.error().os_error == EOPNOTSUPP) done = {};
  if (done) done = co_await write_snapshot(out.file, record);
  if (done) done = co_await out.file.sync();
  if (done) done = co_await sync_directory(directory_);
  if (!done) {
    static_cast<void>(co_await out.file.close());
    co_return fail(Error{done.error().code, done.error().os_error,
                         fmt::format("{}: a new manifest could not be written: {}", path_of(number),
                                     done.error().detail)});
  }
  co_return out;
}

// The first piece waits for its header, which is known at the end.
Task<Result<void>> ManifestLog::write_snapshot(File& file, SnapshotRecord& record) {
  std::string first;
  std::string bytes(SnapshotRecord::header_bytes, '\0');
  uint64_t offset = 0;
  for (bool more = true; more;) {
    more = record.append_some(bytes);
    const size_t whole = io_align_down(bytes.size());  // all of it at the end
    if (!more || whole >= snapshot_piece_bytes) {
      if (offset == 0) {
        first = bytes.substr(0, whole);
      } else {
        const AlignedBuffer piece = aligned_copy(std::string_view(bytes).substr(0, whole));
        Result<void> done = co_await file.write_full(offset, {piece.data(), whole});
        if (!done) co_return done;
      }
      bytes.erase(0, whole);
      offset += whole;
    }
    co_await maybe_yield();
  }
  GYRE_ASSERT(bytes.empty() && offset == record.record_bytes());
  first.replace(0, SnapshotRecord::header_bytes, record.header());
  const AlignedBuffer piece = aligned_copy(first);
  co_return co_await file.write_full(0, {piece.data(), first.size()});
}

Task<Result<void>> ManifestLog::write_current_temporary(uint64_t number) {
  Result<File> file = co_await File::open(join_path(directory_, current_temporary_file_name),
                                          flag_write | flag_create | flag_truncate);
  if (!file) co_return fail(file.error());
  Result<void> done = co_await file->write_full(0, manifest_file_name(number) + "\n");
  if (done) done = co_await file->sync();
  static_cast<void>(co_await file->close());
  co_return done;
}

// --- checking ------------------------------------------------------------------------------------

Task<Result<void>> ManifestLog::verify() {
  if (!co_await turn_.acquire()) co_return fail(Errc::cancelled, "stopped");
  ManifestLog again(directory_);
  Result<void> read = co_await again.read_current();
  if (read) read = co_await again.read_edits();
  if (again.file_.is_open()) static_cast<void>(co_await again.file_.close());
  turn_.release();
  if (!read) co_return read;
  const bool same = again.number_ == number_ &&
                    again.state_.edit_number() == state_.edit_number() &&
                    again.state_.table_count() == state_.table_count();
  if (poisoned_ || same) co_return Result<void>{};
  co_return fail(Errc::corrupt,
                 fmt::format("{}: the file ends at edit {}, the shard is at {}", path_of(number_),
                             again.state_.edit_number(), state_.edit_number()));
}

Task<Result<void>> ManifestLog::close() {
  if (!file_.is_open()) co_return Result<void>{};
  co_return co_await file_.close();
}

}  // namespace gyre
