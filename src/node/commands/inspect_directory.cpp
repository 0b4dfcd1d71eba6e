// A whole data directory, or one shard's, under `gyre inspect`: every file in it, and whether those
// that count belong together: what the manifest names is there and is what the manifest remembers.
#include <fmt/format.h>

#include <set>
#include <utility>

#include <gyre/time.hpp>

#include "cluster/handoff/missed_log.hpp"
#include "cluster/peers_text.hpp"
#include "node/commands/client_commands.hpp"
#include "node/commands/inspect.hpp"
#include "node/progress.hpp"
#include "node/replication/membership.hpp"
#include "node/replication/shard_handoff.hpp"
#include "store/data_directory.hpp"
#include "store/manifest_edit.hpp"

namespace gyre {

namespace {

constexpr size_t current_bytes_max = 256;

// The state that a manifest adds up to, as far as it can be read: inspect_manifest tells the rest.
Task<Result<LevelState>> read_state(std::string path, uint64_t number) {
  const Result<FileStatus> status = co_await file_status(path);
  if (!status) co_return fail(status.error());
  if (!status->exists) co_return fail(Errc::not_found);
  if (status->size_bytes > limits::manifest_bytes_max) co_return fail(Errc::too_large, path);
  Result<std::string> content = co_await read_file(path, status->size_bytes);
  if (!content) co_return fail(content.error());
  LevelState state;
  ManifestReader reader(*content, number);
  for (;;) {
    VersionEdit edit;
    const Result<ManifestReader::Step> step = reader.next(edit);
    if (!step || *step != ManifestReader::Step::edit || !state.apply(edit)) break;
    co_await maybe_yield();
  }
  co_return state;
}

constexpr std::string_view left_by_a_write =
    "left by a write that did not end, the next one replaces it";
constexpr std::string_view left_by_a_flush =
    "left by a flush or merge that did not end, the next start removes it";
constexpr std::string_view not_ours = "not of Gyre: left alone";

// A file or directory that does not count.
void pass_over(InspectReport& report, std::string_view path, std::string_view why) {
  report.text += fmt::format("{}: {}\n", path, why);
}

std::string_view why_foreign(std::string_view name) {
  return name.ends_with(".tmp") ? left_by_a_write : not_ours;
}

class ShardInspection {
 public:
  ShardInspection(std::string directory, bool records, InspectReport& report)
      : directory_(std::move(directory)), records_(records), report_(report) {}

  // `identity`: what the data directory says the shard is, if that is known.
  Task<Result<void>> run(std::optional<ShardIdentity> identity);

 private:
  void damaged(std::string_view path, std::string_view what) {
    report_.damage.push_back(fmt::format("{}: {}", path, what));
  }
  Task<Result<void>> file(std::string name, const TableRecord* record = nullptr);
  Task<Result<void>> files(const LevelState& state, uint64_t manifest_number);
  Task<Result<void>> value_files(const std::vector<DirEntry>& entries);

