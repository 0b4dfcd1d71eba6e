// A command that reads and writes one key, as the node that a client asked sends it to the key's first
// replica, and the answer. Integers are little-endian; decoding is strict, as in replica_messages.hpp.
//
//   modify   version u8 (1) · kind u8 · protocol u8 (2, 3) · hops u8 · flags u32 · number i64 ·
//            expire_at_ms u64 · value_bytes_max u64 · key_bytes u32 · word_count u32 ·
//            word_bytes u32 for each · key · words
//   modify's reply   outcome u8 (ModifyOutcome) · changed u8 · 6 zeros · answer (to the end)
//
// What kind, flags and number mean, and the words, is the front end's (node/resp/modification.hpp);
// times in it are absolute. The version changes with that meaning: another one is unsupported.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace gyre::cluster {

struct ModifyRequest {
  static constexpr uint8_t version = 1;
  static constexpr size_t head_bytes = 40;
  static constexpr size_t word_count_max = 64;
  // From who was asked by a client to the first replica is one; it may know better who that is.
  static constexpr uint8_t hops_max = 2;

  uint8_t kind = 0;
  uint8_t protocol = 2;  // of the answer
  uint8_t hops = 1;      // nodes that it has come to, with this one
  uint32_t flags = 0;
  int64_t number = 0;
  uint64_t expire_at_ms = 0;
  uint64_t value_bytes_max = 0;  // a longer value is neither read nor made
  std::string_view key;
  std::vector<std::string_view> words;  // behind the key

  std::string encode() const;
  static bool decode(std::string_view payload, ModifyRequest& out);
  // Of a payload that decode() refuses: it is one of another version.
  static bool is_other_version(std::string_view payload);
  // In an encoded one.
  static void set_hops(std::string& payload, uint8_t hops);
};

enum class ModifyOutcome : uint8_t {
  done = 1,
  failed = 2,     // `answer` is the error: "CODE reason"
  not_first = 3,  // nothing was done: another node is the first replica
};

struct ModifyReply {
  static constexpr size_t head_bytes = 8;
  ModifyOutcome outcome = ModifyOutcome::failed;
  bool changed = false;  // something was written
  std::string_view answer;

  void encode_head(char (&out)[head_bytes]) const;
  static bool decode(std::string_view payload, ModifyReply& out);
};

}  // namespace gyre::cluster
