#include "node/commands/record_text.hpp"

#include <fmt/format.h>

#include "base/limits.hpp"

namespace gyre {

namespace {

Result<std::string> unescape(std::string_view text) {
  std::string bytes;
  bytes.reserve(text.size());
  for (;;) {
    const size_t backslash = text.find('\\');
    bytes.append(text.substr(0, backslash));
    if (backslash == std::string_view::npos) return bytes;
    text.remove_prefix(backslash + 1);
    switch (text.empty() ? '\0' : text.front()) {
      case 't':
        bytes += '\t';
        break;
      case 'n':
        bytes += '\n';
        break;
      case '\\':
        bytes += '\\';
        break;
      default:
        return fail(
            Errc::invalid,
            "has a backslash that no t, n or backslash follows: write \\\\ for a backslash");
    }
    text.remove_prefix(1);
  }
}

}  // namespace

void append_escaped(std::string& out, std::string_view bytes) {
  for (;;) {
    const size_t special = bytes.find_first_of("\t\n\\");
    out.append(bytes.substr(0, special));
    if (special == std::string_view::npos) return;
    const char c = bytes[special];
    out += '\\';
    out += c == '\t' ? 't' : c == '\n' ? 'n' : '\\';
    bytes.remove_prefix(special + 1);
  }
}

Result<TextRecord> parse_record_line(std::string_view line) {
  const size_t tab = line.find('\t');
  if (tab == std::string_view::npos) {
    return fail(Errc::invalid, "has no tab between key and value");
  }
  if (tab == 0) return fail(Errc::invalid, "has an empty key");
  Result<std::string> key = unescape(line.substr(0, tab));
  if (!key) return fail(std::move(key.error()));
  if (key->size() > limits::http_key_bytes_max) {
    return fail(Errc::too_large, fmt::format("has a key of {} bytes, at most {} are allowed",
                                             key->size(), limits::http_key_bytes_max));
  }
  Result<std::string> value = unescape(line.substr(tab + 1));
  if (!value) return fail(std::move(value.error()));
  return TextRecord{std::move(*key), std::move(*value)};
}

}  // namespace gyre
