// The HTTP table of the contract, row by row, as far as one node goes; the request table has the
// rules about bytes, this file those about meaning.
#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <string>
#include <thread>

#include "http_client.hpp"
#include "node_process.hpp"

using namespace gyre::test;

namespace {

constexpr size_t mebibyte = 1u << 20;

struct HttpRules {
  NodeProcess node;
  HttpClient client{node.port()};

  // One line that says what is wrong; the connection is as good as before.
  void expect_refusal(const HttpAnswer& answer, int status) {
    CHECK(answer.status == status);
    CHECK(answer.body.size() > 5);
    CHECK(answer.body.find('\n') == answer.body.size() - 1);
    CHECK(client.get("/v0/status").status == 200);
  }
};

}  // namespace

TEST_CASE_FIXTURE(HttpRules, "HEAD answers as GET, without the body") {
  const std::string value = random_bytes(1, 1000);
  CHECK(client.put(entity("k"), value).status == 201);
  HttpAnswer get = client.get(entity("k"));
  HttpAnswer head = client.head(entity("k"));
  CHECK(head.status == 200);
  CHECK(head.headers.erase("date") == 1);  // a second may have passed
  CHECK(get.headers.erase("date") == 1);
  CHECK(head.headers == get.headers);
  CHECK(head.header("content-length") == "1000");
  const HttpAnswer absent = client.head(entity("absent"));
  CHECK(absent.status == 404);
  const std::string large = random_bytes(2, 5 * mebibyte);
  CHECK(client.put(entity("large"), large).status == 201);
  const HttpAnswer head_of_large = client.head(entity("large"));
  CHECK(head_of_large.status == 200);
  CHECK(head_of_large.header("content-length") == std::to_string(large.size()));
  for (const char* path : {"/v0/status", "/livez", "/readyz", "/metrics"}) {
    CHECK(client.head(path).status == 200);
  }
  CHECK(client.get(entity("k")).body == value);  // in step
}

