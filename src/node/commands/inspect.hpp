// `gyre inspect`: what a file of a data directory holds, and whether every checksum in it holds.
// Reads only, also from a directory in use.
//
// Which kind a file is follows from its content; its name and its directory are used to check it
// further: a table, value file, log segment or manifest carries its number inside, and a log's checksums are
// salted with the identity of the data directory.
//
// Damage does not end an inspection where the rest can still be read: everything found is listed.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <gyre/file.hpp>
#include <gyre/result.hpp>
#include <gyre/task.hpp>
#include <gyre/version.hpp>

#include "store/file_names.hpp"

namespace gyre {

// What an inspection has found. Text is handed on in pieces if there is somebody to take it.
class InspectReport {
 public:
  static constexpr size_t text_bytes_before_flush = 256u << 10;

  virtual ~InspectReport() = default;

  std::string text;
  std::vector<std::string> damage;  // "PATH: offset N: what", one for each place
  std::set<uint64_t> value_files;   // that the tables inspected name, by number
  uint64_t files = 0;               // inspected, whole or damaged
  uint64_t bytes = 0;               // of these

  // Gives the text to whoever reads it; here it is kept.
  virtual Task<Result<void>> flush();
  Task<Result<void>> flush_if_long();
};

struct TableRecord;

// Inspects one file; a directory as inspect_directory. `record`: what a manifest says of a table. An error means that it could not be inspected: not there, not readable, not a
// file of Gyre, of a later format version. Damage is no error but listed in the report.
Task<Result<void>> inspect_file(std::string path, bool records, InspectReport& report,
                                const TableRecord* record = nullptr);
// All files of a data directory that no node uses, or of one shard's directory, and whether those
// that count belong together: what does not count is named, with the reason. Their sum is printed.
Task<Result<void>> inspect_directory(std::string path, bool records, InspectReport& report);

// --- for the kinds -------------------------------------------------------------------------------

struct InspectedFile {
  std::string path;
  std::string directory;  // where it lies, "." for a bare name
  FileName name;          // what its name says; foreign if nothing
  File file;
  uint64_t size_bytes = 0;
  bool records = false;
  InspectReport* report = nullptr;
  const TableRecord* record = nullptr;  // of a table, if a manifest is known

  void print(std::string_view name, std::string_view value) const;
  void damaged(uint64_t offset, std::string_view what) const;
  // Exactly that many bytes, else damage is noted and nothing is answered.
  Task<Result<std::string>> read(uint64_t offset, uint64_t size) const;
};

inline constexpr uint32_t inspect_tail_bytes = 8192;  // where a table's footer is looked for

// The footer's offset in the last bytes of a file that are a table's; npos if they are not.
size_t find_table_footer(std::string_view tail);

Task<Result<void>> inspect_table(InspectedFile& in, std::string tail);
// Whether a file that ends so is a value file.
bool has_value_footer(std::string_view tail);
Task<Result<void>> inspect_values(InspectedFile& in, std::string tail);
Task<Result<void>> inspect_log(InspectedFile& in);
Task<Result<void>> inspect_manifest(InspectedFile& in);
Task<Result<void>> inspect_missed(InspectedFile& in);
Task<Result<void>> inspect_peers(InspectedFile& in);
Task<Result<void>> inspect_topology(InspectedFile& in);

// "2026-11-20 13:02:11.123 UTC"
std::string format_time_ms(uint64_t wall_ms);
// "2026-11-20 13:02:11.123 UTC +4 by 1a2b3c4d/0/17": time, logical counter, node, core, counter
std::string format_version(Version version);

}  // namespace gyre
