// Scripts of operations whose outcome must be the same on every Backend.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "rig.hpp"

namespace gyre::testing {

// What came out of a script, in words.
class Notes {
 public:
  void note(std::string_view what, int64_t result) {
    lines += std::string(what) + ": ";
    lines += result < 0 ? error_name(static_cast<int>(-result)) : std::to_string(result);
    lines += "\n";
  }
  void say(std::string_view text) { lines += std::string(text) + "\n"; }
  std::string lines;

 private:
  static std::string error_name(int error);
};

struct Script {
  std::string name;
  void (*run)(Rig&, Notes&);
  std::string expected;
};

std::span<const Script> parity_scripts();

}  // namespace gyre::testing
