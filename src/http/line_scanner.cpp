#include "http/line_scanner.hpp"

namespace gyre::http {

FieldLine split_field_line(std::string_view line) {
  FieldLine field;
  if (is_blank(line.front())) {
    field.error = "a header line starts with a space or tab: folded lines are not accepted";
    return field;
  }
  size_t colon = 0;
  while (colon < line.size() && is_token_char(line[colon])) ++colon;
  if (colon == line.size()) {
    field.error = "a header line has no colon: expected 'name: value'";
  } else if (line[colon] != ':') {
    field.error = is_blank(line[colon]) ? "a header name is followed by a space before the colon"
                                        : "a header name holds a character that is no token";
  } else if (colon == 0) {
    field.error = "a header line has an empty name";
  } else {
    field.name = line.substr(0, colon);
    field.value = trim_blanks(line.substr(colon + 1));
  }
  return field;
}

}  // namespace gyre::http
