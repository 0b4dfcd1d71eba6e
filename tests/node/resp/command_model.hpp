// What a Redis with strings alone would answer, one command after the other: written from its
// documentation, with nothing of the front end's code.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace gyre::test {

using CommandWords = std::vector<std::string>;

// An answer in RESP2, or, where time passes meanwhile or order is free, what it must be like.
struct ExpectedReply {
  enum class Kind : uint8_t {
    exact,
    about,   // the integer `number`, a little more or less
    set,     // an array of `members` in any order
    one_of,  // a bulk string that is one of `members`; null if there are none
  };
  Kind kind = Kind::exact;
  std::string bytes;
  int64_t number = 0;
  std::vector<std::string> members;
};

class CommandModel {
 public:
  static constexpr unsigned databases = 16;
  // What the clock may have moved on between asking and being asked.
  static constexpr int64_t slack_ms = 3'000;

  // Nothing: at this moment the answer depends on a few milliseconds. Nothing has changed then.
  std::optional<ExpectedReply> run(const CommandWords& words, uint64_t now_ms);
  // The live keys of the present database.
  std::vector<std::string> keys(uint64_t now_ms) const;

 private:
  struct Item {
    std::string value;
    int64_t expire_at_ms = 0;  // 0: never
  };
  using Items = std::map<std::string, Item>;
  struct Ambiguous {};

  std::string answer(const CommandWords& words);
  std::string set(const CommandWords& words);
  std::string get_and_expire(const CommandWords& words);
  std::string expire(const CommandWords& words, bool seconds, bool absolute);
  std::string add(const std::string& key, const std::string& by, int sign);
  std::string add_float(const std::string& key, const std::string& by);
  std::string set_range(const CommandWords& words);
  std::string get_range(const CommandWords& words);
  std::string copy(const CommandWords& words);
  std::string rename(const CommandWords& words, bool only_new);
  void about(int64_t number);

  Item* find(const std::string& key) { return find(database_, key); }
  Item* find(unsigned database, const std::string& key);
  // Of a time that was asked for: 0 and an error if it is none.
  int64_t expiry(const std::string& text, const std::string& unit, const std::string& command,
                 std::string& error);

  Items items_[databases];
  unsigned database_ = 0;
  int64_t now_ms_ = 0;
  ExpectedReply reply_;
};

}  // namespace gyre::test
