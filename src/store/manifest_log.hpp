// The manifest on the disk: which file counts (CURRENT), reading it at start, appending edits.
//
// One append at a time; others queue. An append is one aligned DSYNC write behind the last record
// (manifest_edit.hpp), into space that was allocated before. When edits outnumber the live tables
// the state is written as the first record of a new manifest:
//
//   write MANIFEST-n, sync · sync directory · write CURRENT.tmp, sync · rename to CURRENT ·
//   sync directory · remove the old manifest
//
// The snapshot is made and written in pieces of about 128 KiB, between which others have the core.
// Edits that come meanwhile wait, and follow it in the new manifest.
//
// A crash leaves the old or the new CURRENT, each of which names a whole manifest of the same
// state; what is left over is removed by the next open. A torn record at the end of a manifest is
// never written over: open() then begins a new manifest too, or the next edit if there was no room.
//
// When a write or sync that may have reached the disk failed, nobody knows what a crash would
// leave: the manifest is poisoned, and every further append answers Errc::read_only. What failed
// before (no space for the next record or for the new manifest) can be tried again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <gyre/file.hpp>
#include <gyre/result.hpp>
#include <gyre/sync.hpp>
#include <gyre/task.hpp>

#include "store/manifest_edit.hpp"

namespace gyre {

class ManifestLog {
 public:
  // For a new shard. Errc::already_exists if there is a CURRENT; Errc::corrupt if there are tables
  // or logs without one. What an unfinished create() left over is removed.
  static Task<Result<std::unique_ptr<ManifestLog>>> create(std::string directory,
                                                           ShardIdentity identity);
  // The manifest of a copy: `state`, a snapshot, becomes the first record of the first manifest of
  // `directory`, which has none yet. Durable with its name and everything else named there.
  static Task<Result<void>> write_copy(std::string directory, VersionEdit state);
  // Errc::not_found if there is no CURRENT; Errc::corrupt and Errc::unsupported name file, offset
  // and what to do.
  static Task<Result<std::unique_ptr<ManifestLog>>> open(std::string directory);
  ManifestLog(const ManifestLog&) = delete;
  ManifestLog& operator=(const ManifestLog&) = delete;

  // What all edits add up to, that of an append under way included.
  const LevelState& state() const { return state_; }

  // A number for a new table, durable with the next edit. The tables it is used for that no edit
  // adds must be removed before the next start, or are then.
  uint64_t take_file_number() { return next_file_number_++; }

  // Makes the edit durable. Its edit number and snapshot are set here; of its counters (next file
  // number, log fields, hlc_max) the greater of the edit's and the present one counts, so that a
  // caller sets only what it moves. An edit that breaks a rule (LevelState::apply) is refused with
  // Errc::corrupt and leaves no mark. Stopped before its turn: Errc::cancelled, no mark either.
  Task<Result<void>> append(VersionEdit edit);

  // Reads the file again, between two appends: Errc::corrupt if it does not add up to state().
  Task<Result<void>> verify();

  bool poisoned() const { return poisoned_.has_value(); }
  uint64_t manifest_number() const { return number_; }
  uint64_t size_bytes() const { return offset_; }
  uint64_t edits_since_snapshot() const { return edits_since_snapshot_; }
  bool found_torn_tail() const { return found_torn_tail_; }

  // After the last append.
  Task<Result<void>> close();

 private:
  explicit ManifestLog(std::string directory) : directory_(std::move(directory)) {}

  struct NewManifest {
    File file;
    uint64_t record_bytes = 0;
    uint64_t allocated_bytes = 0;
  };

  Task<Result<void>> read_current();
  Task<Result<void>> read_edits();
  Result<void> replay(std::string_view content);
  Task<Result<void>> count_manifests();
  Task<void> remove_leftovers();

  Task<Result<void>> append_alone(VersionEdit edit);
  Task<Result<void>> reserve(uint64_t end);
  Error poison(const Error& error);

  bool wants_roll() const;
  // Begins a new manifest with the present state, which stays: edits wait for their turn. A failure
  // that matters poisons.
  Task<Result<void>> roll();
  Task<Result<NewManifest>> write_new(uint64_t number);
  Task<Result<void>> write_snapshot(File& file, SnapshotRecord& record);
  Task<Result<void>> write_current_temporary(uint64_t number);
  std::string path_of(uint64_t number) const;

  std::string directory_;
  LevelState state_;
  File file_;
  uint64_t number_ = 0;
  uint64_t number_next_ = 1;  // above every manifest of the directory
  uint64_t next_file_number_ = 1;
  uint64_t offset_ = 0;  // where the next record goes
  uint64_t allocated_bytes_ = 0;
  uint64_t snapshot_bytes_ = 0;
  uint64_t edits_since_snapshot_ = 0;
  uint64_t roll_not_before_ = 0;  // edits, after a failed attempt
  bool found_torn_tail_ = false;
  bool roll_owed_ = false;  // before the next edit: it must not go behind a torn record
  std::optional<Error> poisoned_;
  Semaphore turn_{1};
};

}  // namespace gyre
