#include "node/resp/command_table.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
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

namespace {

std::string upper(std::string_view name) {
  std::string text(name);
  for (char& c : text) {
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
    if (c == '|') c = ' ';
  }
  return text;
}

// A Markdown table, by groups.
std::string commands_as_page() {
  std::map<std::string, std::map<std::string, const CommandSpec*>> groups;
  for (const CommandSpec& spec : command_table()) {
    if (spec.run != nullptr) groups[std::string(spec.group)][upper(spec.name)] = &spec;
    for (const CommandSpec& subcommand : spec.subcommands) {
      groups[std::string(subcommand.group)][upper(subcommand.name)] = &subcommand;
    }
  }
  std::string page = "| group | command | Redis since | cost | |\n|---|---|---|---|---|\n";
  for (const auto& [group, commands] : groups) {
    for (const auto& [name, spec] : commands) {
      page += "| " + group + " | `" + name + "` | " + std::string(spec->since) + " | " +
              std::string(spec->complexity) + " | " + std::string(spec->summary) + " |\n";
    }
  }
  return page;
}

}  // namespace

// GYRE_TEST_PAGE names the page; with GYRE_WRITE_PAGE=1 the test writes it anew.
TEST_CASE("the page of commands says what the table says") {
  const char* path = std::getenv("GYRE_TEST_PAGE");
  REQUIRE(path != nullptr);
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  const std::string page = text.str();
  const std::string begin = "<!-- commands -->\n";
  const size_t from = page.find(begin);
  const size_t to = page.find("<!-- end of commands -->");
  REQUIRE(from != std::string::npos);
  REQUIRE(to != std::string::npos);
  const std::string wanted =
      page.substr(0, from + begin.size()) + commands_as_page() + page.substr(to);
  if (std::getenv("GYRE_WRITE_PAGE") != nullptr) {
    std::ofstream(path) << wanted;
  } else {
    CHECK(page == wanted);
  }
}
