// The data directory of a node:
//
//   LOCK          held by the process that uses the directory
//   GYRE          what it is: format version, uuid, number of shards, log salt; a text file whose
//                 last line is its checksum
//   shard-000/    one directory per storage shard
//
// Anything else in it is somebody else's and is left alone.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include <gyre/file.hpp>
#include <gyre/result.hpp>
#include <gyre/task.hpp>

#include "store/manifest_edit.hpp"

namespace gyre {

class DataDirectory {
 public:
  static constexpr std::string_view identity_name = "GYRE";
  static constexpr std::string_view lock_name = "LOCK";
  static constexpr uint32_t format_version = 1;
  static constexpr uint32_t shards_max = 256;

  // Creates the directory if it is missing. `shards`: how many a new directory gets; an existing
  // one keeps its number. Errc::busy if another process uses it.
  static Task<Result<DataDirectory>> open(std::string path, uint32_t shards);
  // What an existing directory is, without its lock: for tools that only look. Errc::not_found if
  // it has no identity.
  static Task<Result<DataDirectory>> read(std::string path,
                                          std::string name = std::string(identity_name));
  Task<void> close();
  // Makes the directory `path`, which holds everything else already, a copy of this one: with the
  // same identity. Durable. Under another name it makes it nothing yet, but tells whose it is.
  Task<Result<void>> write_identity_to(std::string path,
                                       std::string name = std::string(identity_name)) const;

  const std::string& path() const { return path_; }
  uint32_t shard_count() const { return shard_count_; }
  const std::array<uint8_t, 16>& uuid() const { return uuid_; }
  std::string uuid_text() const;
  bool created() const { return created_; }

  std::string shard_path(uint32_t shard) const { return shard_path(path_, shard); }
  static std::string shard_path(std::string_view directory, uint32_t shard);
  ShardIdentity shard_identity(uint32_t shard) const {
    return {.uuid = uuid_, .index = shard, .count = shard_count_};
  }
  uint64_t log_salt(uint32_t shard) const;
  // For version stamps.
  uint32_t node_number() const;

 private:
  std::string describe() const;
  Result<void> parse(std::string_view text);

  std::string path_;
  File lock_;
  std::array<uint8_t, 16> uuid_{};
  uint32_t shard_count_ = 0;
  uint64_t salt_ = 0;
  bool created_ = false;
};

}  // namespace gyre
