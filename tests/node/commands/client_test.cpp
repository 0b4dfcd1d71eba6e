// What the client commands are made of: the text form of records, progress, and the loader against
// a node that refuses, hangs up and forgets.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <map>
#include <string>
#include <vector>

#include <gyre/scope.hpp>
#include <gyre/socket.hpp>

#include "../../store/sim_rig.hpp"
#include "http/target.hpp"
#include "node/commands/admin_verbs.hpp"
#include "node/commands/loader.hpp"
#include "node/commands/record_text.hpp"
#include "node/progress.hpp"

using namespace gyre;
using namespace gyre::test;

TEST_CASE("any bytes survive as a line of text") {
  std::string all;
  for (int c = 0; c < 256; ++c) all += static_cast<char>(c);
  for (const std::string& value : {all, std::string(), std::string("\\n\\t\\\\"), all + all}) {
    std::string line;
    append_escaped(line, all);
    line += '\t';
    append_escaped(line, value);
    CHECK(line.find('\n') == std::string::npos);
    Result<TextRecord> record = parse_record_line(line);
    REQUIRE(record);
    CHECK(record->key == all);
    CHECK(record->value == value);
  }
  std::string escaped;
  append_escaped(escaped, "a\tb\nc\\d");
  CHECK(escaped == "a\\tb\\nc\\\\d");
}

TEST_CASE("a line that is no record is refused with what is wrong with it") {
  const auto wrong = [](std::string_view line) {
    Result<TextRecord> record = parse_record_line(line);
    return record ? std::string() : record.error().detail;
  };
  CHECK(wrong("key\tvalue").empty());
  CHECK(wrong("key\t").empty());
  CHECK(wrong("key\ta\tb").empty());
  CHECK(wrong("") == "has no tab between key and value");
  CHECK(wrong("key value") == "has no tab between key and value");
  CHECK(wrong("\tvalue") == "has an empty key");
  CHECK(wrong("k\\x\tv").starts_with("has a backslash"));
  CHECK(wrong("k\tv\\").starts_with("has a backslash"));
  CHECK(wrong(std::string(65537, 'k') + "\tv") ==
        "has a key of 65537 bytes, at most 65536 are allowed");
}

TEST_CASE("progress is told in one line that fits") {
  Progress progress{
      .records = 1234567, .bytes = 50'000'000, .bytes_total = 100'000'000, .elapsed = seconds(10)};
  CHECK(progress_text(progress) == " 50%  1,234,567 records  5.0 MB/s  10 s left");
  CHECK(progress_bar(progress, 200) ==
        "[###############---------------]   50%  1,234,567 records  5.0 MB/s  10 s left");
  for (size_t columns = 0; columns < 120; ++columns) {
    CHECK(progress_bar(progress, columns).size() <= columns);
  }
  progress.bytes_total.reset();
  progress.failed = 3;
  progress.waiting = true;
  CHECK(progress_text(progress) == "1,234,567 records  5.0 MB/s  3 failed  waiting for the node");
  CHECK(progress_bar(progress, 200) == progress_text(progress));
  progress = {.bytes = 2, .bytes_total = 1, .elapsed = seconds(2)};  // the file grew
  CHECK(progress_text(progress) == "100%  0 records  1 B/s");
}

