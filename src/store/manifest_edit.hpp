// The manifest: a log of edits that says which tables a shard consists of.
//
//   record    every record starts on a 4096-byte boundary and is padded with zeros to the next
//      0  magic "GyMa" · format version u16 · kind u8 (1 snapshot, 2 edit) · 0 u8
//      8  payload bytes u32 · 0 u32
//     16  manifest file number u64
//     24  edit number u64
//     32  checksum u64: XXH3-64 of the payload, seeded with XXH3-64 of bytes 0..32
//     40  payload
//   payload   shard uuid (16 bytes) · shard index varint · shard count varint     snapshots only
//             next file number varint · log number varint · log start position varint
//             flushed through seq varint · log promised position varint · hlc max u64
//             removed count varint, then each: level u8 · file number varint
//             added count varint, then each a TableRecord in the order of its members:
//               level u8, keys length-prefixed, versions as two u64, the rest varints
//
// The first record is a snapshot, edit numbers count up by one, and records are whole blocks, so
// that appending never rewrites an acknowledged one. One record is written at a time, and the
// next only when it is durable. Hence, at recovery:
//   - zeros or nothing behind the last record: a clean end
//   - a bad record with no good, later record of this file behind it: the torn tail of an edit
//     that nobody was told about; it is dropped
//   - a bad record with a good, later one behind it: acknowledged edits are damaged; refuse
// The file number in each record keeps what a reused block held before from being mistaken for
// part of this file.
#pragma once

#include <array>
#include <cstdint>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <gyre/result.hpp>
#include <gyre/version.hpp>

#include "base/hash.hpp"
#include "base/limits.hpp"

namespace gyre {

inline constexpr uint16_t manifest_format_version = 1;
inline constexpr size_t manifest_record_alignment_bytes = 4096;

// What the manifest knows of a table: enough to plan reads, merges and purges without opening it.
struct TableRecord {
  uint8_t level = 0;
  uint64_t file_number = 0;
  uint64_t size_bytes = 0;
  std::string smallest_key;
  std::string largest_key;
  Version version_min;
  Version version_max;
  uint64_t entry_count = 0;
  uint64_t tombstone_count = 0;
  uint64_t tombstone_hlc_min = ~uint64_t{0};  // all ones: no tombstone
  uint64_t expire_at_ms_min = 0;              // 0: nothing expires
  uint64_t log_sequence_max = 0;
  uint64_t created_ms = 0;

  friend bool operator==(const TableRecord&, const TableRecord&) = default;
};

struct TableProperties;

// What a finished builder says about its table.
TableRecord table_record(const TableProperties& properties, uint8_t level, uint64_t file_number,
                         uint64_t size_bytes);

struct ShardIdentity {
  std::array<uint8_t, 16> uuid{};  // of the data directory
  uint32_t index = 0;
  uint32_t count = 1;

  friend bool operator==(const ShardIdentity&, const ShardIdentity&) = default;
};

struct RemovedTable {
  uint8_t level = 0;
  uint64_t file_number = 0;

  friend bool operator==(const RemovedTable&, const RemovedTable&) = default;
};

struct VersionEdit {
  std::optional<ShardIdentity> snapshot_of;  // set: the edit is the full state
  uint64_t edit_number = 0;
  uint64_t next_file_number = 0;
  uint64_t log_number = 0;  // the first log segment that is still needed
  // For the log's reader (LogReaderOptions): the log is needed from this position on, its records
  // up to this seq are in tables, and everything before the promised position was durable.
  uint64_t log_start_position = 0;
  uint64_t flushed_through_seq = 0;
  uint64_t log_promised_position = 0;
  uint64_t hlc_max = 0;  // no stamp in any table is greater
  std::vector<RemovedTable> removed;
  std::vector<TableRecord> added;

  friend bool operator==(const VersionEdit&, const VersionEdit&) = default;
};

// Appends the record, padding included.
void append_manifest_record(std::string& out, uint64_t manifest_number, const VersionEdit& edit);

// Reads a whole manifest file.
class ManifestReader {
 public:
  enum class Step : uint8_t {
    edit,  // one was read
    clean_end,
    torn_tail,  // what starts at valid_bytes() is to be overwritten
  };

  ManifestReader(std::string_view file, uint64_t manifest_number)
      : file_(file), manifest_number_(manifest_number) {}

  // Errc::corrupt: damage to acknowledged edits. Errc::unsupported: a later format version.
  Result<Step> next(VersionEdit& out);
  // Length of the good records so far, padding included: where the next one belongs.
  size_t valid_bytes() const { return valid_bytes_; }

