// Arbitrary bytes as what a client sends and as what a server answers: nothing is read beyond what
// was fed, the outcome doesn't depend on how the stream was split, memory stays within what has come,
// an error is final, every reply whose end was found can be read as a tree; and whatever is written
// as a reply is read back as what it was.
#include <algorithm>
#include <array>
#include <string>
#include <string_view>

#include "../resp/parse_commands.hpp"
#include "../resp/parse_replies.hpp"
#include "fuzz.hpp"
#include "resp/glance.hpp"
#include "resp/number_text.hpp"
#include "resp/reply_writer.hpp"

namespace {

using namespace gyre;
using namespace gyre::test;

constexpr resp::ReplyLimits reply_limits{.reply_bytes_max = 1u << 16, .elements_max = 1u << 12};

// What is seen ahead is what the parser says later.
void check_glance(std::string_view bytes, const resp::CommandLimits& limits) {
  std::array<std::string_view, 8> keys;
  const resp::Glance seen = resp::glance_at(bytes, keys);
  FUZZ_CHECK(seen.bytes <= bytes.size() && seen.keys <= keys.size());
  const ParsedCommands parsed = parse_commands(bytes.substr(0, seen.bytes), seen.bytes + 1, limits);
  if (!parsed.error.empty()) return;  // beyond the limits, which a look doesn't know
  FUZZ_CHECK(parsed.idle);
  size_t at = 0;
  for (const std::vector<std::string>& words : parsed.commands) {
    if (words.size() > 1) FUZZ_CHECK(at < seen.keys && keys[at++] == words[1]);
  }
  FUZZ_CHECK(at == seen.keys);
}

void check_commands(std::string_view bytes, size_t piece_bytes, const resp::CommandLimits& limits) {
  const ParsedCommands whole = parse_commands(bytes, bytes.size() + 1, limits);
  FUZZ_CHECK(whole.broken.empty());
  const ParsedCommands pieces = parse_commands(bytes, piece_bytes, limits);
  FUZZ_CHECK(pieces == whole);
  FUZZ_CHECK(parse_commands(bytes, 1, limits) == whole);
  FUZZ_CHECK(pieces.held_bytes_most <= 64 * bytes.size() + 16'384);
  check_glance(bytes, limits);
}

// Walks over all of it.
size_t count_values(const resp::Reply& reply) {
  size_t count = 1;
  size_t elements = 0;
  for (const resp::Reply element : reply) {
    count += count_values(element);
    ++elements;
  }
  FUZZ_CHECK(elements == reply.size());
  static_cast<void>(reply.integer());
  static_cast<void>(reply.number());
  return count;
}

void check_replies(std::string_view bytes, size_t piece_bytes) {
  const ScannedReplies whole = scan_replies(bytes, bytes.size() + 1, reply_limits);
  FUZZ_CHECK(!whole.error.starts_with("broken"));
  FUZZ_CHECK(scan_replies(bytes, piece_bytes, reply_limits) == whole);
  FUZZ_CHECK(scan_replies(bytes, 1, reply_limits) == whole);
  resp::ReplyTree tree;
  for (size_t i = 0; i < whole.replies.size(); ++i) {
    FUZZ_CHECK(tree.parse(whole.replies[i]));
    FUZZ_CHECK(tree.root().type() == whole.types[i]);
    FUZZ_CHECK(count_values(tree.root()) <= whole.replies[i].size());
  }
  static_cast<void>(tree.parse(bytes));
}

// The bytes as the texts of a reply.
void check_writing(std::string_view bytes) {
  for (const auto protocol : {resp::Protocol::resp2, resp::Protocol::resp3}) {
    std::string out;
    resp::ReplyWriter to(out, protocol);
    to.map(2);
    to.bulk(bytes);
    to.verbatim("txt", bytes);
    to.error(std::string("ERR ").append(bytes));
    to.simple(resp::echo(bytes));
    const ScannedReplies scanned = scan_replies(out, out.size());
    FUZZ_CHECK(scanned.error.empty() && scanned.replies.size() == 1);
    resp::ReplyTree tree;
    FUZZ_CHECK(tree.parse(out));
    FUZZ_CHECK(tree.root().size() == 4);
    FUZZ_CHECK(tree.root()[0].text() == bytes);
    FUZZ_CHECK(tree.root()[1].text() == bytes);
    FUZZ_CHECK(tree.root()[2].is_error());
  }
  if (const auto number = resp::parse_integer(bytes)) {
    FUZZ_CHECK(std::to_string(*number) == bytes);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const size_t piece_bytes = size == 0 ? 1 : 2 + data[size / 2] % 61;
  check_commands(bytes, piece_bytes,
                 {.args_max = 100, .bulk_bytes_max = 4096, .inline_bytes_max = 512});
  check_commands(bytes, piece_bytes, resp::CommandLimits::before_authentication());
  check_replies(bytes, piece_bytes);
  check_writing(bytes.substr(0, 200));
  return 0;
}

std::vector<std::string> fuzz_seeds() {
  return {
      "*1\r\n$4\r\nPING\r\n*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$5\r\nvalue\r\n",
      "*2\r\n$3\r\nGET\r\n$0\r\n\r\n*0\r\n*-1\r\n\r\nPING\r\n",
      "SET \"a \\x41\\n\" 'b\\'c' d\"e f\"\r\nECHO x\n",
      "*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$-10\r\n",
      "*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n*11\r\n",
      "POST / HTTP/1.1\r\nHost: 127.0.0.1:6379\r\n\r\n",
      "+OK\r\n-ERR no\r\n:12\r\n$5\r\nhello\r\n$-1\r\n*-1\r\n",
      "%2\r\n$6\r\nserver\r\n$5\r\nredis\r\n$5\r\nproto\r\n:3\r\n",
      "|1\r\n+ttl\r\n:3600\r\n*2\r\n_\r\n~1\r\n#t\r\n,1.5\r\n(123\r\n!5\r\nERR x\r\n",
      ">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n=8\r\ntxt:some\r\n",
      "*1\r\n*1\r\n*1\r\n*1\r\n*2\r\n:1\r\n,inf\r\n",
  };
}
