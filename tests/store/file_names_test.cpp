#include "store/file_names.hpp"

#include <doctest/doctest.h>

namespace gyre {

TEST_CASE("file names are parsed back to what made them") {
  for (const uint64_t number : {1ull, 12ull, 999'999ull, 1'000'000ull, ~0ull}) {
    CHECK(parse_file_name(table_file_name(number)) == FileName{FileKind::table, number});
    CHECK(parse_file_name(log_file_name(number)) == FileName{FileKind::log, number});
    CHECK(parse_file_name(manifest_file_name(number)) == FileName{FileKind::manifest, number});
  }
  CHECK(table_file_name(12) == "000012.table");
  CHECK(log_file_name(1) == "000001.log");
  CHECK(manifest_file_name(3) == "MANIFEST-000003");
  CHECK(parse_file_name("CURRENT").kind == FileKind::current);
  CHECK(parse_file_name("CURRENT.tmp").kind == FileKind::current_temporary);
}

TEST_CASE("names that no function here makes are foreign") {
  for (const char* name : {"",
                           ".",
                           "..",
                           "12.table",
                           "000000.table",
                           "000012.table~",
                           "000012.Table",
                           "x000012.table",
                           "0000012.table",
                           "00001a.table",
                           "-00012.table",
                           "+00012.table",
                           " 00012.table",
                           ".table",
                           "000012table",
                           "18446744073709551616.log",
                           "MANIFEST-",
                           "MANIFEST-3",
                           "manifest-000003",
                           "MANIFEST-000000",
                           "MANIFEST-0000003",
                           "MANIFEST-000003.tmp",
                           "CURRENT2",
                           "CURRENT.tmp2",
                           "current",
                           "LOCK",
                           "000012.log.bak"}) {
    CAPTURE(name);
    CHECK(parse_file_name(name).kind == FileKind::foreign);
  }
}

}  // namespace gyre
