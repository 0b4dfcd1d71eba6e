#include "resp/command_parser.hpp"

#include <doctest/doctest.h>

#include <climits>

#include "parse_commands.hpp"
#include "resp/number_text.hpp"

using namespace gyre;
using namespace gyre::test;
using Words = std::vector<std::string>;

namespace {

// However it is cut, the same comes out.
ParsedCommands parsed(std::string_view bytes, const resp::CommandLimits& limits = {}) {
  const ParsedCommands whole = parse_commands(bytes, bytes.size() + 1, limits);
  CHECK(whole.broken == "");
  for (size_t piece = 1; piece < std::min<size_t>(bytes.size(), 40); ++piece) {
    CAPTURE(piece);
    CHECK(parse_commands(bytes, piece, limits) == whole);
  }
  return whole;
}

std::string error_of(std::string_view bytes, const resp::CommandLimits& limits = {}) {
  return parsed(bytes, limits).error;
}

std::string bulk(std::string_view bytes) {
  return "$" + std::to_string(bytes.size()) + "\r\n" + std::string(bytes) + "\r\n";
}

}  // namespace

TEST_CASE("whole numbers have one spelling") {
  CHECK(resp::parse_integer("0") == 0);
  CHECK(resp::parse_integer("-1") == -1);
  CHECK(resp::parse_integer("9223372036854775807") == INT64_MAX);
  CHECK(resp::parse_integer("-9223372036854775808") == INT64_MIN);
  for (const char* text :
       {"", "-", "+1", "01", "-0", "-01", " 1", "1 ", "1x", "0x1", "00", "9223372036854775808",
        "-9223372036854775809", "18446744073709551616", "123456789012345678901"}) {
    CAPTURE(text);
    CHECK_FALSE(resp::parse_integer(text).has_value());
  }
  CHECK_FALSE(resp::parse_integer(std::string_view("1\0", 2)).has_value());
}

TEST_CASE("commands come as arrays of bulk strings with any bytes in them") {
  const std::string binary("\0\r\n*1\r\n$3 \xff", 12);
  const ParsedCommands out = parsed("*1\r\n$4\r\nPING\r\n*3\r\n$3\r\nSET\r\n$0\r\n\r\n" +
                                    bulk(binary) + "*2\r\n$3\r\nGET\r\n" + bulk("key"));
  CHECK(out.commands == std::vector<Words>{{"PING"}, {"SET", "", binary}, {"GET", "key"}});
  CHECK(out.error == "");
  CHECK(out.idle);
}

TEST_CASE("empty lines and arrays of none are passed over") {
  const ParsedCommands out =
      parsed("\r\n*0\r\n*-10\r\n\n  \r\nPING\r\n*-1\r\n*1\r\n$4\r\nQUIT\r\n");
  CHECK(out.commands == std::vector<Words>{{"PING"}, {"QUIT"}});
  CHECK(out.idle);
}

TEST_CASE("a command under way is no idle connection") {
  CHECK_FALSE(parsed("*1\r\n").idle);
  CHECK_FALSE(parsed("*").idle);
  CHECK_FALSE(parsed("PIN").idle);
  CHECK_FALSE(parsed("*1\r\n$4\r\nPING\r").idle);
}

TEST_CASE("a line of words, with quotes") {
  const auto words = [](std::string_view line) {
    const ParsedCommands out = parsed(std::string(line) + "\r\n");
    CHECK(out.error == "");
    return out.commands.empty() ? Words{} : out.commands[0];
  };
  CHECK(words("SET key value") == Words{"SET", "key", "value"});
  CHECK(words(" \t SET\t key   value  ") == Words{"SET", "key", "value"});
  CHECK(words("SET \"a key\" 'a value'") == Words{"SET", "a key", "a value"});
  CHECK(words(R"(SET "\x41\x4a\n\r\t\b\a\"\\\q" x)") == Words{"SET", "AJ\n\r\t\b\a\"\\q", "x"});
  CHECK(words(R"(SET '\x41\n\'' "")") == Words{"SET", R"(\x41\n')", ""});
  CHECK(words(R"(SET "\x4" "\xzz" "\x")") == Words{"SET", "x4", "xzz", "x"});
  CHECK(words("foo\"bar baz\" x") == Words{"foobar baz", "x"});
  CHECK(words("it's' x") == Words{"its", "x"});
  CHECK(words("") == Words{});
  CHECK(words("$\x7f *") == Words{"$\x7f", "*"});
  const ParsedCommands unix_lines = parsed("PING\nECHO x\n");
  CHECK(unix_lines.commands == std::vector<Words>{{"PING"}, {"ECHO", "x"}});
  CHECK(unix_lines.inline_forms == std::vector<bool>{true, true});
}

TEST_CASE("quotes that don't match are refused") {
  for (const char* line : {"set \"\"\"test-key\"\"\" test-value", "get \"a", "get 'a", "get \"a\"b",
                           "get 'a'b", "get 'a\\'", "get \"a\\\""}) {
    CAPTURE(line);
    CHECK(error_of(std::string(line) + "\r\n") == "Protocol error: unbalanced quotes in request");
  }
}

