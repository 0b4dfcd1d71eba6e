// A writer of JSON documents, for reports.
#pragma once

#include <fmt/format.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace gyre::load {

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
  void string(std::string_view name, std::string_view value) {
    begin(name);
    text_ += '"';
    for (char c : value) {
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

  std::string text_;
  bool first_ = true;
};

}  // namespace gyre::load
