#include "request_table.hpp"

#include <fstream>
#include <stdexcept>

namespace gyre::test {

namespace {

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  throw std::runtime_error("bad \\x escape");
}

// Where the '}' stands that ends the repetition whose inside starts at `at`; they nest.
size_t closing_brace(std::string_view text, size_t at) {
  for (int depth = 1; at < text.size(); ++at) {
    if (text[at] == '\\' && at + 1 < text.size()) {
      if (text[++at] == '{') ++depth;
    } else if (text[at] == '}' && --depth == 0) {
      return at;
    }
  }
  return std::string_view::npos;
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts(1);
  for (char c : text) {
    if (c == separator) {
      parts.emplace_back();
    } else if (c != ' ') {
      parts.back() += c;
    }
  }
  return parts;
}

// "200, !400/!505 close"
void read_expectation(const std::string& text, RequestRow& row) {
  const size_t space = text.rfind(' ');
  const std::string end = space == std::string::npos ? text : text.substr(space + 1);
  if (end == "keep") {
    row.end = RequestRow::End::keep;
  } else if (end == "close") {
    row.end = RequestRow::End::close;
  } else if (end == "wait") {
    row.end = RequestRow::End::wait;
  } else {
    throw std::runtime_error("an expectation ends in keep, close or wait");
  }
  if (space == std::string::npos) return;
  for (const std::string& alternatives : split(text.substr(0, space), ',')) {
    RequestRow::Answer answer;
    for (std::string one : split(alternatives, '/')) {
      answer.by_parser = one.starts_with('!');
      if (answer.by_parser) one.erase(0, 1);
      answer.statuses.push_back(static_cast<uint16_t>(std::stoi(one)));
    }
    row.answers.push_back(answer);
  }
}

void read_field(const std::string& name, const std::string& value, RequestRow& row) {
  if (name == "clause") {
    row.clause = value;
  } else if (name == "send") {
    row.send = unescape(value);
  } else if (name == "after") {
    row.after = unescape(value);
  } else if (name == "expect") {
    read_expectation(value, row);
  } else if (name == "content") {
    row.content = unescape(value);
  } else if (name == "body") {
    row.body = unescape(value);
  } else if (name == "interim" && (value == "must" || value == "maybe")) {
    row.interim = value == "must" ? RequestRow::Interim::must : RequestRow::Interim::maybe;
  } else if (name == "answers_head" && value == "yes") {
    row.answers_head = true;
  } else {
    throw std::runtime_error("unknown field '" + name + " " + value + "'");
  }
}

}  // namespace

std::string unescape(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      out += text[i];
      continue;
    }
    const char kind = i + 1 < text.size() ? text[++i] : '\0';
    if (kind == 'r') {
      out += '\r';
    } else if (kind == 'n') {
      out += '\n';
    } else if (kind == 't') {
      out += '\t';
    } else if (kind == '\\') {
      out += '\\';
    } else if (kind == 'x' && i + 2 < text.size()) {
      out += static_cast<char>(hex_digit(text[i + 1]) * 16 + hex_digit(text[i + 2]));
      i += 2;
    } else if (kind == '{') {
      const size_t colon = text.find(':', i);
      const size_t end = closing_brace(text, i + 1);
      if (colon == std::string_view::npos || end == std::string_view::npos || colon > end) {
        throw std::runtime_error("bad \\{N:text} escape");
      }
      const int count = std::stoi(std::string(text.substr(i + 1, colon - i - 1)));
      const std::string repeated = unescape(text.substr(colon + 1, end - colon - 1));
      for (int n = 0; n < count; ++n) out += repeated;
      i = end;
    } else {
      throw std::runtime_error("unknown escape");
    }
  }
  return out;
}

std::vector<RequestRow> read_request_table(const std::string& path) {
  std::ifstream in(path);
  if (!in) throw std::runtime_error("can't open " + path);
  std::vector<RequestRow> rows;
  std::string group;
  std::string line;
  for (int number = 1; std::getline(in, line); ++number) {
    if (line.empty() || line[0] == '#') continue;
    const size_t space = std::min(line.find(' '), line.size());
    const std::string name = line.substr(0, space);
    const std::string value = line.substr(std::min(space + 1, line.size()));
    try {
      if (name == "group") {
        group = value;
      } else if (name == "row") {
        rows.emplace_back();
        rows.back().group = group;
        rows.back().id = value;
      } else if (rows.empty()) {
        throw std::runtime_error("a field before the first row");
      } else {
        read_field(name, value, rows.back());
      }
    } catch (const std::exception& error) {
      throw std::runtime_error(path + ":" + std::to_string(number) + ": " + error.what());
    }
  }
  return rows;
}

}  // namespace gyre::test
