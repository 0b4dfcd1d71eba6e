// What a command makes of a key that it reads and writes at once: the answer, and what becomes of the
// key. Pure: no clock but the wall's, no I/O. On one node the shard applies it when its log takes the
// write (modify_task.hpp); in a cluster the key's first replica does (replication/key_modifiers.hpp).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "resp/reply_writer.hpp"
#include "store/shard.hpp"

namespace gyre {

// Numbers of the peers' messages: a new meaning takes a new number, or another version of the message
// (cluster/modify_messages.hpp).
enum class ModifyKind : uint8_t {
  set = 1,         // words: value
  getdel,          //
  getex,           // words: options
  incr,            // number: what is added
  incrbyfloat,     // words: what is added
  append,          // words: bytes
  setrange,        // words: offset, bytes; number: offset
  expire,          // number: Unix time in ms
  persist,         //
  remove,          // answers 1 or 0
  remove_version,  // words: version_word(); only that version
};
inline constexpr auto modify_kind_last = ModifyKind::remove_version;

namespace modify_flag {
// Of set.
inline constexpr uint32_t if_absent = 1u << 0;
inline constexpr uint32_t if_present = 1u << 1;
inline constexpr uint32_t get_old = 1u << 2;
inline constexpr uint32_t keep_ttl = 1u << 3;
inline constexpr uint32_t answer_number = 1u << 4;  // SETNX
// Of expire: only if the key has no expiry, has one, has an earlier one, has a later one.
inline constexpr uint32_t if_none = 1u << 8;
inline constexpr uint32_t if_some = 1u << 9;
inline constexpr uint32_t greater = 1u << 10;
inline constexpr uint32_t less = 1u << 11;
}  // namespace modify_flag

struct ModifySpec {
  ModifyKind kind = ModifyKind::remove;
  size_t value_bytes = 0;  // what is made at most, as far as is known
  int64_t number = 0;
  uint64_t expire_at_ms = 0;  // of set
  uint32_t flags = 0;

  // Else a large value isn't read.
  bool wants_value() const;
  // How many words behind the key mean something, at most.
  size_t words_max() const;
};

class Modification {
 public:
  using Act = StoreModify::Act;
  using Words = std::span<const std::string_view>;

  // Writes to `record` (kind, expiry, and value or `buffer`).
  Modification(const ModifySpec& spec, resp::Protocol protocol, uint64_t value_bytes_max,
               WriteRecord& record, ValueBuffer& buffer)
      : spec_(spec),
        protocol_(protocol),
        value_bytes_max_(value_bytes_max),
        record_(record),
        buffer_(buffer) {}
  Modification(const Modification&) = delete;
  Modification& operator=(const Modification&) = delete;

  // Of the command, its name and key first; they stay where they are.
  void take_words(Words words) { words_ = words; }

  // Whether one that came from elsewhere can be applied.
  static bool makes_sense(const ModifySpec& spec, Words words);

  // May be called again, on another state.
  Act apply(const StoreRead& current, bool present);
  // It can't be applied: the answer is this error.
  void refuse(std::string_view text);

  // Of the last call.
  const std::string& answer() const { return answer_; }
  bool changed() const { return changed_; }

  // --- for what is done with a kind
  const ModifySpec& spec() const { return spec_; }
  Words words() const { return words_; }
  resp::Protocol protocol() const { return protocol_; }
  uint64_t value_bytes_max() const { return value_bytes_max_; }
  resp::ReplyWriter reply() {
    answer_.clear();
    return {answer_, protocol_};
  }
  // A value that lives as long as the words.
  Act set(std::string_view value, uint64_t expire_at_ms);
  Act set_made(std::string&& value, uint64_t expire_at_ms);
  Act set_made(ValueBuffer&& value, uint64_t expire_at_ms);
  // The present value with another expiry.
  Act keep(const StoreRead& current, uint64_t expire_at_ms);
  Act remove();

 private:
  ModifySpec spec_;
  resp::Protocol protocol_;
  bool changed_ = false;
  uint64_t value_bytes_max_;
  WriteRecord& record_;
  ValueBuffer& buffer_;
  Words words_;
  std::string made_;
  std::string answer_;
};

// A version as a word.
std::string version_word(const Version& version);

}  // namespace gyre