TEST_CASE_FIXTURE(HttpRules, "every answer says when it was made") {
  const std::string large = random_bytes(2, 2 * mebibyte);
  CHECK(client.put(entity("large"), large).status == 201);
  const std::string etag = client.get(entity("large")).header("etag");
  using std::chrono::system_clock;
  const auto check = [&](int status, auto ask) {
    // Not time(): it lags behind the clock by up to a timer tick.
    const time_t before = system_clock::to_time_t(system_clock::now());
    const HttpAnswer answer = ask();
    const time_t after = system_clock::to_time_t(system_clock::now());
    CAPTURE(status);
    CHECK(answer.status == status);
    tm parts{};
    const std::string date = answer.header("date");
    const char* end = strptime(date.c_str(), "%a, %d %b %Y %H:%M:%S GMT", &parts);
    REQUIRE(end != nullptr);
    CHECK(*end == 0);
    // Made in the tick that answers, which may have begun before this request was sent.
    CHECK(timegm(&parts) >= before - 1);
    CHECK(timegm(&parts) <= after);
  };
  for (int round = 0; round < 12; ++round) {
    check(201, [&] { return client.put(entity("k"), "v"); });
    check(200, [&] { return client.get(entity("k")); });
    check(200, [&] { return client.get(entity("large")); });
    check(304, [&] { return client.get(entity("large"), "If-None-Match: " + etag + "\r\n"); });
    check(200, [&] { return client.get(range("a")); });
    check(200, [&] { return client.get("/v0/status"); });
    check(200, [&] { return client.get("/metrics"); });
    check(202, [&] { return client.del(entity("k")); });
    check(404, [&] { return client.get(entity("k")); });
    check(400, [&] { return client.get("/v0/entity"); });
    check(405, [&] { return client.request("POST", "/v0/entity?id=k"); });
    usleep(100'000);
  }
}

TEST_CASE_FIXTURE(HttpRules,
                  "the ETag is the version: If-None-Match answers 304 until it changes") {
  CHECK(client.put(entity("k"), "one").status == 201);
  const HttpAnswer first = client.get(entity("k"));
  const std::string etag = first.header("etag");
  CHECK(etag.size() >= 34);  // 16 bytes in hex, quoted
  CHECK(etag.front() == '"');
  for (const std::string& list : {etag, "\"other\", " + etag, "W/" + etag, std::string("*")}) {
    const HttpAnswer unchanged = client.get(entity("k"), "If-None-Match: " + list + "\r\n");
    CHECK(unchanged.status == 304);
    CHECK(unchanged.header("etag") == etag);
    CHECK(client.head(entity("k"), "If-None-Match: " + list + "\r\n").status == 304);
  }
  CHECK(client.get(entity("k"), "If-None-Match: \"other\"\r\n").body == "one");
  CHECK(client.get(entity("absent"), "If-None-Match: *\r\n").status == 404);
  CHECK(client.put(entity("k"), "one").status == 201);  // the same bytes, another version
  const HttpAnswer second = client.get(entity("k"), "If-None-Match: " + etag + "\r\n");
  CHECK(second.status == 200);
  CHECK(second.header("etag") != etag);
  // The same for a value that is streamed.
  const std::string large = random_bytes(3, 3 * mebibyte);
  CHECK(client.put(entity("large"), large).status == 201);
  const std::string large_etag = client.head(entity("large")).header("etag");
  CHECK(client.get(entity("large"), "If-None-Match: " + large_etag + "\r\n").status == 304);
  CHECK(client.get(entity("large"), "If-None-Match: " + etag + "\r\n").body == large);
}

TEST_CASE_FIXTURE(HttpRules, "an ETag survives flush and restart") {
  CHECK(client.put(entity("k"), "one").status == 201);
  const std::string etag = client.get(entity("k")).header("etag");
  client.close();
  node.stop();
  node.start();
  HttpClient after(node.port());
  CHECK(after.get(entity("k")).header("etag") == etag);
  CHECK(after.get(entity("k"), "If-None-Match: " + etag + "\r\n").status == 304);
}

TEST_CASE_FIXTURE(HttpRules, "conditions that do not exist yet are answered 501, never ignored") {
  CHECK(client.put(entity("k"), "one").status == 201);
  expect_refusal(client.put(entity("k"), "two", "If-Match: \"x\"\r\n"), 501);
  expect_refusal(client.put(entity("k"), "two", "If-None-Match: *\r\n"), 501);
  expect_refusal(client.del(entity("k"), "If-Match: *\r\n"), 501);
  expect_refusal(client.del(entity("k"), "If-None-Match: \"x\"\r\n"), 501);
  expect_refusal(client.get(entity("k"), "If-Match: \"x\"\r\n"), 501);
  CHECK(client.get(entity("k")).body == "one");
}

TEST_CASE_FIXTURE(HttpRules, "other methods on known paths are 405 with Allow") {
  for (const char* method : {"POST", "PATCH", "OPTIONS", "TRACE", "FOO"}) {
    for (const char* path : {"/v0/entity?id=k", "/v0/entities?start=k", "/v0/status", "/metrics"}) {
      const HttpAnswer answer = client.request(method, path);
      CHECK((answer.status == 405 || answer.status == 501));
      if (answer.status == 405) CHECK(answer.header("allow").find("GET") != std::string::npos);
    }
  }
  CHECK(client.request("PUT", "/v0/entities?start=k").status == 405);
  CHECK(client.request("DELETE", "/v0/status").status == 405);
  CHECK(client.get("/v0/status").status == 200);
}

TEST_CASE_FIXTURE(HttpRules, "unknown paths are 400") {
  for (const char* path : {"/", "/v0", "/v0/", "/v0/entity/", "/v0/entity/k", "/v1/entity?id=k",
                           "/V0/entity?id=k", "/v0/status/", "/entity", "/favicon.ico"}) {
    expect_refusal(client.get(path), 400);
  }
  expect_refusal(client.put("/nowhere", "with a body"), 400);
}

TEST_CASE_FIXTURE(HttpRules, "replicas are checked against one node") {
  for (const char* good : {"replicas=1/1", "ack=1&from=1", "from=1&ack=1", "ack=1", "from=1"}) {
    const std::string target = entity("k") + "&" + good;
    CHECK(client.put(target, good).status == 201);
    CHECK(client.get(target).body == good);
    CHECK(client.get(std::string("/v0/entity?") + good + "&id=k").body == good);
    CHECK(client.get(range("k", "l") + "&" + good).status == 200);
    CHECK(client.del(target).status == 202);
  }
  for (const char* bad : {"replicas=0/1",   "replicas=1/2",
                          "replicas=2/1",   "replicas=2/2",
                          "replicas=1/0",   "replicas=foo",
                          "replicas=",      "replicas=1",
                          "replicas=1/",    "replicas=/1",
                          "replicas=1/1/1", "replicas=-1/1",
                          "replicas=1/6",   "replicas=99999999999999999999/1",
                          "ack=0&from=1",   "ack=2&from=1",
                          "ack=1&from=2",   "from=2",
                          "from=0",         "ack=x",
                          "ack=2",          "ack=1&from=foo"}) {
    INFO(bad);
    const std::string target = entity("k") + "&" + bad;
    expect_refusal(client.get(target), 400);
    expect_refusal(client.put(target, "v"), 400);
    expect_refusal(client.del(target), 400);
    expect_refusal(client.get(range("k") + "&" + bad), 400);
  }
}

TEST_CASE_FIXTURE(HttpRules, "a value with a time to live expires, and not before") {
  CHECK(client.put(entity("long") + "&ttl=3600", "a").status == 201);
  CHECK(client.put(entity("short") + "&ttl_ms=300", "b").status == 201);
  CHECK(client.put(entity("kept") + "&ttl_ms=300", "c").status == 201);
  CHECK(client.put(entity("kept"), "lasts").status == 201);
  CHECK(client.get(entity("long")).status == 200);
  const std::string large = random_bytes(4, 2 * mebibyte);
  CHECK(client.put(entity("short-large") + "&ttl_ms=300", large).status == 201);
  std::this_thread::sleep_for(std::chrono::milliseconds(400));
  for (const char* gone : {"short", "short-large"}) {
    CHECK(client.get(entity(gone)).status == 404);
    CHECK(client.head(entity(gone)).status == 404);
  }
  CHECK(client.get(range("a", "z")).body == "kept\nlastslong\na");
  client.close();
  node.stop();
  node.start();
  HttpClient after(node.port());
  CHECK(after.get(range("a", "z")).body == "kept\nlastslong\na");
  CHECK(after.get(entity("short")).status == 404);
}

TEST_CASE_FIXTURE(HttpRules, "a value is there until the millisecond that was asked for") {
  using Clock = std::chrono::steady_clock;
  const auto before = Clock::now();
  CHECK(client.put(entity("k") + "&ttl_ms=500", "v").status == 201);
  const auto after = Clock::now();
  for (;;) {
    const auto asked = Clock::now();
    const int status = client.get(entity("k")).status;
    const auto answered = Clock::now();
    // A millisecond of rounding on either side.
    if (answered < before + std::chrono::milliseconds(499)) CHECK(status == 200);
    if (asked > after + std::chrono::milliseconds(501)) {
      CHECK(status == 404);
      break;
    }
  }
}

TEST_CASE_FIXTURE(HttpRules, "times to live that make no sense are 400") {
  for (const char* bad : {"ttl=0", "ttl=-1", "ttl=x", "ttl=", "ttl_ms=0", "ttl_ms=1.5",
                          "ttl=99999999999999999999", "ttl=1&ttl_ms=1"}) {
    INFO(bad);
    expect_refusal(client.put(entity("k") + "&" + bad, "v"), 400);
  }
  CHECK(client.get(entity("k")).status == 404);
}

TEST_CASE_FIXTURE(HttpRules, "a body over the limit is refused so that the client can read it") {
  // 40 MiB where 16 are allowed: the answer comes while the client is still sending, and closing
  // with its bytes unread would reset the connection and take the answer away.
  client.send("PUT /v0/entity?id=k HTTP/1.1\r\nHost: a\r\nContent-Length: 41943040\r\n\r\n");
  const std::string piece = random_bytes(5, mebibyte);
  for (int i = 0; i < 40; ++i) client.send(piece);
  const HttpAnswer answer = client.read_answer();
  CHECK(answer.status == 413);
  CHECK(answer.header("connection") == "close");
  CHECK(client.closed_by_peer());
  HttpClient chunked(node.port());
  chunked.send("PUT /v0/entity?id=k HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
  for (int i = 0; i < 20; ++i) {
    chunked.send("100000\r\n");
    chunked.send(piece);
    chunked.send("\r\n");
  }
  CHECK(chunked.read_answer().status == 413);
  CHECK(HttpClient(node.port()).get(entity("k")).status == 404);
}

TEST_CASE("--max-value is the largest value, in both framings") {
  NodeProcess node({"--max-value", "100K"});
  HttpClient client(node.port());
  const std::string fits = random_bytes(6, 100 * 1024);
  CHECK(client.put(entity("k"), fits).status == 201);
  CHECK(client.get(entity("k")).body == fits);
  CHECK(client.put(entity("k"), fits + "x").status == 413);
  HttpClient chunked(node.port());
  chunked.send(
      "PUT /v0/entity?id=c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n19000\r\n");
  chunked.send(fits);
  chunked.send("\r\n0\r\n\r\n");
  CHECK(chunked.read_answer().status == 201);
  CHECK(chunked.get(entity("c")).body == fits);
}

TEST_CASE_FIXTURE(HttpRules, "a request line over the limit is 414, a header block over it 431") {
  {
    HttpClient long_line(node.port());
    long_line.send("GET /v0/entity?id=" + std::string(201 * 1024, 'k') +
                   " HTTP/1.1\r\nHost: a\r\n\r\n");
    const HttpAnswer answer = long_line.read_answer();
    CHECK(answer.status == 414);
    CHECK(answer.header("connection") == "close");
    CHECK(long_line.closed_by_peer());
  }
  {
    HttpClient large_header(node.port());
    large_header.send(get_request(entity("k"), "X: " + std::string(65 * 1024, 'x') + "\r\n"));
    CHECK(large_header.read_answer().status == 431);
    CHECK(large_header.closed_by_peer());
  }
  {
    std::string fields;
    for (int i = 0; i < 101; ++i) fields += "X-" + std::to_string(i) + ": 1\r\n";
    HttpClient many(node.port());
    many.send(get_request(entity("k"), fields));
    CHECK(many.read_answer().status == 431);
    CHECK(many.closed_by_peer());
  }
  CHECK(client.get("/v0/status").status == 200);
}

TEST_CASE_FIXTURE(HttpRules, "wrong percent-encoding is 400 and the connection stays") {
  for (const char* bad : {"/v0/entity?id=%", "/v0/entity?id=%4", "/v0/entity?id=%zz",
                          "/v0/entity?id=a%2", "/v0/entities?start=%gg"}) {
    expect_refusal(client.get(bad), 400);
  }
  expect_refusal(client.put("/v0/entity?id=%zz", "with a body"), 400);
}

TEST_CASE_FIXTURE(HttpRules, "chunked bodies of any cut are stored as one value") {
  const std::string value = random_bytes(7, 300'000);
  for (const size_t chunk_bytes : {size_t{1000}, size_t{16'384}, size_t{65'537}, value.size()}) {
    std::string request =
        "PUT /v0/entity?id=chunked HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (size_t at = 0; at < value.size(); at += chunk_bytes) {
      const std::string chunk = value.substr(at, chunk_bytes);
      char size[32];
      std::snprintf(size, sizeof size, "%zx\r\n", chunk.size());
      request += size + chunk + "\r\n";
    }
    request += "0\r\nX-Checksum: ignored\r\n\r\n";
    client.send(request);
    CHECK(client.read_answer().status == 201);
    CHECK(client.get(entity("chunked")).body == value);
  }
  client.send(
      "PUT /v0/entity?id=chunked HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: "
      "chunked\r\n\r\n0\r\n\r\n");
  CHECK(client.read_answer().status == 201);
  const HttpAnswer empty = client.get(entity("chunked"));
  CHECK(empty.status == 200);
  CHECK(empty.body.empty());
}

TEST_CASE_FIXTURE(HttpRules, "Expect: 100-continue is answered before the body") {
  const std::string value = random_bytes(8, 200'000);
  const std::string head = "PUT /v0/entity?id=k HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n";
  client.send(head + "Content-Length: 200000\r\n\r\n");
  CHECK(client.read_some() == "HTTP/1.1 100 Continue\r\n\r\n");
  client.send(value);
  CHECK(client.read_answer().status == 201);
  CHECK(client.get(entity("k")).body == value);
  // Behind other requests in the same packet it still comes.
  client.send(put_request(entity("a"), "1") + get_request(entity("k")) + head +
              "Transfer-Encoding: chunked\r\n\r\n");
  CHECK(client.read_answer().status == 201);
  CHECK(client.read_answer().body == value);
  CHECK(client.read_some() == "HTTP/1.1 100 Continue\r\n\r\n");
  client.send("3\r\nabc\r\n0\r\n\r\n");
  CHECK(client.read_answer().status == 201);
  CHECK(client.get(entity("k")).body == "abc");
}

TEST_CASE_FIXTURE(HttpRules, "Expect: 100-continue can be refused without the body") {
  const auto refused = [&](const std::string& target, const std::string& fields, int status) {
    HttpClient asker(node.port());
    asker.send("PUT " + target + " HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n" + fields +
               "\r\n");
    const HttpAnswer answer = asker.read_answer();
    CHECK(answer.status == status);
    CHECK(answer.interim.empty());
    CHECK(answer.header("connection") == "close");
    CHECK(asker.closed_by_peer());
  };
  refused("/v0/entity?id=k", "Content-Length: 99999999\r\n", 413);
  refused("/v0/entity?id=", "Content-Length: 5\r\n", 400);
  refused("/nowhere", "Content-Length: 5\r\n", 400);
  refused("/v0/entity?id=k", "Content-Length: 5\r\nIf-Match: *\r\n", 501);
  CHECK(client.get(entity("k")).status == 404);
}

TEST_CASE_FIXTURE(HttpRules, "HTTP/1.0 clients get what they understand") {
  CHECK(client.put(entity("k"), "value").status == 201);
  {
    HttpClient old(node.port());
    old.send("GET /v0/entity?id=k HTTP/1.0\r\n\r\n");
    CHECK(old.read_to_end().ends_with("\r\n\r\nvalue"));
  }
  {
    HttpClient old(node.port());
    old.send("GET /v0/entity?id=k HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    const HttpAnswer answer = old.read_answer();
    CHECK(answer.body == "value");
    CHECK(answer.header("connection") == "keep-alive");
    CHECK(old.get("/v0/status").status == 200);
  }
  for (const char* fields : {"", "Connection: keep-alive\r\n"}) {
    // No chunks for them: the end of the connection is the end of a range.
    HttpClient old(node.port());
    old.send(std::string("GET /v0/entities?start=a HTTP/1.0\r\n") + fields + "\r\n");
    const HttpAnswer answer = old.read_answer();
    CHECK(!answer.chunked);
    CHECK(answer.body == "k\nvalue");
  }
}

TEST_CASE_FIXTURE(HttpRules, "connections are kept until the client says otherwise") {
  for (int i = 0; i < 50; ++i) CHECK(client.get("/v0/status").status == 200);
  CHECK(client.put(entity("k"), "v", "Connection: keep-alive\r\n").status == 201);
  const HttpAnswer last = client.get(entity("k"), "Connection: close\r\n");
  CHECK(last.body == "v");
  CHECK(last.header("connection") == "close");
  CHECK(client.closed_by_peer());
}

TEST_CASE_FIXTURE(HttpRules, "what the JDK's client sends to offer HTTP/2 is ignored") {
  const std::string upgrade =
      "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
      "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n";
  CHECK(client.put(entity("k"), "value", upgrade).status == 201);
  CHECK(client.get(entity("k"), upgrade).body == "value");
  CHECK(client.request("PUT", entity("empty"), upgrade).status == 201);
  CHECK(client.del(entity("k"), upgrade + "Content-Length: 0\r\n").status == 202);
  CHECK(client.get(entity("k"), upgrade).status == 404);
}

TEST_CASE_FIXTURE(HttpRules, "values up to 16 MiB come back the same in both framings") {
  for (const size_t size :
       {size_t{1}, size_t{4095}, size_t{16'384}, size_t{65'535}, size_t{65'536}, size_t{65'537},
        mebibyte - 1, mebibyte, mebibyte + 1, 3 * mebibyte, 16 * mebibyte}) {
    INFO(size << " bytes");
    const std::string value = random_bytes(size, size);
    CHECK(client.put(entity("sized"), value).status == 201);
    bool same = client.get(entity("sized")).body == value;
    CHECK(same);
    char length[32];
    std::snprintf(length, sizeof length, "%zx\r\n", size);
    client.send(
        "PUT /v0/entity?id=chunked HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send(length);
    client.send(value);
    client.send("\r\n0\r\n\r\n");
    CHECK(client.read_answer().status == 201);
    same = client.get(entity("chunked")).body == value;
    CHECK(same);
  }
  const std::string value = random_bytes(16 * mebibyte, 16 * mebibyte);
  client.close();
  node.stop();
  node.start();
  HttpClient after(node.port());
  bool same = after.get(entity("sized")).body == value;
  CHECK(same);
  same = after.get(range("chunked", "sized0")).body == "chunked\n" + value + "sized\n" + value;
  CHECK(same);
}

TEST_CASE_FIXTURE(HttpRules, "keys are any bytes, from 1 to 64 KiB") {
  std::string all_bytes;
  for (int byte = 0; byte < 256; ++byte) all_bytes += static_cast<char>(byte);
  std::vector<std::string> keys = {"a",
                                   std::string(1, '\0'),
                                   "\xff",
                                   "a b",
                                   "a+b",
                                   "a&b=c",
                                   "a/b",
                                   "\n",
                                   "\xc3\xa4",
                                   "\xc3",
                                   all_bytes,
                                   std::string(127, 'i'),
                                   std::string(128, 'i'),
                                   std::string(129, 'i'),
                                   random_bytes(9, 65'536),
                                   std::string(65'536, 'k')};
  for (const std::string& key : keys) {
    CHECK(client.put(entity(key), "value of " + key).status == 201);
  }
  for (const std::string& key : keys) {
    bool same = client.get(entity(key)).body == "value of " + key;
    CHECK(same);
  }
  std::sort(keys.begin(), keys.end());  // as unsigned bytes: char_traits does
  std::string all;
  for (const std::string& key : keys) {
    if (key >= "A") all += key + "\nvalue of " + key;
  }
  bool same = client.get(range("A")).body == all;
  CHECK(same);
  expect_refusal(client.get(entity(std::string(65'537, 'k'))), 400);
  expect_refusal(client.put(entity(std::string(65'537, 'k')), "v"), 400);
}

TEST_CASE_FIXTURE(HttpRules, "the node says how it is") {
  CHECK(client.get("/livez").status == 200);
  CHECK(client.get("/readyz").status == 200);
  const HttpAnswer verbose = client.get("/readyz?verbose");
  CHECK(verbose.status == 200);
  CHECK(verbose.body.find("[+] serving ok") != std::string::npos);
  CHECK(verbose.body.find("[+] shard-000 ok") != std::string::npos);
  const HttpAnswer metrics = client.get("/metrics");
  CHECK(metrics.status == 200);
  CHECK(metrics.header("content-type").starts_with("text/plain; version=0.0.4"));
  const double before = node.metric("requests_total");
  CHECK(client.get(entity("k")).status == 404);
  CHECK(node.metric("requests_total") >= before + 1);
}
