// Records as lines of text: what `gyre scan` prints and `gyre load` reads.
//
//   KEY<TAB>VALUE<LF>
//
// A tab, newline or backslash in a key or value is written \t, \n or \\ ; every other byte stands
// for itself. So a line is a record, `sort`, `cut` and `grep` work on it, and any bytes survive.
#pragma once

#include <string>
#include <string_view>

#include <gyre/result.hpp>

namespace gyre {

void append_escaped(std::string& out, std::string_view bytes);

struct TextRecord {
  std::string key;
  std::string value;
};

// `line` is without its newline. A failure's detail reads on after "line 7 ".
Result<TextRecord> parse_record_line(std::string_view line);

}  // namespace gyre
