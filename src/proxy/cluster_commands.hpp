// Which nodes of a cluster a command is for, by its keys: Redis' own rules, and those by which one
// that touches many slots is split. What is not known has its first key behind its name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "resp/command_parser.hpp"

namespace gyre::proxy {

struct Placement {
  enum class Kind : uint8_t {
    key,      // to the master of a key's slot; the others are for Redis to check
    any,      // to any master
    by_slot,  // one command for each slot of its keys
    all,      // to every master
    refused,  // of no use with one node's answer
  };
  // How several replies become one. An error of any of them is the answer.
  enum class Merge : uint8_t { first, sum, concatenate };
  Kind kind = Kind::key;
  Merge merge = Merge::first;
  size_t key_at = 1;  // of Kind::key: which word
  size_t step = 1;    // of Kind::by_slot: 2 for keys with values
};

Placement placement_of(resp::Command command);

// Commands that a command of Kind::by_slot is split into, in the order of their first keys.
struct SlotPart {
  uint16_t slot = 0;
  std::string bytes;
};
std::vector<SlotPart> split_by_slot(resp::Command command, const Placement& placement);

// One reply out of several whole ones, as bytes. `replies` is not empty.
std::string merge_replies(Placement::Merge merge, const std::vector<std::string_view>& replies);

}  // namespace gyre::proxy
