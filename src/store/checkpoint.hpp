// A checkpoint: a copy of a whole data directory, made while it is used.
//
//   begin    DIR.incomplete with an empty directory for each shard, durable
//   (each shard's owner: Shard::checkpoint into shard_path)
//   finish   GYRE, durable · rename to DIR · sync of the directory it lies in
//
// So DIR is whole if it is there, and what a crash leaves has another name and no identity: it
// opens as nothing. The copy has the identity of the original (uuid, shards, salt): it is this node
// at an earlier time, to be started in its place, not beside it in one cluster.
//
// Each shard is copied as of one moment, all these moments lie within the checkpoint. What was
// acknowledged before it began is in the copy; of writes during it each shard has a prefix, so that
// of two writes to different shards the later may be there without the earlier.
//
// Tables are hard links: they take no space until the original has removed them, and damage to
// their blocks is damage to both. A backup is a checkpoint that was copied to another disk.
#pragma once

#include <cstdint>
#include <string>

#include <gyre/result.hpp>
#include <gyre/task.hpp>

#include "store/data_directory.hpp"

namespace gyre {

class CheckpointDirectory {
 public:
  // `of` outlives the checkpoint. Errc::already_exists if `path` or what an interrupted checkpoint
  // left of it exists; Errc::invalid if it can't be a name.
  static Task<Result<CheckpointDirectory>> begin(const DataDirectory& of, std::string path);

  std::string shard_path(uint32_t shard) const {
    return DataDirectory::shard_path(incomplete_path(), shard);
  }
  const std::string& path() const { return path_; }
  std::string incomplete_path() const { return path_ + ".incomplete"; }

  // Once every shard is there.
  Task<Result<void>> finish();
  // Removes what there is of it, as far as that can be done.
  Task<void> abandon();

 private:
  CheckpointDirectory(const DataDirectory& of, std::string path)
      : of_(&of), path_(std::move(path)) {}
  Task<Result<void>> make_directories_of_shards();
  std::string parent_path() const;

  const DataDirectory* of_;
  std::string path_;
};

}  // namespace gyre
