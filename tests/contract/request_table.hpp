// Reads tests/contract/requests.txt (its head explains the format) for the parser's test and for
// the contract test over sockets.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace gyre::test {

struct RequestRow {
  enum class End : uint8_t { keep, close, wait };
  enum class Interim : uint8_t { none, maybe, must };
  struct Answer {
    std::vector<uint16_t> statuses;
    bool by_parser = false;
  };
  std::string group;
  std::string id;
  std::string clause;
  std::string send;
  std::string after;
  std::vector<Answer> answers;
  End end = End::keep;
  std::optional<std::string> content;
  std::optional<std::string> body;
  Interim interim = Interim::none;
  bool answers_head = false;
};

// Throws std::runtime_error with the line number for a file that can't be read.
std::vector<RequestRow> read_request_table(const std::string& path);

// The bytes that an escaped text stands for.
std::string unescape(std::string_view text);

}  // namespace gyre::test
