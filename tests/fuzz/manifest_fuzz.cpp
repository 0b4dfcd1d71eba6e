// The manifest: as a file of arbitrary bytes, and as payloads whose checksums hold, so that edits
// of any content reach the state they are applied to.
#include <algorithm>
#include <string_view>

#include "base/coding.hpp"
#include "base/hash.hpp"
#include "fuzz.hpp"
#include "store/manifest_edit.hpp"

using namespace gyre;

namespace {

constexpr uint64_t manifest_number = 5;
constexpr size_t header_bytes = 40;

// Makes the checksums of whatever looks like a record hold.
std::string repaired(std::string file) {
  for (size_t at = 0; at + header_bytes <= file.size(); at += manifest_record_alignment_bytes) {
    char* const record = file.data() + at;
    const size_t room = file.size() - at - header_bytes;
    const size_t payload_bytes = std::min<size_t>(get_fixed<uint32_t>(record + 8), room);
    put_fixed(record + 8, static_cast<uint32_t>(payload_bytes));
    const uint64_t seed = hash64({record, 32});
    put_fixed(record + 32, hash64({record + header_bytes, payload_bytes}, seed));
  }
  return file;
}

void check_state(const LevelState& state) {
  size_t count = 0;
  for (unsigned level = 0; level < limits::table_level_count; ++level) {
    const auto& tables = state.level(level);
    count += tables.size();
    for (size_t i = 0; i < tables.size(); ++i) {
      FUZZ_CHECK(tables[i]->level == level);
      FUZZ_CHECK(state.find(tables[i]->file_number) == tables[i]);
      if (level == 0 || i == 0) continue;
      FUZZ_CHECK(tables[i - 1]->largest_key < tables[i]->smallest_key);
    }
  }
  FUZZ_CHECK(count == state.table_count());
}

void try_file(std::string_view file) {
  ManifestReader reader(file, manifest_number);
  LevelState state;
  for (;;) {
    VersionEdit edit;
    const size_t before = reader.valid_bytes();
    const auto step = reader.next(edit);
    if (!step || *step != ManifestReader::Step::edit) break;
    FUZZ_CHECK(reader.valid_bytes() > before);
    std::string again;
    append_manifest_record(again, manifest_number, edit);
    ManifestReader rereader(again, manifest_number);
    VersionEdit reread;
    if (edit.snapshot_of) FUZZ_CHECK(rereader.next(reread).has_value() && reread == edit);
    if (!state.apply(edit)) break;
    check_state(state);
  }
  if (state.edit_number() == 0) return;
  LevelState copy;
  const auto applied = copy.apply(state.snapshot());
  // One edit short of the end of numbers there is no next one.
  FUZZ_CHECK(applied || state.edit_number() == ~uint64_t{0});
  if (applied) check_state(copy);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] % 2 == 0) {
    try_file(bytes);
  } else {
    const std::string file = repaired(std::string(bytes));
    try_file(file);
  }
  return 0;
}

std::vector<std::string> fuzz_seeds() {
  const auto table = [](uint8_t level, uint64_t number, std::string smallest, std::string largest) {
    TableRecord record;
    record.level = level;
    record.file_number = number;
    record.size_bytes = 5000;
    record.smallest_key = std::move(smallest);
    record.largest_key = std::move(largest);
    record.version_min = {1, 1};
    record.version_max = {2, 2};
    record.entry_count = 3;
    return record;
  };
  VersionEdit first;
  first.snapshot_of.emplace();
  first.edit_number = 1;
  first.next_file_number = 50;
  first.hlc_max = 9;
  first.added = {table(0, 1, "a", "z"), table(1, 2, "a", "c"), table(1, 3, "d", "f")};
  VersionEdit second;
  second.edit_number = 2;
  second.next_file_number = 50;
  second.hlc_max = 9;
  second.removed = {{0, 1}};
  second.added = {table(2, 4, "", "q"), table(0, 5, "a", "b")};
  VersionEdit third = second;
  third.edit_number = 3;
  third.removed = {{0, 5}, {1, 2}};
  third.added = {table(1, 6, "a", "b")};
  std::string file;
  for (const VersionEdit* edit : {&first, &second, &third}) {
    append_manifest_record(file, manifest_number, *edit);
  }
  std::string short_file;
  append_manifest_record(short_file, manifest_number, first);
  return {'\0' + file, '\1' + file, '\1' + short_file.substr(0, 400)};
}
