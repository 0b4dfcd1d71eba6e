#include "resp/command_parser.hpp"

#include <algorithm>
#include <climits>
#include <cstring>

#include "base/assert.hpp"
#include "resp/number_text.hpp"

namespace gyre::resp {

namespace {

// Of a line that is no number, before its end has come (Redis' PROTO_INLINE_MAX_SIZE).
constexpr size_t header_bytes_max = 64u << 10;
constexpr size_t args_kept_max = 128;

bool is_blank(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char lower = to_lower(c);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

char unescaped(char c) {
  switch (c) {
    case 'n':
      return '\n';
    case 'r':
      return '\r';
    case 't':
      return '\t';
    case 'b':
      return '\b';
    case 'a':
      return '\a';
    default:
      return c;
  }
}

// Reads one word of `line` from `at`, which is no blank, and writes it to `to`; it is never longer
// than what was read. False: quotes that don't end, or that something follows.
bool read_word(std::string_view line, size_t& at, char*& to) {
  char quote = 0;
  const auto has = [&](size_t ahead) { return at + ahead < line.size(); };
  for (; at < line.size(); ++at) {
    const char c = line[at];
    if (quote == 0) {
      if (is_blank(c)) return true;
      if (c == '"' || c == '\'') {
        quote = c;
      } else {
        *to++ = c;
      }
      continue;
    }
    if (c == quote) {
      ++at;
      return at == line.size() || is_blank(line[at]);
    }
    if (quote == '"' && c == '\\' && has(3) && line[at + 1] == 'x' &&
        hex_value(line[at + 2]) >= 0 && hex_value(line[at + 3]) >= 0) {
      *to++ = static_cast<char>(hex_value(line[at + 2]) * 16 + hex_value(line[at + 3]));
      at += 3;
    } else if (quote == '"' && c == '\\' && has(1)) {
      *to++ = unescaped(line[++at]);
    } else if (quote == '\'' && c == '\\' && has(1) && line[at + 1] == '\'') {
      *to++ = line[++at];
    } else {
      *to++ = c;
    }
  }
  return quote == 0;
}

}  // namespace

CommandParser::Step CommandParser::fail(std::string_view error) {
  error_ = "Protocol error: ";
  error_ += error;
  state_ = State::failed;
  return {Event::error, 0};
}

void CommandParser::discard() {
  std::string().swap(held_);
  std::vector<Argument>().swap(arguments_);
  std::vector<std::string_view>().swap(words_);
  state_ = State::start;
}

size_t CommandParser::held_bytes() const {
  constexpr size_t inline_bytes = 15;  // what std::string holds without the heap
  return (held_.capacity() > inline_bytes ? held_.capacity() : 0) +
         arguments_.capacity() * sizeof(Argument) + words_.capacity() * sizeof(words_[0]);
}

size_t CommandParser::held_bytes_soon() const {
  const bool grows = state_ == State::bulk && held_.size() >= held_bytes_kept;
  return held_bytes() + (grows ? held_.size() + bulk_missing_ -
                                     std::min(held_.capacity(), held_.size() + bulk_missing_)
                               : 0);
}

void CommandParser::begin() {
  words_.clear();
  arguments_.clear();
  held_.clear();
  if (held_.capacity() > held_bytes_kept) std::string().swap(held_);
  if (arguments_.capacity() > args_kept_max) std::vector<Argument>().swap(arguments_);
  if (words_.capacity() > args_kept_max) std::vector<std::string_view>().swap(words_);
  command_bytes_ = 0;
  header_ = {};
  inline_ = false;
  state_ = State::start;
}

// Collects a line into header_, up to its CR LF.
CommandParser::Line CommandParser::take_line(std::string_view bytes, size_t& at) {
  if (header_.has_cr) {
    if (at == bytes.size()) return Line::incomplete;
    return bytes[at++] == '\n' ? Line::complete : Line::broken;
  }
  const char* from = bytes.data() + at;
  const size_t left = bytes.size() - at;
  const auto* cr = left == 0 ? nullptr : static_cast<const char*>(std::memchr(from, '\r', left));
  const size_t taken = cr == nullptr ? left : static_cast<size_t>(cr - from);
  const size_t kept = header_.size_bytes < sizeof header_.text
                          ? std::min(taken, sizeof header_.text - header_.size_bytes)
                          : 0;
  if (kept != 0) std::memcpy(header_.text + header_.size_bytes, from, kept);
  header_.size_bytes += taken;
  at += taken;
  if (header_.size_bytes > header_bytes_max) return Line::too_long;
  if (cr == nullptr) return Line::incomplete;
  header_.has_cr = true;
  ++at;
  return take_line(bytes, at);
}

// False: the number of arguments is none.
bool CommandParser::take_count() {
  if (header_.size_bytes > sizeof header_.text) return false;
  const auto count = parse_integer(std::string_view(header_.text, header_.size_bytes).substr(1));
  if (!count || *count > INT_MAX) return false;
  missing_ = *count > 0 ? static_cast<size_t>(*count) : 0;
  return true;
}

// False: the size is none.
bool CommandParser::take_bulk_head() {
  if (header_.size_bytes > sizeof header_.text) return false;
  const auto size = parse_integer(std::string_view(header_.text, header_.size_bytes).substr(1));
  if (!size || *size < 0 || static_cast<uint64_t>(*size) > SIZE_MAX / 2) return false;
  bulk_missing_ = static_cast<size_t>(*size);
  return true;
}

// True once the argument is whole.
bool CommandParser::take_bulk(std::string_view bytes, size_t& at) {
  Argument& argument = arguments_.back();
  const size_t piece = std::min(bulk_missing_, bytes.size() - at);
  if (argument.data == nullptr) {
    // Doubled as it comes, but never beyond what is announced.
    const size_t needed = held_.size() + piece;
    if (needed > held_.capacity()) {
      std::string larger;  // reserve() would double a string that has something
      larger.reserve(
          std::max(needed, std::min(2 * held_.capacity(), held_.size() + bulk_missing_)));
      larger.append(held_);
      held_.swap(larger);
    }
    held_.append(bytes, at, piece);
  } else {
    argument.data = bytes.data() + at;
  }
  argument.size_bytes += piece;
  bulk_missing_ -= piece;
  at += piece;
  return bulk_missing_ == 0;
}

// The fed bytes end within a command: what is a view of them is kept.
void CommandParser::keep_arguments() {
  for (Argument& argument : arguments_) {
    if (argument.data == nullptr) continue;
    argument.offset = held_.size();
    held_.append(argument.data, argument.size_bytes);
    argument.data = nullptr;
  }
}

void CommandParser::complete() {
  for (const Argument& argument : arguments_) {
    words_.emplace_back(argument.data != nullptr ? argument.data : held_.data() + argument.offset,
                        argument.size_bytes);
  }
  state_ = State::done;
}

// held_ is a line; its words take its place. False: the quotes don't match.
bool CommandParser::split_words() {
  // As Redis, whose lines are C strings.
  const std::string_view line = std::string_view(held_).substr(0, held_.find('\0'));
  char* to = held_.data();
  for (size_t at = 0;;) {
    while (at < line.size() && is_blank(line[at])) ++at;
    if (at == line.size()) return true;
    char* const from = to;
    if (!read_word(line, at, to)) return false;
    arguments_.push_back(
        {nullptr, static_cast<size_t>(from - held_.data()), static_cast<size_t>(to - from)});
  }
}

CommandParser::Step CommandParser::take_inline(std::string_view bytes, size_t at) {
  const size_t end = bytes.find('\n', at);
  const size_t taken = (end == std::string_view::npos ? bytes.size() : end) - at;
  if (held_.size() + taken > limits_.inline_bytes_max) return fail("too big inline request");
  held_.append(bytes, at, taken);
  if (end == std::string_view::npos) return {Event::need_more, bytes.size()};
  if (!held_.empty() && held_.back() == '\r') held_.pop_back();
  if (!split_words()) return fail("unbalanced quotes in request");
  if (arguments_.size() > limits_.args_max) return fail("unauthenticated multibulk length");
  inline_ = true;
  complete();
  return {Event::command, end + 1};
}

CommandParser::Step CommandParser::feed(std::string_view bytes) {
  size_t at = 0;
  for (;;) {
    switch (state_) {
      case State::done:
        begin();
        break;
      case State::start:
        if (at == bytes.size()) return {Event::need_more, at};
        state_ = bytes[at] == '*' ? State::count : State::line;
        break;
      case State::line: {
        const Step step = take_inline(bytes, at);
        if (step.event != Event::command || !arguments_.empty()) return step;
        at = step.consumed;  // an empty line
        begin();
        break;
      }
      case State::count:
        switch (take_line(bytes, at)) {
          case Line::incomplete:
            return {Event::need_more, at};
          case Line::too_long:
            return fail("too big mbulk count string");
          case Line::broken:
            return fail("invalid multibulk length");
          case Line::complete:
            break;
        }
        if (!take_count()) return fail("invalid multibulk length");
        if (missing_ > limits_.args_max) {
          return fail(limits_.authenticated ? "invalid multibulk length"
                                            : "unauthenticated multibulk length");
        }
        header_ = {};
        if (missing_ == 0) {
          begin();
        } else {
          state_ = State::bulk_head;
        }
        break;
      case State::bulk_head: {
        const Line line = take_line(bytes, at);
        if (line == Line::incomplete) {
          keep_arguments();
          return {Event::need_more, at};
        }
        if (line == Line::too_long) return fail("too big bulk count string");
        if (header_.size_bytes == 0 || header_.text[0] != '$') {
          const char got = header_.size_bytes == 0 ? '\r' : header_.text[0];
          return fail(std::string("expected '$', got '") + got + "'");
        }
        if (line == Line::broken || !take_bulk_head()) return fail("invalid bulk length");
        if (bulk_missing_ > limits_.bulk_bytes_max) {
          return fail(limits_.authenticated ? "invalid bulk length"
                                            : "unauthenticated bulk length");
        }
        command_bytes_ += bulk_missing_ + CommandLimits::arg_overhead_bytes;
        if (command_bytes_ > limits_.command_bytes_max) return fail("too big command");
        header_ = {};
        --missing_;
        // A view, if all of it has come.
        const bool whole = bytes.size() - at >= bulk_missing_;
        if (!whole) keep_arguments();
        arguments_.push_back({whole ? bytes.data() + at : nullptr, held_.size(), 0});
        state_ = State::bulk;
        break;
      }
      case State::bulk:
        if (!take_bulk(bytes, at)) return {Event::need_more, at};
        end_missing_ = 2;
        state_ = State::bulk_end;
        break;
      case State::bulk_end:
        for (; end_missing_ != 0 && at != bytes.size(); --end_missing_, ++at) {
          if (bytes[at] != (end_missing_ == 2 ? '\r' : '\n')) {
            return fail("expected CR LF behind a bulk string");
          }
        }
        if (end_missing_ != 0) {
          keep_arguments();
          return {Event::need_more, at};
        }
        if (missing_ != 0) {
          state_ = State::bulk_head;
          break;
        }
        complete();
        return {Event::command, at};
      case State::failed:
        return {Event::error, 0};
    }
  }
}

}  // namespace gyre::resp
