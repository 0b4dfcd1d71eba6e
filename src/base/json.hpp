// A writer of JSON documents, for reports and answers.
#pragma once

#include <fmt/format.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace gyre {

// Builds a document in the order of the calls. Names are ours and need no escapes.
class Json {
 public:
  void open(std::string_view name, char bracket) {
    begin(name);
    text_ += bracket;
    first_ = true;
  }
  void close(char bracket) {
    text_ += bracket;
    first_ = false;
  }
  // Bytes that are not UTF-8 become U+FFFD: what peers and files say may hold any.
  void string(std::string_view name, std::string_view value) {
    begin(name);
    text_ += '"';
    while (!value.empty()) {
      const char c = value.front();
      if (static_cast<unsigned char>(c) >= 0x80) {
        const size_t size_bytes = utf8_bytes(value);
        text_ += size_bytes == 0 ? "\xef\xbf\xbd" : value.substr(0, size_bytes);
        value.remove_prefix(size_bytes == 0 ? 1 : size_bytes);
        continue;
      }
      value.remove_prefix(1);
      if (c == '"' || c == '\\') {
        text_ += '\\';
        text_ += c;
      } else if (static_cast<unsigned char>(c) < 0x20) {
        text_ += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
      } else {
        text_ += c;
      }
    }
    text_ += '"';
  }
  void number(std::string_view name, double value) {
    begin(name);
    text_ += std::isfinite(value) ? fmt::format("{:.6g}", value) : "null";
  }
  void micros(std::string_view name, double ns) {
    begin(name);
    text_ += fmt::format("{:.3f}", ns / 1e3);
  }
  void count(std::string_view name, uint64_t value) {
    begin(name);
    text_ += fmt::format("{}", value);
  }
  void boolean(std::string_view name, bool value) {
    begin(name);
    text_ += value ? "true" : "false";
  }
  void null(std::string_view name) {
    begin(name);
    text_ += "null";
  }
  std::string take() { return std::move(text_); }

 private:
  void begin(std::string_view name) {
    if (!first_) text_ += ',';
    first_ = false;
    if (!name.empty()) text_ += fmt::format("\"{}\":", name);
  }

  // Of the character beyond ASCII that `text` begins with; 0 if it is none (RFC 3629, 4).
  static size_t utf8_bytes(std::string_view text) {
    const auto at = [text](size_t i) {
      return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u;
    };
    const unsigned lead = at(0);
    const size_t size_bytes = lead >= 0xc2 && lead < 0xe0   ? 2
                              : lead >= 0xe0 && lead < 0xf0 ? 3
                              : lead >= 0xf0 && lead < 0xf5 ? 4
                                                            : 0;
    for (size_t i = 1; i < size_bytes; ++i) {
      if ((at(i) & 0xc0) != 0x80) return 0;
    }
    const bool overlong = (lead == 0xe0 && at(1) < 0xa0) || (lead == 0xf0 && at(1) < 0x90);
    const bool outside = (lead == 0xed && at(1) > 0x9f) || (lead == 0xf4 && at(1) > 0x8f);
    return overlong || outside ? 0 : size_bytes;
  }

  std::string text_;
  bool first_ = true;
};

}  // namespace gyre
