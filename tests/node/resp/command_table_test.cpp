#include "node/resp/command_table.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <set>
#include <string>

using namespace gyre;

namespace {

void check_spec(const CommandSpec& spec) {
  CAPTURE(spec.name);
  CHECK(spec.arity != 0);
  CHECK_FALSE(spec.summary.empty());
  CHECK_FALSE(spec.since.empty());
  CHECK_FALSE(spec.group.empty());
  CHECK_FALSE(spec.complexity.empty());
  CHECK(std::ranges::none_of(spec.name, [](char c) { return c >= 'A' && c <= 'Z'; }));
  CHECK((spec.first_key == 0) == (spec.key_step == 0));
  const bool both =
      (spec.flags & command_flag::write) != 0 && (spec.flags & command_flag::readonly) != 0;
  CHECK_FALSE(both);
}

}  // namespace

TEST_CASE("each command is found by its name in any case, and nothing else is") {
  std::set<std::string_view> names;
  for (const CommandSpec& spec : command_table()) {
    CAPTURE(spec.name);
    CHECK(names.insert(spec.name).second);
    CHECK(find_command(spec.name) == &spec);
    std::string upper(spec.name);
    for (char& c : upper) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
    CHECK(find_command(upper) == &spec);
    CHECK(find_command(upper + "X") == nullptr);
    CHECK(find_command(std::string_view(upper).substr(1)) != &spec);
  }
  CHECK(find_command("") == nullptr);
  CHECK(find_command("nosuch") == nullptr);
}

TEST_CASE("every entry says all that COMMAND tells, and can be run") {
  for (const CommandSpec& spec : command_table()) {
    check_spec(spec);
    const bool can_be_run = spec.run != nullptr || !spec.subcommands.empty();
    CHECK(can_be_run);
    for (const CommandSpec& subcommand : spec.subcommands) {
      check_spec(subcommand);
      const bool subcommand_can_be_run = subcommand.run != nullptr;
      CHECK(subcommand_can_be_run);
      CHECK(subcommand.name.starts_with(std::string(spec.name) + "|"));
      CHECK(find_subcommand(spec, subcommand.subcommand_name()) == &subcommand);
    }
    // A container alone is no command: that is a wrong number of words.
    if (spec.run == nullptr) CHECK_FALSE(spec.allows_words(1));
  }
}

TEST_CASE("only telling who one is is possible before the password") {
  std::set<std::string_view> names;
  for (const CommandSpec& spec : command_table()) {
    if ((spec.flags & command_flag::no_auth) != 0) names.insert(spec.name);
    for (const CommandSpec& subcommand : spec.subcommands) {
      CHECK((subcommand.flags & command_flag::no_auth) == 0);
    }
  }
  CHECK(names == std::set<std::string_view>{"auth", "hello", "quit", "reset"});
}