 private:
  struct Record;
  Result<std::optional<Record>> read_at(size_t offset) const;
  bool has_later_record_behind(size_t offset) const;

  std::string_view file_;
  uint64_t manifest_number_;
  uint64_t edit_number_ = 0;
  size_t valid_bytes_ = 0;
};

// The state that a manifest's edits add up to. A file is in one level only. Level 0 holds tables
// that may overlap, newest (greatest file number) first; the tables of every other level are
// disjoint and in key order.
class LevelState {
 public:
  struct Before {  // of one level
    bool operator()(const TableRecord* a, const TableRecord* b) const {
      return a->level == 0 ? a->file_number > b->file_number : a->smallest_key < b->smallest_key;
    }
  };
  // Where a table stands does not move when others come and go.
  class Level : private std::set<const TableRecord*, Before> {
   public:
    using set::begin;
    using set::empty;
    using set::end;
    using set::size;
    // Costs O(index).
    const TableRecord* operator[](size_t index) const {
      return *std::next(begin(), static_cast<std::ptrdiff_t>(index));
    }

   private:
    friend class LevelState;
  };

  // All or nothing; Errc::corrupt says which rule the edit breaks: numbers that don't follow,
  // removal of an unknown file, a file added twice, overlap, nonsense in a table record.
  // Costs O(size of the edit · log tables).
  Result<void> apply(const VersionEdit& edit);

  // The full state as one edit, to begin a new manifest with: its edit number is the next one.
  VersionEdit snapshot() const;
  // The same without its tables.
  VersionEdit snapshot_head() const;

  const ShardIdentity& identity() const { return identity_; }
  uint64_t edit_number() const { return edit_number_; }
  uint64_t next_file_number() const { return next_file_number_; }
  uint64_t log_number() const { return log_number_; }
  uint64_t log_start_position() const { return log_start_position_; }
  uint64_t flushed_through_seq() const { return flushed_through_seq_; }
  uint64_t log_promised_position() const { return log_promised_position_; }
  uint64_t hlc_max() const { return hlc_max_; }
  const Level& level(unsigned number) const { return levels_[number]; }
  uint64_t level_bytes(unsigned number) const;
  // nullptr if there is no such table. Records stay where they are until their table is removed.
  const TableRecord* find(uint64_t file_number) const;
  // The one with the smallest file number from `file_number` on, or nullptr.
  const TableRecord* find_from(uint64_t file_number) const;
  size_t table_count() const { return tables_.size(); }

 private:
  Result<void> check_header(const VersionEdit& edit) const;
  Result<void> check_record(const VersionEdit& edit, const TableRecord& table) const;

  struct Changes {
    std::vector<const TableRecord*> removed;
    std::vector<std::unique_ptr<const TableRecord>> added;
  };
  // Changes the levels; `done` says how far, also after an error.
  Result<void> change_levels(const VersionEdit& edit, Changes& done);
  void take_back(const Changes& done);

  bool has_snapshot_ = false;
  ShardIdentity identity_;
  uint64_t edit_number_ = 0;
  uint64_t next_file_number_ = 0;
  uint64_t log_number_ = 0;
  uint64_t log_start_position_ = 0;
  uint64_t flushed_through_seq_ = 0;
  uint64_t log_promised_position_ = 0;
  uint64_t hlc_max_ = 0;
  std::array<Level, limits::table_level_count> levels_;
  std::map<uint64_t, std::unique_ptr<const TableRecord>> tables_;
};

// The record of a snapshot in pieces, so that one of many tables neither holds the core nor is held
// in memory as a whole: measure_some() until it answers false, append_some() until it does, header()
// last. Meanwhile the state must not change.
class SnapshotRecord {
 public:
  static constexpr size_t header_bytes = 40;
  static constexpr unsigned tables_per_step_max = 64;
  static constexpr size_t step_bytes = 32u << 10;  // a step ends with the table that passes it

  // `head`: of `state`, what the record says beside its tables.
  SnapshotRecord(const LevelState& state, VersionEdit head, uint64_t manifest_number);

  // Adds up more of the payload. False: record_bytes() is known.
  bool measure_some();
  uint64_t record_bytes() const;  // padding included
  // Appends the next bytes behind the header. False: these were the last, padding included.
  bool append_some(std::string& out);
  std::string header() const;

 private:
  bool append_payload(std::string& out);

  const LevelState& state_;
  VersionEdit head_;
  uint64_t manifest_number_;
  bool began_ = false;
  uint64_t file_number_next_ = 0;
  std::string scratch_;
  uint64_t payload_bytes_ = 0;
  uint64_t appended_bytes_ = 0;
  std::optional<StreamingHash> checksum_;
};

}  // namespace gyre
