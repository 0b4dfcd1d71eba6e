// Every row of requests.txt over a real socket: only allowed answers come, in order, the connection
// ends where it must and nowhere else, and a good request on a new connection is served after each
// bad one.
#include <doctest/doctest.h>

#include <algorithm>
#include <string>

#include "http_client.hpp"
#include "node_process.hpp"
#include "request_table.hpp"

using namespace gyre::test;
using End = RequestRow::End;

namespace {

bool allows(const RequestRow::Answer& allowed, int status) {
  return std::find(allowed.statuses.begin(), allowed.statuses.end(), status) !=
         allowed.statuses.end();
}

void expect_good_service(uint16_t port) {
  HttpClient client(port);
  const HttpAnswer put = client.put(entity("good"), "served");
  CHECK(put.status == 201);
  CHECK(client.get(entity("good")).body == "served");
}

// One answer after the other; the connection is left as the row's end says.
void drive(const RequestRow& row, uint16_t port) {
  HttpClient client(port);
  client.send(row.send + row.after);
  std::vector<int> interim;
  std::string last_body;
  int last_status = 0;
  for (const RequestRow::Answer& allowed : row.answers) {
    const HttpAnswer answer = client.read_answer(row.answers_head);
    interim.insert(interim.end(), answer.interim.begin(), answer.interim.end());
    last_body = answer.body;
    last_status = answer.status;
    CHECK_MESSAGE(allows(allowed, answer.status),
                  "status " << answer.status << ": " << answer.body);
    if (answer.status >= 400 && !row.answers_head) {
      // One line that says what was wrong.
      CHECK(std::count(answer.body.begin(), answer.body.end(), '\n') == 1);
      CHECK(answer.body.size() > 3);
    }
    if (answer.status == 405) CHECK(answer.has("allow"));
    if (row.end == End::close && &allowed == &row.answers.back()) {
      CHECK(answer.header("connection") == "close");
    }
  }
  for (const int status : interim) CHECK(status == 100);
  if (row.interim == RequestRow::Interim::none) CHECK(interim.empty());
  if (row.interim == RequestRow::Interim::must && last_status < 400 && row.end != End::wait) {
    CHECK(!interim.empty());
  }
  if (row.body) CHECK(last_body == *row.body);

  if (row.end == End::close) {
    const std::string more = client.read_to_end();
    CHECK_MESSAGE(more.empty(), "a second answer: " << more.substr(0, 200));
  } else if (row.end == End::keep) {
    // Still in step: the next request on this connection is understood.
    const HttpAnswer next = client.get("/v0/status");
    CHECK(next.status == 200);
    CHECK(next.body.empty());
  } else {
    if (row.interim == RequestRow::Interim::must) {
      CHECK(client.read_some() == "HTTP/1.1 100 Continue\r\n\r\n");
    }
    CHECK(!client.has_bytes());
    client.finish_sending();  // the request will never be whole: nothing good may be answered
    const std::string more = client.read_to_end();
    CHECK_MESSAGE((more.empty() || more.starts_with("HTTP/1.1 4")), more.substr(0, 200));
  }
}

void drive_group(std::string_view group) {
  NodeProcess node;
  size_t rows = 0;
  for (const RequestRow& row : read_request_table(GYRE_REQUEST_TABLE)) {
    if (row.group != group) continue;
    ++rows;
    INFO("row " << row.id);
    try {
      drive(row, node.port());
    } catch (const std::exception& error) {
      FAIL_CHECK("row " << row.id << ": " << error.what());
    }
    if (row.end != End::keep) expect_good_service(node.port());
    REQUIRE(!node.wait(0).ended);
  }
  expect_good_service(node.port());
  CHECK(rows > 10);
  CHECK(node.stop().code == 0);
}

}  // namespace

TEST_CASE("compliance rows are answered as allowed") {
  drive_group("compliance");
}
TEST_CASE("malformed rows are refused once and leave the node well") {
  drive_group("malformed");
}
TEST_CASE("smuggling rows give no second answer") {
  drive_group("smuggling");
}
TEST_CASE("rows at and over the limits are answered as allowed") {
  drive_group("limits");
}
