#include "http/client.hpp"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cerrno>

#include <gyre/scope.hpp>

#include "../store/sim_rig.hpp"
#include "scripted_server.hpp"

using namespace gyre;
using namespace gyre::test;
using http::Client;

namespace {

const std::string end_of_head = "\r\n\r\n";
const http::Endpoint server_endpoint{"127.0.0.1", ScriptedServer::port};

// Runs `talk` against a server with these scripts, in several schedules.
void against(std::vector<Script> scripts, Task<void> (*talk)(Client&, ScriptedServer&),
             Nanos timeout = seconds(10)) {
  struct Play {
    static Task<void> run(std::vector<Script> scripts, Task<void> (*talk)(Client&, ScriptedServer&),
                          Nanos timeout) {
      ScriptedServer server;
      REQUIRE_OR_RETURN(co_await server.open());
      Scope scope(nullptr, "server");
      scope.spawn(server.serve(std::move(scripts)));
      Client client(server_endpoint, timeout);
      co_await talk(client, server);
      co_await client.close();
      scope.request_stop();
      co_await scope.join();
    }
  };
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    CAPTURE(seed);
    SimRig rig(seed);
    rig.run(Play::run(scripts, talk, timeout));
  }
}

Task<void> expect_answer(Client& client, uint16_t status, std::string body) {
  Result<void> answered = co_await client.answer();
  REQUIRE_OR_RETURN(answered);
  CHECK(client.status() == status);
  Result<std::string> text = co_await client.text(1u << 20);
  REQUIRE_OR_RETURN(text);
  CHECK(*text == body);
}

}  // namespace

TEST_CASE("an URL names host and port") {
  const auto parsed = [](std::string_view url) {
    Result<http::Endpoint> endpoint = http::parse_endpoint(url);
    return endpoint ? endpoint->host + " " + std::to_string(endpoint->port) : "refused";
  };
  CHECK(parsed("http://127.0.0.1:8080") == "127.0.0.1 8080");
  CHECK(parsed("http://db.example/") == "db.example 80");
  CHECK(parsed("http://[::1]:81/") == "::1 81");
  CHECK(parsed("http://[::1]") == "::1 80");
  for (const char* url : {"", "127.0.0.1:80", "https://a", "http://", "http://:80", "http://a:0",
                          "http://a:65536", "http://a:8x", "http://a/b", "http://u@a",
                          "http://[::1", "http://[::1]x:80", "http://a:"}) {
    CAPTURE(url);
    CHECK(parsed(url) == "refused");
  }
  CHECK(http::Endpoint{"::1", 80}.authority() == "[::1]:80");
}

TEST_CASE("percent-encoding leaves only unreserved characters as they are") {
  CHECK(http::percent_encode("aZ09-._~") == "aZ09-._~");
  CHECK(http::percent_encode(std::string("\0 +&=%/\xff", 8)) == "%00%20%2B%26%3D%25%2F%FF");
}

