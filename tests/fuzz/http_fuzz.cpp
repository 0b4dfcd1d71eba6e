// Arbitrary bytes as a client's stream and as a server's: nothing is read beyond what was fed, the
// outcome doesn't depend on how the stream was split, no request follows an error or the end of the
// connection, and a body has the length that was announced (StreamReader checks the last three).
#include <algorithm>
#include <array>
#include <memory>
#include <string_view>

#include "../contract/request_table.hpp"
#include "../http/parse_stream.hpp"
#include "fuzz.hpp"
#include "http/etag.hpp"
#include "http/response_parser.hpp"
#include "http/target.hpp"

namespace {

using gyre::http::ResponseParser;

// Calls `feed` with exact-size copies of the pieces.
template <class Feed>
void in_pieces(std::string_view bytes, size_t piece_size, Feed feed) {
  while (!bytes.empty()) {
    const std::string_view piece = bytes.substr(0, piece_size);
    const auto exact = std::make_unique<char[]>(piece.size());
    std::copy(piece.begin(), piece.end(), exact.get());
    feed(std::string_view(exact.get(), piece.size()));
    bytes.remove_prefix(piece.size());
  }
}

gyre::test::ParsedStream requests_of(std::string_view bytes, size_t piece_size) {
  gyre::test::StreamReader reader(1u << 20);
  in_pieces(bytes, piece_size, [&](std::string_view piece) { FUZZ_CHECK(reader.feed(piece)); });
  gyre::test::ParsedStream out = reader.finish();
  // Where both readings object to the same line, the split decides which of the two is heard first.
  out.error_reason.clear();
  return out;
}

std::string responses_of(std::string_view bytes, size_t piece_size) {
  ResponseParser parser;
  std::string seen;
  bool failed = false;
  const auto drain = [&](std::string_view piece) {
    while (!failed) {
      const ResponseParser::Step step = parser.feed(piece);
      FUZZ_CHECK(step.consumed <= piece.size());
      piece.remove_prefix(step.consumed);
      if (step.event == ResponseParser::Event::need_more) {
        FUZZ_CHECK(piece.empty());
        return;
      }
      failed = step.event == ResponseParser::Event::error;
      if (step.event == ResponseParser::Event::body) {
        FUZZ_CHECK(!step.body.empty());
        seen += step.body;
        continue;
      }
      seen += "|" + std::to_string(static_cast<int>(step.event));
      if (!failed)
        seen += ":" + std::to_string(parser.status()) + std::string(parser.field("etag"));
      if (failed) FUZZ_CHECK(!parser.error().empty());
    }
  };
  in_pieces(bytes, piece_size, drain);
  if (!failed) seen += "|end " + std::to_string(static_cast<int>(parser.end_of_stream().event));
  return seen;
}

void check_target(std::string_view text) {
  std::array<char, 64> scratch;
  for (const auto plus : {gyre::http::Plus::is_plus, gyre::http::Plus::is_space}) {
    const gyre::http::Decoded decoded = gyre::http::percent_decode(text, scratch, plus);
    using Status = gyre::http::Decoded::Status;
    if (decoded.status == Status::ok) FUZZ_CHECK(decoded.text.size() <= text.size());
    if (decoded.status != Status::too_long) {
      FUZZ_CHECK((decoded.status == Status::ok) == gyre::http::is_well_encoded(text));
    }
  }
  const auto parsed = gyre::http::parse_parameters(text, scratch);
  if (parsed.error.empty()) gyre::http::resolve_replicas(parsed.parameters, 3, 3);
  gyre::http::if_none_match_matches(text, {1, 2});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const size_t piece_size = size == 0 ? 1 : 2 + data[size / 2] % 61;

  const gyre::test::ParsedStream requests = requests_of(bytes, size + 1);
  FUZZ_CHECK(requests_of(bytes, 1) == requests);
  FUZZ_CHECK(requests_of(bytes, piece_size) == requests);

  const std::string responses = responses_of(bytes, size + 1);
  FUZZ_CHECK(responses_of(bytes, 1) == responses);
  FUZZ_CHECK(responses_of(bytes, piece_size) == responses);

  check_target(bytes);
  return 0;
}

std::vector<std::string> fuzz_seeds() {
  std::vector<std::string> seeds = {
      "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: \"x\"\r\n\r\nhello",
      "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n",
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n",
      "HTTP/1.0 200 OK\r\n\r\nuntil the end",
      "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno",
      "id=a%20b&replicas=2/3&ttl_ms=5&scope=node",
      "start=a+b&end=%ff&ack=1&from=2&x=%zz",
      "\"00000000000000010000000000000002\", W/\"x\", *",
  };
  for (const auto& row : gyre::test::read_request_table(GYRE_REQUEST_TABLE)) {
    if (row.send.size() < 2000) seeds.push_back(row.send + row.after);
  }
  return seeds;
}
