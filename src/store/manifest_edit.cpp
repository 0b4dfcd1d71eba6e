#include "store/manifest_edit.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "base/assert.hpp"
#include "base/coding.hpp"
#include "base/hash.hpp"
#include "store/table_format.hpp"

namespace gyre {

namespace {

constexpr std::string_view record_magic = "GyMa";
constexpr size_t record_header_bytes = SnapshotRecord::header_bytes;
constexpr size_t checked_header_bytes = 32;
constexpr uint8_t kind_snapshot = 1;
constexpr uint8_t kind_edit = 2;

size_t round_up(size_t bytes) {
  constexpr size_t mask = manifest_record_alignment_bytes - 1;
  return (bytes + mask) & ~mask;
}

// --- payload -------------------------------------------------------------------------------------

void append_key(std::string& out, std::string_view key) {
  append_varint(out, key.size());
  out.append(key);
}
void append_version(std::string& out, const Version& version) {
  append_fixed(out, version.hlc);
  append_fixed(out, version.origin);
}
Version take_version(Decoder& in) {
  const auto hlc = in.fixed<uint64_t>();
  return {hlc, in.fixed<uint64_t>()};
}

void append_table(std::string& out, const TableRecord& table) {
  append_fixed(out, table.level);
  append_varint(out, table.file_number);
  append_varint(out, table.size_bytes);
  append_key(out, table.smallest_key);
  append_key(out, table.largest_key);
  append_version(out, table.version_min);
  append_version(out, table.version_max);
  for (const uint64_t number : {table.entry_count, table.tombstone_count, table.tombstone_hlc_min,
                                table.expire_at_ms_min, table.log_sequence_max, table.created_ms}) {
    append_varint(out, number);
  }
}

TableRecord take_table(Decoder& in) {
  TableRecord table;
  table.level = in.fixed<uint8_t>();
  table.file_number = in.varint();
  table.size_bytes = in.varint();
  table.smallest_key = in.prefixed();
  table.largest_key = in.prefixed();
  table.version_min = take_version(in);
  table.version_max = take_version(in);
  for (uint64_t* field : {&table.entry_count, &table.tombstone_count, &table.tombstone_hlc_min,
                          &table.expire_at_ms_min, &table.log_sequence_max, &table.created_ms}) {
    *field = in.varint();
  }
  return table;
}

// All of the payload before the records of `added_count` tables.
void append_payload_head(std::string& out, const VersionEdit& edit, uint64_t added_count) {
  if (edit.snapshot_of) {
    out.append(reinterpret_cast<const char*>(edit.snapshot_of->uuid.data()), 16);
    append_varint(out, edit.snapshot_of->index);
    append_varint(out, edit.snapshot_of->count);
  }
  append_varint(out, edit.next_file_number);
  append_varint(out, edit.log_number);
  append_varint(out, edit.log_start_position);
  append_varint(out, edit.flushed_through_seq);
  append_varint(out, edit.log_promised_position);
  append_fixed(out, edit.hlc_max);
  append_varint(out, edit.removed.size());
  for (const RemovedTable& table : edit.removed) {
    append_fixed(out, table.level);
    append_varint(out, table.file_number);
  }
  append_varint(out, added_count);
}

std::string encode_payload(const VersionEdit& edit) {
  std::string out;
  append_payload_head(out, edit, edit.added.size());
  for (const TableRecord& table : edit.added) append_table(out, table);
  return out;
}

// What the checksum covers of a record's header, and is seeded with.
std::string checked_header(const VersionEdit& edit, uint64_t manifest_number,
                           uint64_t payload_bytes) {
  GYRE_ASSERT(payload_bytes <= std::numeric_limits<uint32_t>::max());
  std::string header(record_magic);
  append_fixed(header, manifest_format_version);
  append_fixed(header, edit.snapshot_of ? kind_snapshot : kind_edit);
  append_fixed(header, uint8_t{0});
  append_fixed(header, static_cast<uint32_t>(payload_bytes));
  append_fixed(header, uint32_t{0});
  append_fixed(header, manifest_number);
  append_fixed(header, edit.edit_number);
  GYRE_ASSERT(header.size() == checked_header_bytes);
  return header;
}

bool decode_payload(std::string_view payload, bool is_snapshot, VersionEdit& out) {
  Decoder in(payload);
  if (is_snapshot) {
    ShardIdentity identity;
    const std::string_view uuid = in.bytes(16);
    const uint64_t index = in.varint();
    const uint64_t count = in.varint();
    if (!in.ok() || count > std::numeric_limits<uint32_t>::max() || index >= count) return false;
    std::memcpy(identity.uuid.data(), uuid.data(), 16);
    identity.index = static_cast<uint32_t>(index);
    identity.count = static_cast<uint32_t>(count);
    out.snapshot_of = identity;
  }
  out.next_file_number = in.varint();
  out.log_number = in.varint();
  out.log_start_position = in.varint();
  out.flushed_through_seq = in.varint();
  out.log_promised_position = in.varint();
  out.hlc_max = in.fixed<uint64_t>();
  // Counts are not trusted with memory: every element has to be there before the next is made.
  const uint64_t removed_count = in.varint();
  for (uint64_t i = 0; i < removed_count && in.ok(); ++i) {
    const auto level = in.fixed<uint8_t>();
    out.removed.push_back({level, in.varint()});
  }
  const uint64_t added_count = in.varint();
  for (uint64_t i = 0; i < added_count && in.ok(); ++i) out.added.push_back(take_table(in));
  return in.ok() && in.remaining() == 0;
}

}  // namespace

TableRecord table_record(const TableProperties& properties, uint8_t level, uint64_t file_number,
                         uint64_t size_bytes) {
  TableRecord table;
  table.level = level;
  table.file_number = file_number;
  table.size_bytes = size_bytes;
  table.smallest_key = properties.smallest_key;
  table.largest_key = properties.largest_key;
  table.version_min = properties.version_min;
  table.version_max = properties.version_max;
  table.entry_count = properties.entry_count;
  table.tombstone_count = properties.tombstone_count;
  table.tombstone_hlc_min = properties.tombstone_hlc_min;
  table.expire_at_ms_min = properties.expire_at_ms_min;
  table.log_sequence_max = properties.log_sequence_max;
  table.created_ms = properties.created_ms;
  return table;
}

// --- records -------------------------------------------------------------------------------------

void append_manifest_record(std::string& out, uint64_t manifest_number, const VersionEdit& edit) {
  const std::string payload = encode_payload(edit);
  std::string header = checked_header(edit, manifest_number, payload.size());
  append_fixed(header, hash64(payload, hash64(header)));
  GYRE_ASSERT(header.size() == record_header_bytes);
  out.append(header).append(payload);
  out.append(round_up(header.size() + payload.size()) - header.size() - payload.size(), '\0');
}

struct ManifestReader::Record {
  uint8_t kind = 0;
  uint64_t edit_number = 0;
  std::string_view payload;
};

// Nothing if there is no good record of this file at `offset`.
Result<std::optional<ManifestReader::Record>> ManifestReader::read_at(size_t offset) const {
  const std::string_view rest = file_.substr(std::min(offset, file_.size()));
  if (rest.size() < record_header_bytes || !rest.starts_with(record_magic)) return std::nullopt;
  const auto payload_bytes = get_fixed<uint32_t>(rest.data() + 8);
  if (payload_bytes > rest.size() - record_header_bytes) return std::nullopt;
  if (get_fixed<uint64_t>(rest.data() + 16) != manifest_number_) return std::nullopt;
  Record record;
  record.kind = static_cast<uint8_t>(rest[6]);
  record.edit_number = get_fixed<uint64_t>(rest.data() + 24);
  record.payload = rest.substr(record_header_bytes, payload_bytes);
  const uint64_t seed = hash64(rest.substr(0, checked_header_bytes));
  if (get_fixed<uint64_t>(rest.data() + 32) != hash64(record.payload, seed)) return std::nullopt;
  const auto version = get_fixed<uint16_t>(rest.data() + 4);
  if (version != manifest_format_version) {
    return fail(Errc::unsupported, fmt::format("manifest format version {}, this program knows {}",
                                               version, manifest_format_version));
  }
  return record;
}

bool ManifestReader::has_later_record_behind(size_t offset) const {
  for (offset += manifest_record_alignment_bytes; offset < file_.size();
       offset += manifest_record_alignment_bytes) {
    const Result<std::optional<Record>> record = read_at(offset);
    if (!record || (*record && (*record)->edit_number > edit_number_)) return true;
  }
  return false;
}

Result<ManifestReader::Step> ManifestReader::next(VersionEdit& out) {
  const bool is_first = valid_bytes_ == 0;
  const auto bad = [&](std::string_view what) {
    return fail(Errc::corrupt, fmt::format("manifest record at offset {} (behind edit {}): {}",
                                           valid_bytes_, edit_number_, what));
  };
  const Result<std::optional<Record>> found = read_at(valid_bytes_);
  if (!found) return fail(found.error());
  if (!*found) {
    if (is_first) return bad("the snapshot that every manifest begins with is missing or damaged");
    if (has_later_record_behind(valid_bytes_)) {
      return bad("damaged, but acknowledged: later edits follow it");
    }
    const std::string_view rest = file_.substr(std::min(valid_bytes_, file_.size()));
    return rest.find_first_not_of('\0') == std::string_view::npos ? Step::clean_end
                                                                  : Step::torn_tail;
  }
  const Record& record = **found;
  if (record.kind != (is_first ? kind_snapshot : kind_edit)) return bad("unexpected kind");
  if (record.edit_number == 0 || (!is_first && record.edit_number != edit_number_ + 1)) {
    return bad(fmt::format("has edit number {}", record.edit_number));
  }
  out = VersionEdit();
  out.edit_number = record.edit_number;
  if (!decode_payload(record.payload, is_first, out)) return bad("malformed");
  edit_number_ = record.edit_number;
  valid_bytes_ += round_up(record_header_bytes + record.payload.size());
  return Step::edit;
}

// --- state ---------------------------------------------------------------------------------------

namespace {

auto broken(uint64_t edit_number, std::string_view what) {
  return fail(Errc::corrupt, fmt::format("manifest edit {}: {}", edit_number, what));
}

// Sorts them.
bool has_repeats(std::vector<uint64_t>& numbers) {
  std::sort(numbers.begin(), numbers.end());
  return std::adjacent_find(numbers.begin(), numbers.end()) != numbers.end();
}

}  // namespace

Result<void> LevelState::check_header(const VersionEdit& edit) const {
  if (edit.snapshot_of.has_value() == has_snapshot_) {
    return broken(edit.edit_number, has_snapshot_ ? "a second snapshot" : "no snapshot before it");
  }
  if (has_snapshot_ ? edit.edit_number != edit_number_ + 1 : edit.edit_number == 0) {
    return broken(edit.edit_number, fmt::format("follows edit {}", edit_number_));
  }
  if (edit.snapshot_of && edit.snapshot_of->index >= edit.snapshot_of->count) {
    return broken(edit.edit_number, "shard index past the shard count");
  }
  if (edit.next_file_number < next_file_number_ || edit.log_number < log_number_ ||
      edit.log_start_position < log_start_position_ ||
      edit.flushed_through_seq < flushed_through_seq_ ||
      edit.log_promised_position < log_promised_position_ || edit.hlc_max < hlc_max_) {
    return broken(edit.edit_number, "a counter goes back");
  }
  return {};
}

Result<void> LevelState::check_record(const VersionEdit& edit, const TableRecord& table) const {
  const bool tombstones_agree = table.tombstone_count == 0
                                    ? table.tombstone_hlc_min == no_tombstone_hlc
                                    : table.tombstone_hlc_min >= table.version_min.hlc &&
                                          table.tombstone_hlc_min <= table.version_max.hlc;
  if (table.level >= levels_.size() || table.size_bytes < table_footer_bytes ||
      table.smallest_key > table.largest_key || table.version_min > table.version_max ||
      table.entry_count == 0 || table.tombstone_count > table.entry_count || !tombstones_agree) {
    return broken(edit.edit_number, fmt::format("nonsense about table {}", table.file_number));
  }
  if (table.file_number >= edit.next_file_number || table.version_max.hlc > edit.hlc_max) {
    return broken(edit.edit_number,
                  fmt::format("table {} is past the counters", table.file_number));
  }
  return {};
}

Result<void> LevelState::change_levels(const VersionEdit& edit, Changes& done) {
  std::vector<uint64_t> removed_numbers;
  std::vector<uint64_t> added_numbers;
  for (const RemovedTable& removed : edit.removed) {
    const TableRecord* const table = find(removed.file_number);
    if (table == nullptr || table->level != removed.level) {
      return broken(edit.edit_number, fmt::format("removes table {}, which is not in level {}",
                                                  removed.file_number, removed.level));
    }
    removed_numbers.push_back(removed.file_number);
  }
  if (has_repeats(removed_numbers)) return broken(edit.edit_number, "removes a table twice");
  for (const uint64_t number : removed_numbers) {
    const TableRecord* const table = find(number);
    const size_t erased = levels_[table->level].erase(table);
    GYRE_ASSERT(erased == 1);
    done.removed.push_back(table);
  }

  for (const TableRecord& record : edit.added) {
    if (Result<void> checked = check_record(edit, record); !checked) return checked;
    added_numbers.push_back(record.file_number);
    const bool moves =
        std::binary_search(removed_numbers.begin(), removed_numbers.end(), record.file_number);
    if (!moves && find(record.file_number) != nullptr) {
      return broken(edit.edit_number, fmt::format("adds table {} again", record.file_number));
    }
    auto table = std::make_unique<const TableRecord>(record);
    Level& level = levels_[table->level];
    const auto place = level.lower_bound(table.get());
    const bool overlaps =
        table->level != 0 &&
        ((place != level.end() && (*place)->smallest_key <= table->largest_key) ||
         (place != level.begin() && (*std::prev(place))->largest_key >= table->smallest_key));
    if (overlaps) {
      return broken(edit.edit_number, fmt::format("table {} overlaps another in level {}",
                                                  table->file_number, table->level));
    }
    // What level 0 has already is added twice, which is said below.
    if (level.insert(table.get()).second) done.added.push_back(std::move(table));
  }
  if (has_repeats(added_numbers)) return broken(edit.edit_number, "adds a table twice");
  return {};
}

void LevelState::take_back(const Changes& done) {
  for (const auto& table : done.added) levels_[table->level].erase(table.get());
  for (const TableRecord* table : done.removed) levels_[table->level].insert(table);
}

Result<void> LevelState::apply(const VersionEdit& edit) {
  if (Result<void> checked = check_header(edit); !checked) return checked;
  Changes changes;
  if (Result<void> changed = change_levels(edit, changes); !changed) {
    take_back(changes);
    return changed;
  }
  // Nothing fails from here on.
  for (const RemovedTable& removed : edit.removed) tables_.erase(removed.file_number);
  for (auto& table : changes.added) {
    const uint64_t number = table->file_number;
    tables_.emplace(number, std::move(table));
  }
  if (edit.snapshot_of) identity_ = *edit.snapshot_of;
  has_snapshot_ = true;
  edit_number_ = edit.edit_number;
  next_file_number_ = edit.next_file_number;
  log_number_ = edit.log_number;
  log_start_position_ = edit.log_start_position;
  flushed_through_seq_ = edit.flushed_through_seq;
  log_promised_position_ = edit.log_promised_position;
  hlc_max_ = edit.hlc_max;
  return {};
}

VersionEdit LevelState::snapshot_head() const {
  VersionEdit edit;
  edit.snapshot_of = identity_;
  edit.edit_number = edit_number_ + 1;
  edit.next_file_number = next_file_number_;
  edit.log_number = log_number_;
  edit.log_start_position = log_start_position_;
  edit.flushed_through_seq = flushed_through_seq_;
  edit.log_promised_position = log_promised_position_;
  edit.hlc_max = hlc_max_;
  return edit;
}

VersionEdit LevelState::snapshot() const {
  VersionEdit edit = snapshot_head();
  for (const auto& [number, table] : tables_) edit.added.push_back(*table);
  return edit;
}

uint64_t LevelState::level_bytes(unsigned number) const {
  uint64_t bytes = 0;
  for (const TableRecord* table : levels_[number]) bytes += table->size_bytes;
  return bytes;
}

const TableRecord* LevelState::find(uint64_t file_number) const {
  const auto found = tables_.find(file_number);
  return found == tables_.end() ? nullptr : found->second.get();
}

const TableRecord* LevelState::find_from(uint64_t file_number) const {
  const auto found = tables_.lower_bound(file_number);
  return found == tables_.end() ? nullptr : found->second.get();
}

// --- a snapshot in pieces ------------------------------------------------------------------------

SnapshotRecord::SnapshotRecord(const LevelState& state, VersionEdit head, uint64_t manifest_number)
    : state_(state), head_(std::move(head)), manifest_number_(manifest_number) {
  GYRE_ASSERT(head_.snapshot_of && head_.removed.empty() && head_.added.empty());
}

// Appends the next step of the payload. False: it was the last.
bool SnapshotRecord::append_payload(std::string& out) {
  if (!std::exchange(began_, true)) append_payload_head(out, head_, state_.table_count());
  const size_t before = out.size();
  for (unsigned i = 0; i < tables_per_step_max && out.size() - before < step_bytes; ++i) {
    const TableRecord* const table = state_.find_from(file_number_next_);
    if (table == nullptr) return false;
    append_table(out, *table);
    file_number_next_ = table->file_number + 1;
  }
  return true;
}

bool SnapshotRecord::measure_some() {
  GYRE_ASSERT(!checksum_);
  scratch_.clear();
  const bool more = append_payload(scratch_);
  payload_bytes_ += scratch_.size();
  if (more) return true;
  began_ = false;
  file_number_next_ = 0;
  checksum_.emplace(hash64(checked_header(head_, manifest_number_, payload_bytes_)));
  return false;
}

uint64_t SnapshotRecord::record_bytes() const {
  return round_up(header_bytes + payload_bytes_);
}

bool SnapshotRecord::append_some(std::string& out) {
  const size_t before = out.size();
  const bool more = append_payload(out);
  checksum_->update(std::string_view(out).substr(before));
  appended_bytes_ += out.size() - before;
  if (more) return true;
  GYRE_ASSERT(appended_bytes_ == payload_bytes_);
  out.append(record_bytes() - header_bytes - payload_bytes_, '\0');
  return false;
}

std::string SnapshotRecord::header() const {
  GYRE_ASSERT(appended_bytes_ == payload_bytes_);
  std::string header = checked_header(head_, manifest_number_, payload_bytes_);
  append_fixed(header, checksum_->digest());
  return header;
}

}  // namespace gyre
