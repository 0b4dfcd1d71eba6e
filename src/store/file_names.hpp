// The names of a shard's files, all in one directory:
//
//   000012.table       a table; its number is never used twice in a shard
//   000013.values      a value file; numbered with the tables
//   000001.log         a log segment
//   MANIFEST-000003    a manifest
//   CURRENT            names the manifest that counts, as "MANIFEST-000003\n"
//   CURRENT.tmp        the next CURRENT before its rename
//
// Numbers start at 1 and have at least six digits, longer ones no leading zero, so that every
// number has one name. Any other name is foreign: nothing here may open, change or remove it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace gyre {

enum class FileKind : uint8_t {
  foreign,
  table,
  values,
  log,
  manifest,
  current,
  current_temporary,
};

struct FileName {
  FileKind kind = FileKind::foreign;
  uint64_t number = 0;  // of tables, value files, logs and manifests

  friend bool operator==(const FileName&, const FileName&) = default;
};

FileName parse_file_name(std::string_view name);

std::string table_file_name(uint64_t number);
std::string value_file_name(uint64_t number);
std::string log_file_name(uint64_t number);
std::string manifest_file_name(uint64_t number);
inline constexpr std::string_view current_file_name = "CURRENT";
inline constexpr std::string_view current_temporary_file_name = "CURRENT.tmp";

std::string join_path(std::string_view directory, std::string_view name);

}  // namespace gyre
