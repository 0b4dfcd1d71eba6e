#include "node/resp/glob.hpp"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "sim/prng.hpp"

namespace gyre {
namespace {

bool matches(std::string_view pattern, std::string_view text) {
  const GlobMatch match = glob_match(pattern, text);
  CHECK(match != GlobMatch::too_long);
  return match == GlobMatch::yes;
}

TEST_CASE("stars, question marks and plain bytes") {
  CHECK(matches("abc", "abc"));
  CHECK(!matches("abc", "abcd"));
  CHECK(!matches("abcd", "abc"));
  CHECK(matches("*", "anything"));
  CHECK(matches("a*", "a"));
  CHECK(matches("a**", "ab"));
  CHECK(matches("*c", "abc"));
  CHECK(matches("a*c*e", "abcde"));
  CHECK(!matches("a*c*f", "abcde"));
  CHECK(matches("a*b*b", "abbb"));
  CHECK(matches("h?llo", "hello"));
  CHECK(!matches("h?llo", "hllo"));
  CHECK(matches("????", "abcd"));
  CHECK(!matches("????", "abc"));
  CHECK(matches("user:*:name", "user:17:name"));
  CHECK(matches(std::string_view("a\0*", 3), std::string_view("a\0b", 3)));
}

TEST_CASE("classes: sets, ranges in either order, negation, what is never closed") {
  CHECK(matches("h[ae]llo", "hallo"));
  CHECK(!matches("h[ae]llo", "hillo"));
  CHECK(matches("h[a-e]llo", "hcllo"));
  CHECK(matches("h[e-a]llo", "hcllo"));
  CHECK(matches("h[^e]llo", "hallo"));
  CHECK(!matches("h[^e]llo", "hello"));
  CHECK(matches("[\\]]", "]"));
  CHECK(matches("[a\\-z]", "-"));
  CHECK(!matches("[a\\-z]", "m"));
  CHECK(!matches("[]a]", "a"));
  CHECK(matches("[abc", "b"));
  CHECK(matches("x[^", "xy"));
  CHECK(!matches("x[", "xy"));
  CHECK(matches("[a-", "-"));
  CHECK(!matches("[a-]", "b"));
  CHECK(matches("[a-]", "^"));  // as a range up to ']'
  CHECK(matches("*[0-9]", "key7"));
}

TEST_CASE("a backslash takes what follows as it is") {
  CHECK(matches("\\*", "*"));
  CHECK(!matches("\\*", "a"));
  CHECK(matches("a\\?c", "a?c"));
  CHECK(!matches("a\\?c", "abc"));
  CHECK(matches("a\\", "a\\"));
  CHECK(matches("\\a", "a"));
}

TEST_CASE("of the empty text only the empty pattern is one") {
  CHECK(matches("", ""));
  CHECK(!matches("*", ""));
  CHECK(!matches("", "a"));
}

// By the book: each star tries every length.
bool reference(std::string_view pattern, std::string_view text) {
  if (pattern.empty()) return text.empty();
  if (pattern.front() == '*') {
    for (size_t i = 0; i <= text.size(); ++i) {
      if (reference(pattern.substr(1), text.substr(i))) return true;
    }
    return false;
  }
  if (text.empty()) return false;
  size_t size = 1;
  bool fits = false;
  const char c = text.front();
  if (pattern.front() == '?') {
    fits = true;
  } else if (pattern.front() == '[') {
    const size_t end = pattern.find(']', 1);  // the patterns below have no escapes in classes
    if (end == std::string_view::npos) return false;
    std::string_view in = pattern.substr(1, end - 1);
    const bool negated = in.starts_with('^');
    if (negated) in.remove_prefix(1);
    fits = in.find(c) != std::string_view::npos;
    if (in.size() == 3 && in[1] == '-') fits = c >= in[0] && c <= in[2];
    fits ^= negated;
    size = end + 1;
  } else {
    fits = pattern.front() == c;
  }
  return fits && reference(pattern.substr(size), text.substr(1));
}

TEST_CASE("random patterns match as each star trying every length does") {
  const std::vector<std::string> pieces = {"*", "*", "?", "a", "b", "c", "[ab]", "[^a]", "[a-c]"};
  sim::Prng prng(1, "globs");
  unsigned matched = 0;
  for (unsigned i = 0; i < 200'000; ++i) {
    std::string pattern;
    for (uint64_t n = prng.below(7); n > 0; --n) pattern += pieces[prng.below(pieces.size())];
    std::string text;
    for (uint64_t n = 1 + prng.below(8); n > 0; --n) text += static_cast<char>('a' + prng.below(4));
    const bool expected = reference(pattern, text);
    matched += expected;
    if (matches(pattern, text) != expected) FAIL_CHECK(pattern << " on " << text);
  }
  CHECK(matched > 10'000);
}

TEST_CASE("what would take for ever is given up") {
  const std::string pattern = "*" + std::string(1'000, 'a') + "b";
  const std::string text(40'000, 'a');
  CHECK(glob_match(pattern, text) == GlobMatch::too_long);
  CHECK(glob_match(pattern, text, 100) == GlobMatch::too_long);
  CHECK(glob_match("[" + std::string(200'000, 'x'), "abcdefgh", 1'000) != GlobMatch::yes);
}

TEST_CASE("the bytes before the first special one are in every match") {
  CHECK(glob_literal_prefix("user:*") == "user:");
  CHECK(glob_literal_prefix("user") == "user");
  CHECK(glob_literal_prefix("*") == "");
  CHECK(glob_literal_prefix("a\\*b") == "a");
  CHECK(glob_literal_prefix("a[b]") == "a");
  CHECK(glob_literal_prefix("a?") == "a");
}

}  // namespace
}  // namespace gyre
