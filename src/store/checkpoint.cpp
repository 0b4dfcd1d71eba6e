#include "store/checkpoint.hpp"

#include <fmt/format.h>

#include <gyre/file.hpp>

#include "store/file_names.hpp"

namespace gyre {

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
  for (const std::string& name : {checkpoint.path_, checkpoint.incomplete_path()}) {
    const Result<FileStatus> status = co_await file_status(name);
    if (!status) co_return fail(status.error());
    if (!status->exists) continue;
    co_return fail(Errc::already_exists,
                   name == checkpoint.path_
                       ? name + " exists already: a checkpoint makes a new directory"
                       : name + " is what an interrupted checkpoint left: remove it first");
  }
  if (Result<void> made = co_await make_directory(checkpoint.incomplete_path()); !made) {
    const std::string why = made.error().code == Errc::not_found
                                ? checkpoint.parent_path() + " does not exist"
                                : made.error().message();
    co_return fail(Error{made.error().code, made.error().os_error,
                         fmt::format("{} can't be made: {}", checkpoint.path_, why)});
  }
  if (Result<void> made = co_await checkpoint.make_directories_of_shards(); !made) {
    co_await checkpoint.abandon();
    co_return fail(made.error());
  }
  co_return checkpoint;
}

Task<Result<void>> CheckpointDirectory::make_directories_of_shards() {
  for (uint32_t shard = 0; shard < of_->shard_count(); ++shard) {
    Result<void> made = co_await make_directory(shard_path(shard));
    if (!made) co_return made;
  }
  co_return co_await sync_directory(incomplete_path());
}

Task<Result<void>> CheckpointDirectory::finish() {
  Result<void> done = co_await of_->write_identity_to(incomplete_path());
  if (done) done = co_await rename_file(incomplete_path(), path_);
  if (done) done = co_await sync_directory(parent_path());
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
  for (const char* name : {"GYRE", "GYRE.tmp"}) {
    static_cast<void>(co_await unlink_file(join_path(incomplete_path(), name)));
  }
  static_cast<void>(co_await remove_directory(incomplete_path()));
}

}  // namespace gyre
