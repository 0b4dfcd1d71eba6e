// A checkpoint: a copy of a whole data directory, made while it is used.
//
//   begin    DIR.incomplete with LOCK, CHECKPOINT, which says whose it is, and an empty directory
//            for each shard, durable
//   (each shard's owner: Shard::checkpoint into shard_path)
//   finish   GYRE, durable · CHECKPOINT goes, durable · rename to DIR · sync of the directory it
//            lies in
//
// So DIR is whole if it is there, and what a crash leaves has another name and no identity: it
// opens as nothing. The next checkpoint to the same DIR removes it, if it is one of this data
// directory, nobody holds its LOCK, and nothing but a checkpoint's files is in it. The copy has the identity of the original (uuid, shards, salt): it is this node
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

#include <gyre/file.hpp>
#include <gyre/result.hpp>
#include <gyre/task.hpp>

#include "store/data_directory.hpp"

namespace gyre {

class CheckpointDirectory {
 public:
  // `of` outlives the checkpoint. Errc::already_exists if `path` exists, or incomplete_path() and
  // is not what an interrupted checkpoint of `of` left; Errc::busy if one is under way there;
  // Errc::invalid if it can't be a name.
  static Task<Result<CheckpointDirectory>> begin(const DataDirectory& of, std::string path);

  std::string shard_path(uint32_t shard) const {
    return DataDirectory::shard_path(incomplete_path(), shard);
  }
  const std::string& path() const { return path_; }
  std::string incomplete_path() const { return path_ + ".incomplete"; }

  // What an interrupted one had left was removed.
  bool removed_leftover() const { return removed_leftover_; }

  // Once every shard is there.
  Task<Result<void>> finish();
  // Removes what there is of it, as far as that can be done.
  Task<void> abandon();

 private:
  CheckpointDirectory(const DataDirectory& of, std::string path)
      : of_(&of), path_(std::move(path)) {}
  Task<Result<bool>> is_own_leftover() const;
  Task<Result<void>> remove_leftover();
  Task<Result<void>> fill_beginning();
  Task<void> unlock();
  std::string parent_path() const;

  const DataDirectory* of_;
  std::string path_;
  File lock_;
  bool removed_leftover_ = false;
};

}  // namespace gyre