  std::string directory_;
  bool records_;
  InspectReport& report_;
};

Task<Result<void>> ShardInspection::run(std::optional<ShardIdentity> identity) {
  report_.text += fmt::format("shard {}\n", directory_);
  const std::string current = join_path(directory_, current_file_name);
  const Result<std::string> named = co_await read_file(current, current_bytes_max);
  if (!named && named.error().code != Errc::not_found) co_return fail(named.error());
  FileName name;
  if (named && named->ends_with('\n')) {
    name = parse_file_name(std::string_view(*named).substr(0, named->size() - 1));
  }
  if (name.kind != FileKind::manifest) {
    damaged(current, named ? "does not name a manifest" : "missing");
    co_return Result<void>{};
  }
  const std::string manifest = manifest_file_name(name.number);
  const Result<LevelState> state =
      co_await read_state(join_path(directory_, manifest), name.number);
  if (!state && state.error().code != Errc::not_found) co_return fail(state.error());
  if (!state) {
    damaged(join_path(directory_, manifest), "missing, but CURRENT names it");
    co_return Result<void>{};
  }
  if (identity && state->edit_number() != 0 && state->identity() != *identity) {
    damaged(join_path(directory_, manifest), "belongs to another data directory or shard");
  }
  co_return co_await files(*state, name.number);
}

Task<Result<void>> ShardInspection::file(std::string name, const TableRecord* record) {
  std::string path = join_path(directory_, name);
  Result<void> done = co_await inspect_file(path, records_, report_, record);
  // What can't be inspected does not end the inspection of the others.
  if (!done) damaged(path, done.error().detail);
  co_return co_await report_.flush_if_long();
}

// Those that the tables name, after the tables were read.
Task<Result<void>> ShardInspection::value_files(const std::vector<DirEntry>& entries) {
  std::set<uint64_t> missing = std::exchange(report_.value_files, {});
  for (const DirEntry& entry : entries) {
    const FileName name = parse_file_name(entry.name);
    if (entry.is_directory || name.kind != FileKind::values) continue;
    if (missing.erase(name.number) == 0) {
      pass_over(report_, join_path(directory_, entry.name),
                fmt::format("no table names it: {}", left_by_a_flush));
      continue;
    }
    if (Result<void> done = co_await file(entry.name); !done) co_return done;
  }
  for (const uint64_t number : missing) {
    damaged(join_path(directory_, value_file_name(number)), "missing, but a table names it");
  }
  co_return Result<void>{};
}

Task<Result<void>> ShardInspection::files(const LevelState& state, uint64_t manifest_number) {
  const Result<std::vector<DirEntry>> entries = co_await list_directory(directory_);
  if (!entries) co_return fail(entries.error());
  report_.value_files.clear();
  size_t tables_found = 0;
  for (const DirEntry& entry : *entries) {
    const FileName name = parse_file_name(entry.name);
    const std::string path = join_path(directory_, entry.name);
    const bool foreign = entry.is_directory || name.kind == FileKind::foreign;
    if (foreign || name.kind == FileKind::current_temporary) {
      pass_over(report_, path, foreign ? not_ours : left_by_a_write);
      continue;
    }
    // CURRENT has been read, and value files come behind the tables.
    if (name.kind == FileKind::current || name.kind == FileKind::values) continue;
    const TableRecord* record = nullptr;
    if (name.kind == FileKind::table) {
      record = state.find(name.number);
      if (record == nullptr) {
        pass_over(report_, path, fmt::format("no manifest names it: {}", left_by_a_flush));
        continue;
      }
      ++tables_found;
    } else if (name.kind == FileKind::manifest && name.number != manifest_number) {
      pass_over(report_, path, "not the manifest that counts: the next start removes it");
      continue;
    }
    if (Result<void> done = co_await file(entry.name, record); !done) co_return done;
  }
  if (Result<void> done = co_await value_files(*entries); !done) co_return done;
  if (tables_found == state.table_count()) co_return Result<void>{};
  for (unsigned level = 0; level < limits::table_level_count; ++level) {
    for (const TableRecord* record : state.level(level)) {
      const std::string path = join_path(directory_, table_file_name(record->file_number));
      const Result<FileStatus> status = co_await file_status(path);
      if (!status) co_return fail(status.error());
      if (!status->exists) damaged(path, "missing, but the manifest names it");
    }
  }
  co_return Result<void>{};
}

// What is beside the shards' directories: of a node in a cluster what it knows of the others.
class DataInspection {
 public:
  DataInspection(const DataDirectory& data, bool records, InspectReport& report)
      : data_(data), records_(records), report_(report) {}

  Task<Result<void>> run();

 private:
  // The shard whose directory's name this is, or shard_count().
  uint32_t shard_of(std::string_view name) const;
  Task<Result<void>> file(std::string path);
  Task<Result<void>> handoff(std::string directory);
  Task<Result<void>> shard_handoff(std::string directory);