TEST_CASE("sizes, times and numbers are written for people") {
  CHECK(format_bytes(0) == "0 B");
  CHECK(format_bytes(999) == "999 B");
  CHECK(format_bytes(1000) == "1.0 kB");
  CHECK(format_bytes(999'949) == "999.9 kB");
  CHECK(format_bytes(999'999) == "1.0 MB");
  CHECK(format_bytes(UINT64_MAX) == "18.4 EB");
  CHECK(format_rate(100, 0) == "0 B/s");
  CHECK(format_seconds(milliseconds(4200)) == "4.2 s");
  CHECK(format_seconds(seconds(59)) == "59 s");
  CHECK(format_seconds(seconds(65)) == "1m 05s");
  CHECK(format_seconds(seconds(2 * 3600 + 180)) == "2h 03m");
  CHECK(format_number(0) == "0");
  CHECK(format_number(999) == "999");
  CHECK(format_number(1000) == "1,000");
  CHECK(format_number(1234567890) == "1,234,567,890");
}

namespace {

constexpr uint16_t port = 9000;

// A node as the loader sees it, with bad days: each of these happens to every n-th request.
struct BadDays {
  unsigned busy_every = 0;                    // 503 with Retry-After
  unsigned hang_up_every = 0;                 // the connection ends before the answer
  unsigned close_every = 0;                   // the connection ends with the answer
  uint64_t requests_until_gone = UINT64_MAX;  // then every connection is closed at once
};

class FakeNode {
 public:
  explicit FakeNode(BadDays days) : days_(days) {}

  Task<bool> open() {
    Result<void> opened = co_await listener_.open({.address = "127.0.0.1", .port = port});
    co_return opened.has_value();
  }
  Task<void> serve() {
    Scope scope(co_await current_stop(), "connections");
    for (;;) {
      Result<Descriptor> fd = co_await listener_.accept();
      if (!fd) break;
      ++connections;
      scope.spawn(talk(fd->release()));
    }
    scope.request_stop();
    co_await scope.join();
    co_await listener_.close();
  }

  std::map<std::string, std::string> stored;
  uint64_t connections = 0;
  uint64_t requests = 0;
  uint64_t busy = 0;
  uint64_t impatient = 0;  // came while their connection had been asked to wait

 private:
  struct Pause {
    Nanos until = 0;
    unsigned requests = 0;
  };
  Task<void> talk(int fd) {
    Socket socket(fd);
    std::string unread;
    Pause pause;
    while (requests < days_.requests_until_gone) {
      Result<std::string_view> bytes = co_await socket.receive();
      if (!bytes || bytes->empty()) break;
      unread.append(*bytes);
      socket.release();
      bool open = true;
      while (open && take_request(socket, unread, open, pause)) {
      }
      if (!open) break;
    }
    static_cast<void>(co_await socket.drained(0));
    co_await socket.close();
  }
  static bool every(unsigned n, uint64_t request) { return n != 0 && request % n == n - 1; }

  // Answers the request at the front, if it is all there.
  bool take_request(Socket& socket, std::string& unread, bool& open, Pause& pause) {
    const size_t head = unread.find("\r\n\r\n");
    if (head == std::string::npos) return false;
    const size_t length_at = unread.find("Content-Length: ") + 16;
    const size_t length = std::stoul(unread.substr(length_at));
    if (unread.size() < head + 4 + length) return false;
    CHECK(unread.starts_with("PUT /v0/entity?id="));
    const std::string raw_key = unread.substr(18, unread.find(' ', 18) - 18);
    std::string scratch(raw_key.size(), '\0');
    const std::string key(http::percent_decode(raw_key, scratch, http::Plus::is_space).text);
    const std::string value = unread.substr(head + 4, length);
    unread.erase(0, head + 4 + length);
    const uint64_t request = requests++;
    // A full window may have been under way when the pause was asked for.
    if (Reactor::current().now() < pause.until && ++pause.requests > 32) ++impatient;
    if (every(days_.hang_up_every, request)) {
      if (request % 2 == 0) stored[key] = value;  // it may have been stored all the same
      open = false;
      return true;
    }
    if (every(days_.busy_every, request)) {
      ++busy;
      if (Reactor::current().now() >= pause.until) pause = {Reactor::current().after(seconds(2))};
      socket.append(
          "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nContent-Length: 5\r\n\r\nbusy\n");
      return true;
    }
    const bool closes = every(days_.close_every, request);
    const std::string_view connection = closes ? "Connection: close\r\n" : "";
    if (value == "refuse me") {
      socket.append(
          fmt::format("HTTP/1.1 413 Too Large\r\n{}Content-Length: 3\r\n\r\nno\n", connection));
    } else {
      stored[key] = value;
      socket.append(fmt::format("HTTP/1.1 201 Created\r\n{}Content-Length: 0\r\n\r\n", connection));
    }
    open = !closes;
    return true;
  }

  BadDays days_;
  Listener listener_;
};

struct Outcome {
  std::map<std::string, std::string> stored;
  uint64_t records_stored = 0;
  uint64_t failed = 0;
  uint64_t bytes_done = 0;
  uint64_t busy = 0;
  uint64_t impatient = 0;
  uint64_t connections = 0;
  std::vector<std::string> failures;
  std::string given_up;
  bool lost = false;
  Nanos took = 0;
};

Task<void> add_all(Loader* loader, std::vector<LoadItem> items) {
  for (LoadItem& item : items) {
    if (!co_await loader->add(std::move(item))) co_return;
  }
  loader->finish();
}

Task<void> load_into(FakeNode* node, LoaderOptions options, std::vector<LoadItem> items,
                     Outcome* outcome, bool node_is_there) {
  Scope serving(nullptr, "node");
  if (node_is_there) {
    REQUIRE_OR_RETURN(co_await node->open());
    serving.spawn(node->serve());
  }
  const Nanos start = Reactor::current().now();
  Loader loader(options);
  Scope scope(nullptr, "load");
  loader.start(scope);
  scope.spawn(add_all(&loader, std::move(items)));
  co_await scope.join();
  outcome->took = Reactor::current().now() - start;
  serving.request_stop();
  co_await serving.join();
  outcome->stored = node->stored;
  outcome->busy = node->busy;
  outcome->impatient = node->impatient;
  outcome->connections = node->connections;
  outcome->records_stored = loader.stored();
  outcome->failed = loader.failed();
  outcome->bytes_done = loader.bytes_done();
  outcome->failures = loader.failures();
  outcome->given_up = loader.given_up();
  outcome->lost = loader.lost().has_value();
}

Outcome load(uint64_t seed, BadDays days, std::vector<LoadItem> items, bool node_is_there = true,
             uint64_t memory_bytes_max = 20'000) {
  LoaderOptions options;
  options.endpoint = {"127.0.0.1", port};
  options.connections = 3;
  options.memory_bytes_max = memory_bytes_max;
  SimRig rig(seed);
  FakeNode node(days);
  Outcome outcome;
  rig.run(load_into(&node, options, std::move(items), &outcome, node_is_there));
  return outcome;
}

// Keys come again and again: the last value counts.
std::vector<LoadItem> many_items(std::map<std::string, std::string>& expected) {
  std::vector<LoadItem> items;
  for (uint64_t line = 1; line <= 900; ++line) {
    LoadItem item{.line = line,
                  .line_bytes = 10,
                  .key = fmt::format("key {}%\xff", line * 7 % 40),
                  .value = fmt::format("value {}{}", line, std::string(line % 97 * 3, 'x'))};
    if (line == 500) item.value.assign(40'000, 'L');  // more than the whole budget
    expected[item.key] = item.value;
    items.push_back(std::move(item));
  }
  return items;
}

}  // namespace

TEST_CASE("everything is stored, and of records with one key the last, on good and bad days") {
  BadDays days;
  SUBCASE("good") {}
  SUBCASE("busy") {
    days.busy_every = 13;
  }
  SUBCASE("hanging up") {
    days.hang_up_every = 57;
  }
  SUBCASE("closing politely") {
    days.close_every = 29;
  }
  SUBCASE("all of it") {
    days = {.busy_every = 31, .hang_up_every = 67, .close_every = 43};
  }
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    CAPTURE(seed);
    std::map<std::string, std::string> expected;
    // Little memory stops the reader, much of it fills the connections' queues.
    const uint64_t memory_bytes_max = seed % 2 == 0 ? 20'000 : 2'000'000;
    const Outcome outcome = load(seed, days, many_items(expected), true, memory_bytes_max);
    CHECK(outcome.given_up == "");
    CHECK(outcome.records_stored == 900);
    CHECK(outcome.failed == 0);
    CHECK(outcome.bytes_done == 9000);
    CHECK(outcome.stored == expected);
    CHECK((outcome.busy > 0) == (days.busy_every != 0));
    CHECK(outcome.impatient == 0);
    if (days.busy_every != 0) CHECK(outcome.took >= seconds(2));  // as it was asked to wait
    if (days.busy_every == 0 && days.hang_up_every == 0) CHECK(outcome.took < seconds(2));
  }
}

TEST_CASE("what the node refuses for good is counted, and the first ones are shown") {
  std::vector<LoadItem> items;
  for (uint64_t line = 1; line <= 100; ++line) {
    items.push_back({.line = line,
                     .line_bytes = 1,
                     .key = fmt::format("k{}", line),
                     .value = line % 4 == 0 ? "refuse me" : "fine"});
  }
  const Outcome outcome = load(1, {}, std::move(items));
  CHECK(outcome.given_up == "");
  CHECK(outcome.records_stored == 75);
  CHECK(outcome.stored.size() == 75);
  CHECK(outcome.failed == 25);
  CHECK(outcome.bytes_done == 100);
  REQUIRE(outcome.failures.size() == Loader::failures_kept_max);
  CHECK(outcome.failures[0].ends_with(": 413 Too Large: no"));
}

TEST_CASE("a load without a node ends at once, one that loses its node after some patience") {
  std::map<std::string, std::string> expected;
  const Outcome nobody = load(1, {}, many_items(expected), false);
  CHECK(nobody.given_up != "");
  CHECK(nobody.lost);
  CHECK(nobody.records_stored == 0);
  CHECK(nobody.took < seconds(1));

  const Outcome gone = load(2, {.requests_until_gone = 300}, many_items(expected));
  CHECK(gone.given_up != "");
  CHECK(gone.lost);
  CHECK(gone.records_stored > 0);
  CHECK(gone.records_stored < 900);
  CHECK(gone.took >= seconds(1));
}

TEST_CASE("admin goes where the node says, but never to a namesake on this machine") {
  const auto found = [](const char* given, const char* told) {
    const Result<std::string> url = admin_url_from(given, told);
    return url ? *url : "refused";
  };
  CHECK(found("http://127.0.0.1:8080", "http://127.0.0.1:18080") == "http://127.0.0.1:18080");
  CHECK(found("http://localhost:8080", "http://127.0.0.1:18080") == "http://127.0.0.1:18080");
  CHECK(found("http://db7:8080", "http://10.0.0.7:9000") == "http://10.0.0.7:9000");
  CHECK(found("http://db7:8080", "http://0.0.0.0:9000") == "http://db7:9000");
  CHECK(found("http://db7:8080", "http://[::]:9000") == "http://db7:9000");
  CHECK(found("http://db7:8080", "http://127.0.0.1:18080") == "refused");
  CHECK(found("http://db7:8080", "http://[::1]:18080") == "refused");
  CHECK(found("http://db7:8080", "<html>") == "refused");
}

TEST_CASE("a node that stays busy is given up in the end") {
  std::map<std::string, std::string> expected;
  const Outcome outcome = load(3, {.busy_every = 1}, many_items(expected));
  CHECK(outcome.given_up.find("503 Service Unavailable: busy") != std::string::npos);
  CHECK(!outcome.lost);
  CHECK(outcome.records_stored == 0);
  CHECK(outcome.took >= seconds(60));
}