TEST_CASE("requests and answers of one connection, with every kind of body") {
  against({{{end_of_head, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"},
            {"v\r\nend",
             "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: "
             "0\r\nETag: \"x\"\r\n\r\n"},
            {end_of_head, "HTTP/1.1 200 OK\r\nContent-Length: 77\r\n\r\n"},
            {end_of_head,
             "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
             "2\r\nde\r\n0\r\n\r\n",
             0, true},
            {end_of_head, "HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\nuntil the end"}}},
          [](Client& client, ScriptedServer& server) -> Task<void> {
            REQUIRE_OR_RETURN(co_await client.connect());
            client.send_request("GET", "/v0/entity?id=a");
            co_await expect_answer(client, 200, "hello");
            CHECK(client.reusable());
            client.send_request("PUT", "/v0/entity?id=b", "v\r\nend");
            co_await expect_answer(client, 201, "");
            CHECK(client.field("etag") == "\"x\"");
            client.send_request("HEAD", "/v0/entity?id=c");
            co_await expect_answer(client, 200, "");
            client.send_request("GET", "/v0/entities?start=a");
            co_await expect_answer(client, 200, "abcde");
            CHECK(client.reusable());
            client.send_request("DELETE", "/v0/entity?id=d");
            co_await expect_answer(client, 404, "until the end");
            CHECK(!client.reusable());
            CHECK(client.outstanding() == 0);
            CHECK(server.heard()[0] ==
                  "GET /v0/entity?id=a HTTP/1.1\r\nHost: 127.0.0.1:9000\r\n\r\n"
                  "PUT /v0/entity?id=b HTTP/1.1\r\nHost: 127.0.0.1:9000\r\nContent-Length: 6"
                  "\r\n\r\nv\r\nend"
                  "HEAD /v0/entity?id=c HTTP/1.1\r\nHost: 127.0.0.1:9000\r\n\r\n"
                  "GET /v0/entities?start=a HTTP/1.1\r\nHost: 127.0.0.1:9000\r\n\r\n"
                  "DELETE /v0/entity?id=d HTTP/1.1\r\nHost: 127.0.0.1:9000\r\n\r\n");
          });
}

TEST_CASE("pipelined answers belong to their requests in order, HEAD included") {
  against({{{"/3 HTTP/1.1",
             "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1"
             "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n"
             "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n3"}}},
          [](Client& client, ScriptedServer&) -> Task<void> {
            REQUIRE_OR_RETURN(co_await client.connect());
            client.send_request("GET", "/1");
            client.send_request("HEAD", "/2");
            client.send_request("GET", "/3");
            CHECK(client.outstanding() == 3);
            co_await expect_answer(client, 200, "1");
            co_await expect_answer(client, 200, "");
            co_await expect_answer(client, 200, "3");
          });
}

TEST_CASE("pieces of a chunked body say where chunks end, also after a release in between") {
  against({{{end_of_head,
             "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
             "4\r\nk\nv1\r\n7\r\nkey\nvvv\r\n3\r\nz\n\n\r\n0\r\n\r\n"}}},
          [](Client& client, ScriptedServer&) -> Task<void> {
            REQUIRE_OR_RETURN(co_await client.connect());
            client.send_request("GET", "/v0/entities?start=a");
            REQUIRE_OR_RETURN(co_await client.answer());
            std::vector<std::string> chunks(1);
            for (;;) {
              Result<Client::Piece> piece = co_await client.body();
              REQUIRE_OR_RETURN(piece);
              if (piece->ends) break;
              chunks.back().append(piece->bytes);
              if (piece->chunk_ends) chunks.emplace_back();
              client.release();
              static_cast<void>(co_await sleep_for(milliseconds(1)));
            }
            CHECK(chunks == std::vector<std::string>{"k\nv1", "key\nvvv", "z\n\n", ""});
          });
}

TEST_CASE("a cut answer is an error, whatever was cut") {
  for (const char* cut : {"", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
                          "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"}) {
    CAPTURE(cut);
    against({{{end_of_head, cut}}}, [](Client& client, ScriptedServer&) -> Task<void> {
      REQUIRE_OR_RETURN(co_await client.connect());
      client.send_request("GET", "/");
      Result<void> answered = co_await client.answer();
      Result<std::string> text = answered ? co_await client.text(100) : fail(answered.error());
      REQUIRE_OR_RETURN(!text);
      CHECK(text.error().code == Errc::closed);
    });
  }
}

TEST_CASE("a server that does not speak HTTP is found out") {
  against({{{end_of_head, "220 mail.example ESMTP\r\n"}}},
          [](Client& client, ScriptedServer&) -> Task<void> {
            REQUIRE_OR_RETURN(co_await client.connect());
            client.send_request("GET", "/");
            Result<void> answered = co_await client.answer();
            REQUIRE_OR_RETURN(!answered);
            CHECK(answered.error().code == Errc::invalid);
          });
}

TEST_CASE("a server that falls silent is given up, one that is only slow is not") {
  constexpr Nanos timeout = milliseconds(500);
  SUBCASE("silent before the answer") {
    against(
        {{{end_of_head, "", seconds(100)}}},
        [](Client& client, ScriptedServer&) -> Task<void> {
          REQUIRE_OR_RETURN(co_await client.connect());
          client.send_request("GET", "/");
          const Nanos start = Reactor::current().now();
          Result<void> answered = co_await client.answer();
          REQUIRE_OR_RETURN(!answered);
          CHECK(answered.error().code == Errc::timed_out);
          CHECK(Reactor::current().now() - start >= milliseconds(500));
          CHECK(Reactor::current().now() - start < seconds(50));
        },
        timeout);
  }
  SUBCASE("silent within the body") {
    against(
        {{{end_of_head, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nx"}, {"never", ""}}},
        [](Client& client, ScriptedServer&) -> Task<void> {
          REQUIRE_OR_RETURN(co_await client.connect());
          client.send_request("GET", "/");
          REQUIRE_OR_RETURN(co_await client.answer());
          Result<std::string> text = co_await client.text(10);
          REQUIRE_OR_RETURN(!text);
          CHECK(text.error().code == Errc::timed_out);
        },
        timeout);
  }
  SUBCASE("slow: each byte starts the wait anew") {
    std::vector<Turn> slow = {{end_of_head, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n"}};
    for (int i = 0; i < 6; ++i) slow.push_back({"", "x", milliseconds(300)});
    against(
        {slow},
        [](Client& client, ScriptedServer&) -> Task<void> {
          REQUIRE_OR_RETURN(co_await client.connect());
          client.send_request("GET", "/");
          co_await expect_answer(client, 200, "xxxxxx");
        },
        timeout);
  }
  SUBCASE("slow in taking a body: what it takes starts the wait anew") {
    std::vector<Turn> slow;
    for (int i = 0; i < 12; ++i)
      slow.push_back({fmt::format("mark {};", i), "", milliseconds(300)});
    slow.push_back({"end", "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"});
    against(
        {slow},
        [](Client& client, ScriptedServer&) -> Task<void> {
          REQUIRE_OR_RETURN(co_await client.connect());
          std::string body;
          for (int i = 0; i < 12; ++i) {
            body += fmt::format("mark {};", i) + std::string(300'000, 'x');
          }
          client.send_request("PUT", "/", body + "end");
          co_await expect_answer(client, 201, "");
        },
        timeout);
  }
  SUBCASE("a server that takes no bytes") {
    against(
        {{{"never", ""}, {"", "", seconds(100)}}},
        [](Client& client, ScriptedServer&) -> Task<void> {
          REQUIRE_OR_RETURN(co_await client.connect());
          // The server reads until it finds what never comes; then nobody reads any more.
          client.send_request("PUT", "/", std::string(1000, 'x') + "never");
          client.send_request("PUT", "/", std::string(4u << 20, 'x'));
          Result<void> drained = co_await client.drained(0);
          REQUIRE_OR_RETURN(!drained);
          CHECK(drained.error().code == Errc::timed_out);
        },
        timeout);
  }
}

TEST_CASE("a streamed body may take its time, and its answer may come before its end") {
  SUBCASE("slow input") {
    against(
        {{{"0\r\n\r\n", "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"}}},
        [](Client& client, ScriptedServer& server) -> Task<void> {
          REQUIRE_OR_RETURN(co_await client.connect());
          client.begin_request("PUT", "/v0/entity?id=k");
          Scope scope(nullptr, "writer");
          struct Writer {
            static Task<void> write(Client* to) {
              to->send_chunk("first");
              static_cast<void>(co_await sleep_for(seconds(30)));
              to->send_chunk("");
              to->send_chunk("second");
              to->end_body();
            }
          };
          scope.spawn(Writer::write(&client));
          co_await expect_answer(client, 201, "");
          co_await scope.join();
          CHECK(
              server.heard()[0].ends_with("Transfer-Encoding: chunked\r\n\r\n"
                                          "5\r\nfirst\r\n6\r\nsecond\r\n0\r\n\r\n"));
        },
        milliseconds(500));
  }
  SUBCASE("an early refusal") {
    against({{{"first",
               "HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\nConnection: "
               "close\r\n\r\nno!\n"}}},
            [](Client& client, ScriptedServer&) -> Task<void> {
              REQUIRE_OR_RETURN(co_await client.connect());
              client.begin_request("PUT", "/v0/entity?id=k");
              client.send_chunk("first");
              co_await expect_answer(client, 413, "no!\n");
              CHECK(!client.reusable());
            });
  }
}

TEST_CASE("a refused connection says so, and a client may connect again") {
  against({{{end_of_head, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"}},
           {{end_of_head, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"}}},
          [](Client& client, ScriptedServer&) -> Task<void> {
            Client nobody({"127.0.0.1", 9}, seconds(10));
            Result<void> refused = co_await nobody.connect();
            REQUIRE_OR_RETURN(!refused);
            CHECK(refused.error().os_error == ECONNREFUSED);
            CHECK(!nobody.connected());

            REQUIRE_OR_RETURN(co_await client.connect());
            client.send_request("GET", "/1");
            co_await expect_answer(client, 200, "");
            co_await client.close();
            REQUIRE_OR_RETURN(co_await client.connect());
            client.send_request("GET", "/2");
            co_await expect_answer(client, 200, "ok");
          });
}

TEST_CASE("an abandoned client ends whoever waits for it") {
  against({{{"never", ""}}}, [](Client& client, ScriptedServer&) -> Task<void> {
    REQUIRE_OR_RETURN(co_await client.connect());
    client.begin_request("PUT", "/");
    Scope scope(nullptr, "abandon");
    struct Later {
      static Task<void> abandon(Client* client) {
        static_cast<void>(co_await sleep_for(seconds(1)));
        client->abandon();
      }
    };
    scope.spawn(Later::abandon(&client));
    Result<void> answered = co_await client.answer();
    CHECK(!answered);
    co_await scope.join();
  });
}
