#include "node/config_values.hpp"

#include <doctest/doctest.h>

#include <array>

namespace gyre {

TEST_CASE("a size is a number of bytes or of 1024-based units") {
  CHECK(parse_size("0").value() == 0);
  CHECK(parse_size("4096").value() == 4096);
  CHECK(parse_size("4096B").value() == 4096);
  CHECK(parse_size("64K").value() == 64u << 10);
  CHECK(parse_size("128m").value() == 128u << 20);
  CHECK(parse_size("2GiB").value() == 2ull << 30);
  CHECK(parse_size("1T").value() == 1ull << 40);
}

TEST_CASE("what is not a size is refused and says what is one") {
  for (const char* text : {"", "M", "128Q", "1.5G", "-1", "+1", " 1", "1 ", "1MB", "0x10"}) {
    CAPTURE(text);
    const auto size = parse_size(text);
    REQUIRE_FALSE(size.has_value());
    CHECK(size.error().detail.find("such as 128M") != std::string::npos);
  }
  CHECK_FALSE(parse_size("18446744073709551616").has_value());
  CHECK_FALSE(parse_size("99999999T").has_value());
}

TEST_CASE("a duration needs its unit") {
  CHECK(parse_duration_ms("250ms").value() == 250);
  CHECK(parse_duration_ms("10s").value() == 10'000);
  CHECK(parse_duration_ms("5m").value() == 300'000);
  CHECK(parse_duration_ms("1h").value() == 3'600'000);
  for (const char* text : {"", "10", "s", "1.5s", "10 s", "10S", "-1s", "99999999999999999999s"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_duration_ms(text).has_value());
  }
}

TEST_CASE("sizes and durations print as text that reads back the same") {
  for (const uint64_t bytes : {0ull, 1ull, 1023ull, 1024ull, 1536ull, 16ull << 20, 3ull << 40}) {
    CHECK(parse_size(format_size(bytes)).value() == bytes);
  }
  for (const uint64_t ms : {0ull, 1ull, 999ull, 1000ull, 1500ull, 60'000ull, 7'200'000ull}) {
    CHECK(parse_duration_ms(format_duration_ms(ms)).value() == ms);
  }
  CHECK(format_size(16u << 20) == "16M");
  CHECK(format_size(1536) == "1536");
  CHECK(format_duration_ms(90'000) == "90s");
}

TEST_CASE("loopback addresses are those of this machine only") {
  for (const char* host : {"127.0.0.1", "127.1.2.3", "::1"}) CHECK(is_loopback_address(host));
  for (const char* host :
       {"0.0.0.0", "::", "10.0.0.1", "128.0.0.1", "::ffff:127.0.0.1", "1.127.0.1"})
    CHECK_FALSE(is_loopback_address(host));
}

TEST_CASE("an address is a numeric host and a port") {
  CHECK(parse_address("127.0.0.1:8080").value() == Address{"127.0.0.1", 8080});
  CHECK(parse_address("localhost:80").value() == Address{"127.0.0.1", 80});
  CHECK(parse_address("9000").value() == Address{"127.0.0.1", 9000});
  CHECK(parse_address("0.0.0.0:0").value() == Address{"0.0.0.0", 0});
  CHECK(parse_address("[::1]:8080").value() == Address{"::1", 8080});
  CHECK(parse_address("[::1]:8080")->to_string() == "[::1]:8080");
  for (const char* text :
       {"", ":8080", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "1.2.3:80", "::1:8080", "[]:80",
        "[127.0.0.1]:80", "example.org:80", "127.0.0.1:8o"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_address(text).has_value());
  }
}

TEST_CASE("the URL of a node has a host, a port and nothing else") {
  CHECK(parse_node_url("http://10.0.0.1:8080").value() == "http://10.0.0.1:8080");
  CHECK(parse_node_url("http://node-1:8080/").value() == "http://node-1:8080");
  for (const char* text :
       {"", "http://", "https://a:1", "a:1", "http://a", "http://a:0", "http://:1", "http://a:1/x",
        "http://u@a:1", "http://a:1?x", "http://a:99999"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_node_url(text).has_value());
  }
}

TEST_CASE("the closest word is suggested, and none when all are far") {
  constexpr std::array<std::string_view, 4> words = {"listen", "memory", "max-value", "data"};
  CHECK(closest("lisen", words) == "listen");
  CHECK(closest("memroy", words) == "memory");
  CHECK(closest("mem", words) == "memory");
  CHECK(closest("value", words) == "max-value");
  CHECK(closest("date", words) == "data");
  CHECK(closest("frobnicate", words).empty());
  CHECK(closest("", words).empty());
}

}  // namespace gyre
