// Commands out of a stream of bytes, as a Redis client sends them: arrays of bulk strings, or a
// line of words ("inline"), with quotes.
//
// Use: call feed() with the bytes that have arrived, drop `consumed` of them, act on the event, and
// call again with the rest (which may be empty) until it says need_more.
//
// Invariants
//   - Every byte is looked at once, however the stream is split: a slow sender costs no more than a
//     quick one.
//   - Nothing is allocated for what was announced and has not come.
//   - Arguments that lie whole in the fed bytes are views of them; those that came in pieces, and
//     all of an inline command, are kept here. Views are valid until the next feed().
//   - An error is final. Its text is Redis' where Redis has one.
//   - The events and the error depend on the bytes alone, not on how they were split.
//
// Stricter than Redis where framing would be guessed: a line ends with CR LF, and so does a bulk
// string (inline commands may end with LF alone, for people at a terminal).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace gyre::resp {

// The words of one command, its name first. Never empty.
using Command = std::span<const std::string_view>;

struct CommandLimits {
  size_t args_max = 1u << 20;
  size_t bulk_bytes_max = 512u << 20;   // of one argument
  size_t command_bytes_max = 1u << 30;  // of all arguments of a command, and 16 for each
  size_t inline_bytes_max = 64u << 10;  // of a line
  bool authenticated = true;            // otherwise errors say that it is for want of that
  static constexpr size_t arg_overhead_bytes = 16;

  // What a client may send before it has told its password (redis: CVE-2021-32675).
  static CommandLimits before_authentication() {
    return {.args_max = 10,
            .bulk_bytes_max = 16u << 10,
            .command_bytes_max = 64u << 10,
            .inline_bytes_max = 16u << 10,
            .authenticated = false};
  }
};

class CommandParser {
 public:
  enum class Event : uint8_t {
    need_more,  // all bytes were taken
    command,    // command() is complete
    error,      // answer "-ERR " + error(), and close
  };
  struct Step {
    Event event = Event::need_more;
    size_t consumed = 0;
  };

  explicit CommandParser(const CommandLimits& limits = {}) : limits_(limits) {}
  CommandParser(const CommandParser&) = delete;
  CommandParser& operator=(const CommandParser&) = delete;

  Step feed(std::string_view bytes);

  Command command() const { return words_; }
  // It was a line of words.
  bool is_inline() const { return inline_; }
  std::string_view error() const { return error_; }

  // From the next command on.
  void set_limits(const CommandLimits& limits) { limits_ = limits; }
  const CommandLimits& limits() const { return limits_; }

  // No byte of a command has arrived since the last one was complete.
  bool idle() const { return state_ == State::start || state_ == State::done; }
  // Nothing more will be parsed: what is held is let go, and so are the views in command().
  void discard();

  // Heap bytes held for a command.
  size_t held_bytes() const;
  // What that will be, once more than a little of a long argument has come.
  size_t held_bytes_soon() const;
  // A small one's are kept for the next.
  static constexpr size_t held_bytes_kept = 4u << 10;

 private:
  enum class State : uint8_t { start, line, count, bulk_head, bulk, bulk_end, done, failed };
  // An argument: in the fed bytes, or at `offset` of held_.
  struct Argument {
    const char* data;
    size_t offset;
    size_t size_bytes;
  };
  // A line of a few bytes, whose end may come later. What is longer than any number is counted only.
  struct Header {
    char text[32];
    size_t size_bytes = 0;
    bool has_cr = false;
  };
  enum class Line : uint8_t { incomplete, complete, too_long, broken };

  void begin();
  Line take_line(std::string_view bytes, size_t& at);
  Step take_inline(std::string_view bytes, size_t at);
  bool take_count();
  bool take_bulk_head();
  bool take_bulk(std::string_view bytes, size_t& at);
  bool split_words();
  void keep_arguments();
  void complete();
  Step fail(std::string_view error);

  CommandLimits limits_;
  State state_ = State::start;
  bool inline_ = false;
  Header header_;
  size_t missing_ = 0;       // arguments that have not begun
  size_t bulk_missing_ = 0;  // bytes of the argument under way
  size_t end_missing_ = 0;   // of its CR LF
  size_t command_bytes_ = 0;
  std::vector<Argument> arguments_;
  std::string held_;
  std::vector<std::string_view> words_;
  std::string error_;
};

}  // namespace gyre::resp
