// Every row of tests/contract/requests.txt through the parser: in one piece, byte by byte, and cut
// in two at every offset (at some hundred offsets for the long rows).
#include "../contract/request_table.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <memory>
#include <set>

#include "parse_stream.hpp"

using gyre::test::ParsedStream;
using gyre::test::RequestRow;
using gyre::test::StreamReader;

namespace {

constexpr uint64_t value_bytes_max = 16u << 20;

// Each piece is copied to a buffer of exactly its size, so that the address sanitizer sees any read
// beyond it and any view that outlives it.
void feed_piece(StreamReader& reader, std::string_view piece) {
  const auto exact = std::make_unique<char[]>(piece.size());
  std::copy(piece.begin(), piece.end(), exact.get());
  const bool held = reader.feed({exact.get(), piece.size()});
  CHECK_MESSAGE(held, reader.broken());
}

ParsedStream parse_whole(const std::string& bytes) {
  StreamReader reader(value_bytes_max);
  feed_piece(reader, bytes);
  return reader.finish();
}
ParsedStream parse_bytewise(const std::string& bytes) {
  StreamReader reader(value_bytes_max);
  for (char c : bytes) feed_piece(reader, {&c, 1});
  return reader.finish();
}
ParsedStream parse_cut(const std::string& bytes, size_t cut) {
  StreamReader reader(value_bytes_max);
  feed_piece(reader, std::string_view(bytes).substr(0, cut));
  feed_piece(reader, std::string_view(bytes).substr(cut));
  return reader.finish();
}

void check_outcome(const RequestRow& row, const ParsedStream& parsed) {
  const bool refused = !row.answers.empty() && row.answers.back().by_parser;
  const size_t complete = row.answers.size() - (refused ? 1 : 0);
  const auto complete_seen = std::count_if(parsed.requests.begin(), parsed.requests.end(),
                                           [](const auto& request) { return request.complete; });
  CHECK(static_cast<size_t>(complete_seen) == complete);
  if (refused) {
    const auto& allowed = row.answers.back().statuses;
    CHECK_MESSAGE(std::count(allowed.begin(), allowed.end(), parsed.error_status) == 1,
                  "status " << parsed.error_status << ": " << parsed.error_reason);
    CHECK(!parsed.error_reason.empty());
    CHECK(row.end == RequestRow::End::close);
  } else {
    CHECK_MESSAGE(parsed.error_status == 0, parsed.error_reason);
  }
  CHECK(parsed.ended == (row.end == RequestRow::End::close));
  if (row.end == RequestRow::End::keep) CHECK(parsed.idle);
  const bool expects = std::any_of(parsed.requests.begin(), parsed.requests.end(),
                                   [](const auto& request) { return request.expect_continue; });
  CHECK(expects == (row.interim != RequestRow::Interim::none));
  if (row.content) {
    std::string content;
    for (const auto& request : parsed.requests) content += request.body;
    CHECK(content == *row.content);
  }
}

void check_group(std::string_view group) {
  for (const RequestRow& row : gyre::test::read_request_table(GYRE_REQUEST_TABLE)) {
    if (row.group != group) continue;
    INFO("row " << row.id);
    const std::string bytes = row.send + row.after;
    const ParsedStream whole = parse_whole(bytes);
    check_outcome(row, whole);
    const bool same_bytewise = parse_bytewise(bytes) == whole;
    CHECK(same_bytewise);
    const size_t step = bytes.size() < 2000 ? 1 : bytes.size() / 150;
    for (size_t cut = 1; cut < bytes.size(); cut += step) {
      const bool same = parse_cut(bytes, cut) == whole;
      CHECK_MESSAGE(same, "cut at " << cut);
    }
  }
}

}  // namespace

TEST_CASE("the table has its groups, and every row says what it tests") {
  std::set<std::string> ids;
  std::set<std::string> groups;
  for (const RequestRow& row : gyre::test::read_request_table(GYRE_REQUEST_TABLE)) {
    INFO("row " << row.id);
    CHECK(ids.insert(row.id).second);
    groups.insert(row.group);
    CHECK(!row.clause.empty());
    CHECK(!row.send.empty());
    CHECK((!row.answers.empty() || row.end == RequestRow::End::wait));
    for (size_t i = 0; i + 1 < row.answers.size(); ++i) CHECK(!row.answers[i].by_parser);
  }
  CHECK(ids.size() >= 170);
  CHECK(groups == std::set<std::string>{"compliance", "limits", "malformed", "smuggling"});
}

TEST_CASE("compliance rows are read as the RFC says, however they are split") {
  check_group("compliance");
}
TEST_CASE("malformed rows are refused once, however they are split") {
  check_group("malformed");
}
TEST_CASE("smuggling rows give no second request, however they are split") {
  check_group("smuggling");
}
TEST_CASE("limits are known as early as they can be, however requests are split") {
  check_group("limits");
}
