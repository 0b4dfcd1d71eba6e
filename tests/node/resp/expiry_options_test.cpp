#include "node/resp/expiry_options.hpp"

#include <doctest/doctest.h>

#include <vector>

#include "node/resp/error_texts.hpp"

namespace gyre {
namespace {

using List = std::vector<std::string_view>;

bool parses(const List& words, SetOptions& out, OptionsOf command = OptionsOf::set) {
  out = {};
  return parse_set_options(words, command, out);
}

TEST_CASE("options of SET in any case and order") {
  SetOptions options;
  CHECK(parses({}, options));
  CHECK(parses({"nX", "Ex", "10", "gEt"}, options));
  CHECK(options.if_absent);
  CHECK(options.get);
  CHECK(options.unit == ExpiryUnit::ex);
  CHECK(options.expiry == "10");
  CHECK(parses({"KEEPTTL", "XX"}, options));
  CHECK(options.keep_ttl);
  CHECK(options.if_present);
  CHECK(parses({"pxat", "not looked at"}, options));
  CHECK(options.unit == ExpiryUnit::pxat);
  CHECK(parses({"EX", "1", "EX", "2"}, options));
  CHECK(options.expiry == "2");
}

TEST_CASE("options of SET that contradict each other, or are unknown, are syntax errors") {
  SetOptions options;
  for (const List& words :
       {List{"NX", "XX"}, List{"XX", "NX"}, List{"EX"}, List{"EX", "1", "PX", "1"},
        List{"EX", "1", "KEEPTTL"}, List{"KEEPTTL", "EX", "1"}, List{"EXAT", "1", "EX", "1"},
        List{"PERSIST"}, List{"what"}, List{""}, List{"EX ", "1"}, List{"NXX"}}) {
    CAPTURE(words.front());
    CHECK(!parses(words, options));
  }
}

TEST_CASE("options of GETEX") {
  SetOptions options;
  CHECK(parses({"PERSIST"}, options, OptionsOf::getex));
  CHECK(options.persist);
  CHECK(parses({"exat", "5"}, options, OptionsOf::getex));
  CHECK(!parses({"PERSIST", "EX", "1"}, options, OptionsOf::getex));
  CHECK(!parses({"EX", "1", "PERSIST"}, options, OptionsOf::getex));
  CHECK(!parses({"NX"}, options, OptionsOf::getex));
  CHECK(!parses({"GET"}, options, OptionsOf::getex));
  CHECK(!parses({"KEEPTTL"}, options, OptionsOf::getex));
}

TEST_CASE("an expiry is an absolute time of milliseconds, checked for every overflow") {
  constexpr uint64_t now_ms = 1'700'000'000'000;
  std::string error;
  CHECK(absolute_expiry("10", ExpiryUnit::ex, now_ms, "set", error) == 1'700'000'010'000);
  CHECK(absolute_expiry("10", ExpiryUnit::px, now_ms, "set", error) == 1'700'000'000'010);
  CHECK(absolute_expiry("10", ExpiryUnit::exat, now_ms, "set", error) == 10'000);
  CHECK(absolute_expiry("10", ExpiryUnit::pxat, now_ms, "set", error) == 10);
  CHECK(error == "");
  for (const char* text : {"0", "-1", "9223372036854775807", "9223372036854775"}) {
    CAPTURE(text);
    CHECK(!absolute_expiry(text, ExpiryUnit::ex, now_ms, "setex", error));
    CHECK(error == "ERR invalid expire time in 'setex' command");
  }
  CHECK(!absolute_expiry("9223372036854775807", ExpiryUnit::px, now_ms, "set", error));
  CHECK(absolute_expiry("9223372036854775807", ExpiryUnit::pxat, now_ms, "set", error));
  for (const char* text : {"", "1.5", "x", " 1", "9223372036854775808", "+1", "01"}) {
    CAPTURE(text);
    CHECK(!absolute_expiry(text, ExpiryUnit::ex, now_ms, "set", error));
    CHECK(error == error_text::not_integer);
  }
}

TEST_CASE("EXPIRE takes times of the past, and checks overflow both ways") {
  constexpr uint64_t now_ms = 1'700'000'000'000;
  std::string error;
  CHECK(expire_time("-1", ExpiryUnit::ex, now_ms, "expire", error) == 1'699'999'999'000);
  CHECK(expire_time("-9223372036854775808", ExpiryUnit::pxat, now_ms, "pexpireat", error) ==
        INT64_MIN);
  CHECK(expire_time("0", ExpiryUnit::exat, now_ms, "expireat", error) == 0);
  CHECK(error == "");
  CHECK(!expire_time("9223372036854775807", ExpiryUnit::px, now_ms, "pexpire", error));
  CHECK(error == "ERR invalid expire time in 'pexpire' command");
  CHECK(!expire_time("-9223372036854775808", ExpiryUnit::ex, now_ms, "expire", error));
  CHECK(error == "ERR invalid expire time in 'expire' command");
  CHECK(!expire_time("soon", ExpiryUnit::ex, now_ms, "expire", error));
  CHECK(error == error_text::not_integer);
}

TEST_CASE("conditions of EXPIRE") {
  ExpireConditions conditions;
  CHECK(parse_expire_conditions(List{"XX", "gt"}, conditions) == "");
  CHECK(conditions.if_some);
  CHECK(conditions.greater);
  CHECK(parse_expire_conditions(List{"AB"}, conditions) == "ERR Unsupported option AB");
  for (const char* other : {"XX", "GT", "LT"}) {
    conditions = {};
    CHECK(parse_expire_conditions(List{"NX", other}, conditions) == error_text::nx_and_others);
  }
  conditions = {};
  CHECK(parse_expire_conditions(List{"GT", "LT"}, conditions) == error_text::gt_and_lt);
}

TEST_CASE("without an expiry a key lives for ever, as far as GT and LT go") {
  const ExpireConditions nx{.if_none = true}, xx{.if_some = true}, gt{.greater = true},
      lt{.less = true}, any{};
  CHECK(any.allow(0, 5));
  CHECK(nx.allow(0, 5));
  CHECK(!nx.allow(9, 5));
  CHECK(!xx.allow(0, 5));
  CHECK(xx.allow(9, 5));
  CHECK(!gt.allow(0, 5));
  CHECK(!gt.allow(5, 5));
  CHECK(gt.allow(4, 5));
  CHECK(lt.allow(0, 5));
  CHECK(!lt.allow(5, 5));
  CHECK(lt.allow(6, 5));
}

}  // namespace
}  // namespace gyre