TEST_CASE("framing that makes no sense is refused in Redis' words") {
  CHECK(error_of("*3000000000\r\n") == "Protocol error: invalid multibulk length");
  CHECK(error_of("*20000001\r\n") == "Protocol error: invalid multibulk length");
  CHECK(error_of("*blabla\r\n") == "Protocol error: invalid multibulk length");
  CHECK(error_of("*\r\n") == "Protocol error: invalid multibulk length");
  CHECK(error_of("*1 \r\n") == "Protocol error: invalid multibulk length");
  CHECK(error_of("*99999999999999999999999999999999999999999\r\n") ==
        "Protocol error: invalid multibulk length");
  CHECK(error_of("*3\r\n$3\r\nSET\r\n$1\r\nx\r\nfooz\r\n") ==
        "Protocol error: expected '$', got 'f'");
  CHECK(error_of("*1\r\n\r\n") == "Protocol error: expected '$', got '\r'");
  CHECK(error_of("*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$-10\r\n") ==
        "Protocol error: invalid bulk length");
  CHECK(error_of("*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$2000000000\r\n") ==
        "Protocol error: invalid bulk length");
  CHECK(error_of("*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$blabla\r\n") ==
        "Protocol error: invalid bulk length");
  CHECK(error_of("*1\r\n$9223372036854775807\r\n") == "Protocol error: invalid bulk length");
  CHECK(error_of("*1\r\n$4\r\nPINGxx") == "Protocol error: expected CR LF behind a bulk string");
  CHECK(error_of("*1\r\n$4\r\nPING\rx") == "Protocol error: expected CR LF behind a bulk string");
  CHECK(error_of("*1\rx") == "Protocol error: invalid multibulk length");
}

TEST_CASE("lines without an end are refused") {
  const std::string much(70'000, 'A');
  CHECK(parse_commands(much, 1000).error == "Protocol error: too big inline request");
  CHECK(parse_commands("*" + much, 1000).error == "Protocol error: too big mbulk count string");
  CHECK(parse_commands("*1\r\n$" + much, 1000).error ==
        "Protocol error: too big bulk count string");
  CHECK(parse_commands("*" + much, 1000).held_bytes_most < 100);
  const std::string nul(1, '\0');
  CHECK(parse_commands(nul + much, 1000).error == "Protocol error: too big inline request");
  CHECK(parse_commands("*" + nul + much, 1000).error ==
        "Protocol error: too big mbulk count string");
}

TEST_CASE("what was announced is not allocated") {
  const ParsedCommands many = parse_commands("*1000000\r\n$3\r\nGET\r\n", 100);
  CHECK(many.error == "");
  CHECK(many.held_bytes_most < 2000);
  const ParsedCommands large = parse_commands("*2\r\n$3\r\nGET\r\n$536870912\r\nabc", 100);
  CHECK(large.error == "");
  CHECK(large.held_bytes_most < 2000);
}

TEST_CASE("a long argument is held once, and never in more than was announced") {
  const std::string value(1u << 20, 'v');
  const ParsedCommands out = parse_commands("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n" + bulk(value), 10'000);
  REQUIRE(out.commands.size() == 1);
  CHECK(out.commands[0][2] == value);
  CHECK(out.held_bytes_most < value.size() + 10'000);
}

TEST_CASE("limits of one argument, of all, and of their number") {
  const resp::CommandLimits limits{
      .args_max = 3, .bulk_bytes_max = 10, .command_bytes_max = 60, .inline_bytes_max = 30};
  CHECK(error_of("*3\r\n$1\r\na\r\n$1\r\nb\r\n$10\r\n0123456789\r\n", limits) == "");
  CHECK(error_of("*4\r\n", limits) == "Protocol error: invalid multibulk length");
  CHECK(error_of("*1\r\n$11\r\n", limits) == "Protocol error: invalid bulk length");
  CHECK(error_of("*3\r\n$6\r\n012345\r\n$5\r\n01234\r\n$2\r\n", limits) ==
        "Protocol error: too big command");
  CHECK(error_of("PING 0123456789 0123456789 0123456789\r\n", limits) ==
        "Protocol error: too big inline request");
}

TEST_CASE("little is taken before a password was told, and limits change between commands") {
  const auto limits = resp::CommandLimits::before_authentication();
  CHECK(error_of("*11\r\n", limits) == "Protocol error: unauthenticated multibulk length");
  CHECK(error_of("*1\r\n$16385\r\n", limits) == "Protocol error: unauthenticated bulk length");
  CHECK(error_of("a b c d e f g h i j k\r\n", limits) ==
        "Protocol error: unauthenticated multibulk length");
  resp::CommandParser parser(limits);
  const std::string_view first = "*1\r\n$4\r\nAUTH\r\n";
  CHECK(parser.feed(first).event == resp::CommandParser::Event::command);
  parser.set_limits({});
  CHECK(parser.feed("*11\r\n").event == resp::CommandParser::Event::need_more);
}

TEST_CASE("arguments that have come whole are not copied") {
  const std::string bytes = "*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n";
  resp::CommandParser parser;
  REQUIRE(parser.feed(bytes).event == resp::CommandParser::Event::command);
  CHECK(parser.command()[1].data() == bytes.data() + 17);
}

TEST_CASE("a command in pieces gives its memory back") {
  resp::CommandParser parser;
  const std::string value(100'000, 'v');
  const std::string bytes = "*2\r\n$4\r\nECHO\r\n" + bulk(value);
  CHECK(parser.feed(std::string_view(bytes).substr(0, 50'000)).event ==
        resp::CommandParser::Event::need_more);
  CHECK(parser.held_bytes() >= 40'000);
  CHECK(parser.held_bytes_soon() >= value.size());
  CHECK(parser.feed(std::string_view(bytes).substr(50'000)).event ==
        resp::CommandParser::Event::command);
  CHECK(parser.feed("").event == resp::CommandParser::Event::need_more);
  CHECK(parser.held_bytes() <= resp::CommandParser::held_bytes_kept);
}
