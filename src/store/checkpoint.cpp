#include "store/checkpoint.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include <gyre/file.hpp>
#include <gyre/reactor.hpp>

#include "store/file_names.hpp"

namespace gyre {

namespace {

constexpr std::string_view marker_name = "CHECKPOINT";
// Beside the directories of the shards. Who is interrupted in removing them in this order leaves
// what is known for a leftover.
constexpr std::string_view file_names[] = {"GYRE.tmp", "GYRE", "CHECKPOINT.tmp", marker_name,
                                           DataDirectory::lock_name};

}  // namespace

std::string CheckpointDirectory::parent_path() const {
  const size_t slash = path_.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path_.substr(0, slash);
}

Task<Result<CheckpointDirectory>> CheckpointDirectory::begin(const DataDirectory& of,
                                                             std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  if (path.empty() || path == "/" || path.find('\0') != std::string::npos) {
    co_return fail(Errc::invalid, "the name of a new directory is needed");
  }
  CheckpointDirectory checkpoint(of, std::move(path));
  Result<FileStatus> status = co_await file_status(checkpoint.path_);
  if (status && status->exists) {
    co_return fail(Errc::already_exists,
                   checkpoint.path_ + " exists already: a checkpoint makes a new directory");
  }
  if (status) status = co_await file_status(checkpoint.incomplete_path());
  if (!status) co_return fail(status.error());
  if (status->exists) {
    if (Result<void> gone = co_await checkpoint.remove_leftover(); !gone) {
      co_return fail(gone.error());
    }
  }
  if (Result<void> made = co_await make_directory(checkpoint.incomplete_path()); !made) {
    const std::string why = made.error().code == Errc::not_found
                                ? checkpoint.parent_path() + " does not exist"
                                : made.error().message();
    co_return fail(Error{made.error().code, made.error().os_error,
                         fmt::format("{} can't be made: {}", checkpoint.path_, why)});
  }
  if (Result<void> made = co_await checkpoint.fill_beginning(); !made) {
    if (checkpoint.lock_.is_open()) co_await checkpoint.abandon();
    co_return fail(made.error());
  }
  co_return checkpoint;
}

Task<Result<void>> CheckpointDirectory::fill_beginning() {
  Result<File> lock = co_await lock_file(join_path(incomplete_path(), DataDirectory::lock_name));
  if (!lock) co_return fail(lock.error());
  lock_ = std::move(*lock);
  Result<void> done = co_await of_->write_identity_to(incomplete_path(), std::string(marker_name));
  for (uint32_t shard = 0; done && shard < of_->shard_count(); ++shard) {
    done = co_await make_directory(shard_path(shard));
  }
  if (done) done = co_await sync_directory(incomplete_path());
  co_return done;
}

Task<void> CheckpointDirectory::unlock() {
  if (lock_.is_open()) static_cast<void>(co_await lock_.close());
}

// --- what an interrupted one left ----------------------------------------------------------------

// Nothing is in it but what a checkpoint makes, and it says that it is one of this data directory.
// Where it does not say so yet there are no shards either. (A log shows that somebody has started a
// node on it.)
Task<Result<bool>> CheckpointDirectory::is_own_leftover() const {
  const Result<std::vector<DirEntry>> entries = co_await list_directory(incomplete_path());
  if (!entries) co_return fail(entries.error());
  bool has_more = false;
  for (const DirEntry& entry : *entries) {
    if (!entry.is_directory) {
      const bool known = std::find(std::begin(file_names), std::end(file_names), entry.name) !=
                         std::end(file_names);
      if (!known) co_return false;
      has_more |= entry.name.starts_with(DataDirectory::identity_name);
      continue;
    }
    has_more = true;
    const std::string directory = join_path(incomplete_path(), entry.name);
    bool is_shard = false;
    for (uint32_t shard = 0; shard < of_->shard_count(); ++shard) {
      is_shard |= shard_path(shard) == directory;
    }
    if (!is_shard) co_return false;
    const Result<std::vector<DirEntry>> files = co_await list_directory(directory);
    if (!files) co_return fail(files.error());
    for (const DirEntry& file : *files) {
      const FileKind kind = parse_file_name(file.name).kind;
      if (file.is_directory || kind == FileKind::foreign || kind == FileKind::log) co_return false;
    }
  }
  for (const std::string_view name : {marker_name, DataDirectory::identity_name}) {
    const Result<DataDirectory> said =
        co_await DataDirectory::read(incomplete_path(), std::string(name));
    if (said) co_return said->uuid() == of_->uuid() && said->shard_count() == of_->shard_count();
  }
  co_return !has_more;
}

Task<Result<void>> CheckpointDirectory::remove_leftover() {
  const Result<bool> own = co_await is_own_leftover();
  if (!own || !*own) {
    co_return fail(Errc::already_exists,
                   incomplete_path() +
                       " is in the way, and is not what an interrupted checkpoint "
                       "of this node left: see what it is, and move it away");
  }
  const std::string lock_path = join_path(incomplete_path(), DataDirectory::lock_name);
  const Result<FileStatus> lock_status = co_await file_status(lock_path);
  if (!lock_status) co_return fail(lock_status.error());
  if (lock_status->exists) {
    Result<File> lock = co_await lock_file(lock_path);
    if (!lock && lock.error().code == Errc::busy) {
      co_return fail(Errc::busy, "a checkpoint to " + path_ + " is under way");
    }
    if (!lock) co_return fail(lock.error());
    lock_ = std::move(*lock);
  }
  co_await abandon();
  const Result<FileStatus> status = co_await file_status(incomplete_path());
  if (!status) co_return fail(status.error());
  if (status->exists) {
    co_return fail(Errc::already_exists,
                   incomplete_path() +
                       ", which an interrupted checkpoint left, can't be removed: remove it first");
  }
  removed_leftover_ = true;
  Reactor::current().log(
      "info", fmt::format("event=checkpoint_leftover_removed path={}", incomplete_path()));
  co_return Result<void>{};
}

// --- the end -------------------------------------------------------------------------------------

Task<Result<void>> CheckpointDirectory::finish() {
  Result<void> done = co_await of_->write_identity_to(incomplete_path());
  if (done) done = co_await unlink_file(join_path(incomplete_path(), marker_name));
  if (done) done = co_await sync_directory(incomplete_path());
  if (done) done = co_await rename_file(incomplete_path(), path_);
  if (done) done = co_await sync_directory(parent_path());
  if (done) co_await unlock();
  co_return done;
}

Task<void> CheckpointDirectory::abandon() {
  for (uint32_t shard = 0; shard < of_->shard_count(); ++shard) {
    const std::string directory = shard_path(shard);
    const Result<std::vector<DirEntry>> entries = co_await list_directory(directory);
    if (!entries) continue;
    for (const DirEntry& entry : *entries) {
      static_cast<void>(co_await unlink_file(join_path(directory, entry.name)));
    }
    static_cast<void>(co_await remove_directory(directory));
  }
  static_cast<void>(co_await sync_directory(incomplete_path()));  // the mark goes last
  for (const std::string_view name : file_names) {
    static_cast<void>(co_await unlink_file(join_path(incomplete_path(), name)));
  }
  co_await unlock();
  static_cast<void>(co_await remove_directory(incomplete_path()));
}

}  // namespace gyre
