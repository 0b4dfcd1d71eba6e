// The missed log's file: arbitrary bytes, and frames whose checksums hold, so that entries of any
// content are read.
#include <algorithm>
#include <string_view>

#include "base/coding.hpp"
#include "base/hash.hpp"
#include "cluster/handoff/missed_format.hpp"
#include "fuzz.hpp"

using namespace gyre;
using namespace gyre::cluster;

namespace {

std::string repaired(std::string file) {
  for (size_t at = 0; at + missed_frame_header_bytes <= file.size();
       at += missed_frame_alignment_bytes) {
    char* const frame = file.data() + at;
    const size_t room = file.size() - at - missed_frame_header_bytes;
    const size_t size = std::min<size_t>(get_fixed<uint32_t>(frame + 8), room);
    put_fixed(frame + 8, static_cast<uint32_t>(size));
    const uint64_t seed = hash64({frame, 32});
    put_fixed(frame + 32, hash64({frame + missed_frame_header_bytes, size}, seed));
  }
  return file;
}

void try_file(std::string_view file) {
  MissedReader reader(file);
  for (;;) {
    MissedEntry entry;
    const auto step = reader.next(entry);
    if (!step || *step != MissedReader::Step::entry) return;
    std::string entries;
    append_missed_entry(entries, entry);
    std::string frame;
    append_missed_frame(frame, reader.salt(), 0, entries);
    MissedReader again(frame);
    MissedEntry reread;
    FUZZ_CHECK(again.next(reread) == MissedReader::Step::entry);
    FUZZ_CHECK(reread == entry);
    FUZZ_CHECK(again.next(reread) == MissedReader::Step::clean_end);
  }
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
  std::string entries;
  for (uint8_t kind = 1; kind <= static_cast<uint8_t>(MissedEntryKind::complete); ++kind) {
    MissedEntry entry;
    entry.kind = static_cast<MissedEntryKind>(kind);
    entry.peer = 3;
    entry.slot = 700;
    entry.key = "some key";
    entry.version = {5, 6};
    append_missed_entry(entries, entry);
  }
  std::string file;
  append_missed_frame(file, 9, 0, entries);
  const std::string one = file.substr(0, missed_frame_header_bytes + entries.size());
  append_missed_frame(file, 9, 1, entries);
  return {'\0' + file, '\1' + file, '\1' + one};
}