  const DataDirectory& data_;
  bool records_;
  InspectReport& report_;
};

uint32_t DataInspection::shard_of(std::string_view name) const {
  for (uint32_t shard = 0; shard < data_.shard_count(); ++shard) {
    if (data_.shard_path(shard) == join_path(data_.path(), name)) return shard;
  }
  return data_.shard_count();
}

Task<Result<void>> DataInspection::file(std::string path) {
  Result<void> done = co_await inspect_file(path, records_, report_);
  // What can't be inspected does not end the inspection of the others.
  if (!done) report_.damage.push_back(fmt::format("{}: {}", path, done.error().detail));
  co_return co_await report_.flush_if_long();
}

Task<Result<void>> DataInspection::shard_handoff(std::string directory) {
  const Result<std::vector<DirEntry>> entries = co_await list_directory(directory);
  if (!entries) co_return fail(entries.error());
  bool found = false;
  for (const DirEntry& entry : *entries) {
    std::string path = join_path(directory, entry.name);
    if (entry.is_directory || entry.name != cluster::MissedLog::file_name) {
      pass_over(report_, path, why_foreign(entry.name));
      continue;
    }
    found = true;
    if (Result<void> done = co_await file(std::move(path)); !done) co_return done;
  }
  if (!found) {
    report_.damage.push_back(
        fmt::format("{}: missing", join_path(directory, cluster::MissedLog::file_name)));
  }
  co_return Result<void>{};
}

Task<Result<void>> DataInspection::handoff(std::string directory) {
  const Result<std::vector<DirEntry>> entries = co_await list_directory(directory);
  if (!entries) co_return fail(entries.error());
  std::set<uint32_t> missing;
  for (uint32_t shard = 0; shard < data_.shard_count(); ++shard) missing.insert(shard);
  for (const DirEntry& entry : *entries) {
    std::string path = join_path(directory, entry.name);
    const uint32_t shard = shard_of(entry.name);
    if (!entry.is_directory || missing.erase(shard) == 0) {
      pass_over(report_, path, not_ours);
      continue;
    }
    if (Result<void> done = co_await shard_handoff(std::move(path)); !done) co_return done;
  }
  for (const uint32_t shard : missing) {
    report_.damage.push_back(fmt::format(
        "{}: missing",
        join_path(DataDirectory::shard_path(directory, shard), cluster::MissedLog::file_name)));
  }
  co_return Result<void>{};
}

Task<Result<void>> DataInspection::run() {
  report_.text += fmt::format("data directory {}: uuid {}, {} shards\n", data_.path(),
                              data_.uuid_text(), data_.shard_count());
  const Result<std::vector<DirEntry>> entries = co_await list_directory(data_.path());
  if (!entries) co_return fail(entries.error());
  bool has_handoff = false;
  bool has_peers = false;
  for (const DirEntry& entry : *entries) {
    const std::string& name = entry.name;
    std::string path = join_path(data_.path(), name);
    Result<void> done;
    has_handoff |= name == ShardHandoff::directory_name;
    has_peers |= name == cluster::peers_file_name;
    if (entry.is_directory && name == ShardHandoff::directory_name) {
      done = co_await handoff(std::move(path));
    } else if (!entry.is_directory &&
               (name == cluster::peers_file_name || name == Membership::file_name)) {
      done = co_await file(std::move(path));
    } else if (entry.is_directory
                   ? shard_of(name) == data_.shard_count()
                   : name != DataDirectory::identity_name && name != DataDirectory::lock_name) {
      pass_over(report_, path, why_foreign(name));
    }
    if (!done) co_return done;
  }
  if (has_peers && !has_handoff) {
    report_.damage.push_back(fmt::format("{}: missing, but the node has peers",
                                         join_path(data_.path(), ShardHandoff::directory_name)));
  }
  for (uint32_t shard = 0; shard < data_.shard_count(); ++shard) {
    ShardInspection inspection(data_.shard_path(shard), records_, report_);
    Result<void> done = co_await inspection.run(data_.shard_identity(shard));
    if (!done) co_return done;
  }
  co_return Result<void>{};
}

void print_sum(InspectReport& report, std::string_view path) {
  report.text +=
      fmt::format("{}: {} files of {}, {} places damaged\n", path, format_number(report.files),
                  format_bytes(report.bytes), format_number(report.damage.size()));
}

}  // namespace

Task<Result<void>> inspect_directory(std::string path, bool records, InspectReport& report) {
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  const Result<FileStatus> shard = co_await file_status(join_path(path, current_file_name));
  if (!shard) co_return fail(shard.error());
  if (shard->exists) {
    ShardInspection inspection(path, records, report);
    Result<void> done = co_await inspection.run({});
    if (done) print_sum(report, path);
    co_return done;
  }
  Result<DataDirectory> data = co_await DataDirectory::read(path);
  if (!data && data.error().code == Errc::not_found) {
    co_return fail(Errc::invalid, path + " is neither a data directory nor that of a shard");
  }
  if (!data) co_return fail(data.error());
  // A node that serves changes its files: it is asked instead.
  const std::string lock_path = join_path(path, DataDirectory::lock_name);
  const Result<FileStatus> locked = co_await file_status(lock_path);
  Result<File> lock = fail(Errc::not_found);
  if (locked && locked->exists) lock = co_await lock_file(lock_path);
  if (!lock && lock.error().code == Errc::busy) {
    co_return fail(Errc::busy, path +
                                   " is in use by a node: ask it with gyre admin verify, or "
                                   "stop it first");
  }
  DataInspection inspection(*data, records, report);
  Result<void> done = co_await inspection.run();
  if (done) print_sum(report, path);
  if (lock) static_cast<void>(co_await lock->close());
  co_return done;
}

}  // namespace gyre
