#include "resp/glance.hpp"

#include <doctest/doctest.h>

#include <array>
#include <string>
#include <vector>

#include "parse_commands.hpp"

namespace gyre {
using namespace test;

namespace {

std::vector<std::string> keys_of(std::string_view bytes, size_t& seen_bytes) {
  std::array<std::string_view, 4> keys;
  const resp::Glance seen = resp::glance_at(bytes, keys);
  seen_bytes = seen.bytes;
  return {keys.begin(), keys.begin() + static_cast<std::ptrdiff_t>(seen.keys)};
}
std::vector<std::string> keys_of(std::string_view bytes) {
  size_t seen_bytes = 0;
  return keys_of(bytes, seen_bytes);
}

using Keys = std::vector<std::string>;
const std::string get_a = "*2\r\n$3\r\nGET\r\n$1\r\na\r\n";
const std::string set_b = "*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$4\r\nc\r\n$\r\n";
const std::string ping = "*1\r\n$4\r\nPING\r\n";

TEST_CASE("the second word of each whole command is seen") {
  size_t seen_bytes = 0;
  const std::string all = get_a + ping + set_b + get_a;
  CHECK(keys_of(all, seen_bytes) == Keys{"a", "b", "a"});
  CHECK(seen_bytes == all.size());
}

TEST_CASE("a look ends where a command isn't whole, wherever the bytes end") {
  const std::string all = get_a + set_b;
  for (size_t size = 0; size <= all.size(); ++size) {
    size_t seen_bytes = 0;
    const Keys keys = keys_of(std::string_view(all).substr(0, size), seen_bytes);
    CHECK(keys == (size == all.size()     ? Keys{"a", "b"}
                   : size >= get_a.size() ? Keys{"a"}
                                          : Keys{}));
    CHECK(seen_bytes == (size == all.size() ? size : size >= get_a.size() ? get_a.size() : 0));
  }
}

TEST_CASE("a look ends at what it doesn't know, and leaves it to the parser") {
  for (const char* other :
       {"GET a\r\n", "*-1\r\n", "*0\r\n", "*2\r\n$3\r\nGET\r\n:1\r\n", "*2\r\n$3\r\nGET\r\n$-1\r\n",
        "*2\r\n$3\r\nGET\r\n$9999999999999999999\r\na\r\n", "*99999999999\r\n", "*2\n$3\nGET\n",
        "*2\r\n$3\r\nGET\r\n$\r\n", "\r\n", "*\r\n"}) {
    CAPTURE(other);
    size_t seen_bytes = 0;
    CHECK(keys_of(get_a + other + get_a, seen_bytes) == Keys{"a"});
    CHECK(seen_bytes == get_a.size());
  }
}

TEST_CASE("a look ends when enough keys are there") {
  std::string all;
  for (int i = 0; i < 10; ++i) all += get_a;
  size_t seen_bytes = 0;
  CHECK(keys_of(all, seen_bytes).size() == 4);
  CHECK(seen_bytes == 4 * get_a.size());
}

TEST_CASE("what is seen is what the parser says") {
  const std::string all = set_b + ping + get_a + "*2\r\n$6\r\nSTRLEN\r\n$0\r\n\r\n";
  Keys parsed;
  for (const auto& words : parse_commands(all, all.size()).commands) {
    if (words.size() > 1) parsed.push_back(words[1]);
  }
  CHECK(keys_of(all) == parsed);
}

}  // namespace
}  // namespace gyre
