#include "resp/connection.hpp"

#include "connection_rig.hpp"

using namespace gyre;
using namespace gyre::test;

namespace {

using Log = std::vector<std::string>;

Log without_batches(const Log& log) {
  Log out;
  for (const std::string& line : log) {
    if (line != "batch") out.push_back(line);
  }
  return out;
}

}  // namespace

TEST_CASE("answers leave in the order of their commands, whatever takes how long") {
  with_resp_server([](RespServer& server, RespTalker& talker) -> Task<void> {
    talker.say("READ a 30\r\nPING\r\nREAD b 10\r\nBIG 3\r\nREAD c 0\r\nREAD d 20\r\nPING\r\n");
    CHECK(co_await talker.hear(7) ==
          "$9\r\nREAD a 30\r\n+PONG\r\n$9\r\nREAD b 10\r\n$3\r\nbbb\r\n$7\r\nat once\r\n"
          "$9\r\nREAD d 20\r\n+PONG\r\n");
    // All of them ran at the same time.
    CHECK(without_batches(server.handler.log) == Log{"begin READ a 30", "begin READ b 10",
                                                     "begin READ d 20", "end READ b 10",
                                                     "end READ d 20", "end READ a 30"});
  });
}

TEST_CASE("the handler hears of the end of what came in one piece") {
  with_resp_server([](RespServer& server, RespTalker& talker) -> Task<void> {
    talker.say("PING\r\nREAD a 5\r\nREAD b 5\r\nPING\r\n");
    static_cast<void>(co_await talker.hear(4));
    // Before anything waits; the network may have cut the piece in two.
    const Log& log = server.handler.log;
    const auto end = std::ranges::find_if(log, [](const auto& line) { return line[0] == 'e'; });
    REQUIRE_OR_RETURN(end != log.begin());
    CHECK(*std::prev(end) == "batch");
    CHECK(std::ranges::count(log, "batch") <= 3);
  });
}

TEST_CASE("the handler hears of the keys of a pipeline ahead, a number of them at a time") {
  with_resp_server([](RespServer& server, RespTalker& talker) -> Task<void> {
    const auto read = [](int key) {
      const std::string name = std::to_string(key);
      return "*3\r\n$4\r\nREAD\r\n$2\r\n" + name + "\r\n$1\r\n0\r\n";
    };
    // One by one nothing is ahead.
    for (int key = 10; key < 13; ++key) {
      talker.say(read(key));
      static_cast<void>(co_await talker.hear(1));
    }
    CHECK(server.handler.keys_expected_at_once.empty());
    std::string all;
    for (int key = 20; key < 60; ++key) all += read(key);
    talker.say(all);
    static_cast<void>(co_await talker.hear(40));
    // The network may cut it in pieces: each begins with a command that nobody has looked ahead at.
    std::vector<std::string> keys;
    for (const auto& at_once : server.handler.keys_expected_at_once) {
      CHECK(at_once.size() > 1);
      CHECK(at_once.size() <= 16);
      keys.insert(keys.end(), at_once.begin(), at_once.end());
    }
    CHECK(std::ranges::is_sorted(keys));
    CHECK(std::ranges::adjacent_find(keys) == keys.end());
    CHECK(keys.size() >= 30);
    CHECK(keys.front() == "21");
  });
}

TEST_CASE("what reads a key waits for its writes, and what writes it for its reads") {
  with_resp_server([](RespServer& server, RespTalker& talker) -> Task<void> {
    talker.say("WRITE a 20\r\nREAD b 10\r\nREAD a 5\r\nWRITE a 5\r\nREAD c 5\r\n");
    CHECK(co_await talker.hear(5) ==
          "$10\r\nWRITE a 20\r\n$9\r\nREAD b 10\r\n$8\r\nREAD a 5\r\n$9\r\nWRITE a 5\r\n"
          "$8\r\nREAD c 5\r\n");
    CHECK(without_batches(server.handler.log) ==
          Log{"begin WRITE a 20", "begin READ b 10", "detach READ a 5", "end READ b 10",
              "end WRITE a 20", "begin READ a 5", "detach WRITE a 5", "end READ a 5",
              "begin WRITE a 5", "begin READ c 5", "end WRITE a 5", "end READ c 5"});
  });
}

TEST_CASE("a batch ends before the connection waits for a part of it") {
  with_resp_server([](RespServer& server, RespTalker& talker) -> Task<void> {
    talker.say("WRITE a 20\r\nREAD a 5\r\n");
    static_cast<void>(co_await talker.hear(2));
    const Log& log = server.handler.log;
    CHECK(std::ranges::find(log, "batch") < std::ranges::find(log, "end WRITE a 20"));
    const auto begun = std::ranges::find(log, "begin READ a 5");
    CHECK(std::find(begun, log.end(), "batch") < std::ranges::find(log, "end READ a 5"));
  });
}

TEST_CASE("writes of one key don't wait for one another") {
  with_resp_server([](RespServer& server, RespTalker& talker) -> Task<void> {
    talker.say("WRITE a 20\r\nWRITE a 10\r\nWRITE a 15\r\n");
    static_cast<void>(co_await talker.hear(3));
    CHECK(without_batches(server.handler.log) == Log{"begin WRITE a 20", "begin WRITE a 10",
                                                     "begin WRITE a 15", "end WRITE a 10",
                                                     "end WRITE a 15", "end WRITE a 20"});
  });
}

TEST_CASE("a read that could be answered at once is not while a write of its key is under way") {
  with_resp_server([](RespServer& server, RespTalker& talker) -> Task<void> {
    talker.say("WRITE a 20\r\nREAD a 0\r\n");
    CHECK(co_await talker.hear(2) == "$10\r\nWRITE a 20\r\n$8\r\nREAD a 0\r\n");
    CHECK(without_batches(server.handler.log) == Log{"begin WRITE a 20", "detach READ a 0",
                                                     "end WRITE a 20", "begin READ a 0",
                                                     "end READ a 0"});
  });
}

TEST_CASE("commands of several keys wait for each of them") {
  with_resp_server([](RespServer& server, RespTalker& talker) -> Task<void> {
    talker.say("READ x 10\r\nRENAME a b 20\r\nREAD c 5\r\nREAD b 5\r\nRENAME d e 5\r\n");
    static_cast<void>(co_await talker.hear(5));
    CHECK(without_batches(server.handler.log) ==
          Log{"begin READ x 10", "begin RENAME a b 20", "begin READ c 5", "detach READ b 5",
              "end READ c 5", "end READ x 10", "end RENAME a b 20", "begin READ b 5",
              "begin RENAME d e 5", "end READ b 5", "end RENAME d e 5"});
  });
}

TEST_CASE("what touches everything waits for all and lets all wait") {
  with_resp_server([](RespServer& server, RespTalker& talker) -> Task<void> {
    talker.say("READ a 10\r\nALL 10\r\nREAD b 5\r\n");
    static_cast<void>(co_await talker.hear(3));
    CHECK(without_batches(server.handler.log) ==
          Log{"begin READ a 10", "detach ALL 10", "end READ a 10", "begin ALL 10",
              "detach READ b 5", "end ALL 10", "begin READ b 5", "end READ b 5"});
  });
}

TEST_CASE("a change of protocol holds from its own answer on") {
  with_resp_server([](RespServer&, RespTalker& talker) -> Task<void> {
    talker.say("PROTO 2\r\nREAD none 10\r\nPROTO 3\r\nREAD none 5\r\nPROTO 2\r\nPROTO 3\r\n");
    CHECK(co_await talker.hear(6) == "$-1\r\n$-1\r\n_\r\n_\r\n$-1\r\n_\r\n");
  });
}

TEST_CASE("replies that the client doesn't want are left out") {
  with_resp_server([](RespServer&, RespTalker& talker) -> Task<void> {
    talker.say("MODE off\r\nPING\r\nREAD a 10\r\nSTREAM 5000 1\r\nMODE on\r\n");
    talker.say("MODE skip\r\nPING\r\nBIG 1\r\nMODE skip\r\nREAD a 5\r\nBIG 2\r\n");
    CHECK(co_await talker.hear(3) == "+OK\r\n$1\r\nb\r\n$2\r\nbb\r\n");
  });
}

TEST_CASE("a stream takes its place among the answers") {
  with_resp_server([](RespServer&, RespTalker& talker) -> Task<void> {
    talker.say("READ a 10\r\nSTREAM 50000 5\r\nPING\r\nSTREAM 0 1\r\nPING\r\n");
    CHECK(co_await talker.hear(5) == "$9\r\nREAD a 10\r\n$50000\r\n" + std::string(50'000, 's') +
                                         "\r\n+PONG\r\n$0\r\n\r\n+PONG\r\n");
  });
}

TEST_CASE("QUIT is answered after everything before it, and is the last") {
  with_resp_server([](RespServer& server, RespTalker& talker) -> Task<void> {
    talker.say("READ a 10\r\nQUIT\r\nPING\r\n");
    CHECK(co_await talker.hear_the_end() == "$9\r\nREAD a 10\r\n+OK\r\n");
    CHECK(server.limits.counters.commands == 2);
  });
}

TEST_CASE("a protocol error is answered after what came before it, once, and ends the connection") {
  with_resp_server([](RespServer& server, RespTalker& talker) -> Task<void> {
    talker.say("READ a 10\r\n*1\r\nfoo\r\nPING\r\nPING\r\n");
    CHECK(co_await talker.hear_the_end() ==
          "$9\r\nREAD a 10\r\n-ERR Protocol error: expected '$', got 'f'\r\n");
    CHECK(server.limits.counters.protocol_errors == 1);
  });
}

TEST_CASE("a client that has finished sending still gets its answers") {
  with_resp_server([](RespServer&, RespTalker& talker) -> Task<void> {
    talker.say("READ a 10\r\nPING\r\n");
    static_cast<void>(co_await talker.socket().drained(0));
    static_cast<void>(co_await talker.socket().shutdown_send());
    CHECK(co_await talker.hear_the_end() == "$9\r\nREAD a 10\r\n+PONG\r\n");
  });
}

TEST_CASE("browsers and TLS clients are cut off without an answer") {
  for (const char* bytes :
       {"POST / HTTP/1.1\r\nHost: localhost:6379\r\n\r\nSET a b\r\n", "GET / HTTP/1.1\r\n",
        "PUT /x HTTP/1.1\r\n", "host: localhost\r\n", "Host:localhost\r\n", "post x\r\n",
        "*1\r\n$4\r\nPOST\r\n", "\x16\x03\x01\x02", "PRI * HTTP/2.0\r\n"}) {
    static const char* said;
    said = bytes;
    CAPTURE(said);
    with_resp_server([](RespServer& server, RespTalker& talker) -> Task<void> {
      talker.say(said);
      talker.say("PING\r\nPING\r\n");
      CHECK(co_await talker.hear_the_end() == "");
      CHECK(server.handler.foreigners.size() == 1);
      CHECK(server.limits.counters.foreigners_cut_off == 1);
    });
  }
}

TEST_CASE("a key may be called like a browser's words") {
  with_resp_server([](RespServer& server, RespTalker& talker) -> Task<void> {
    talker.say("*3\r\n$4\r\nREAD\r\n$8\r\nHTTP/1.1\r\n$1\r\n1\r\nREAD post 1\r\n");
    CHECK(co_await talker.hear(2) == "$15\r\nREAD HTTP/1.1 1\r\n$11\r\nREAD post 1\r\n");
    CHECK(server.handler.foreigners.empty());
  });
}

TEST_CASE("before the password little is taken and little is answered") {
  with_resp_server(
      [](RespServer& server, RespTalker& talker) -> Task<void> {
        talker.say("PING\r\n");
        CHECK(co_await talker.hear() == "-NOAUTH Authentication required.\r\n");
        // Answers that nobody reads are not made.
        std::string many;
        for (int i = 0; i < 20'000; ++i) many += "PING\r\n";
        talker.say(many);
        static_cast<void>(co_await sleep_for(seconds(2)));
        CHECK(server.handler.connections[0]->output_bytes() <
              server.limits.output_bytes_pause_unauthenticated + (16u << 10));
        static_cast<void>(co_await talker.hear(20'000));
        talker.say("AUTH\r\n*12\r\n$4\r\nPING\r\n");
        CHECK(co_await talker.hear() == "+OK\r\n");
        for (int i = 0; i < 11; ++i) talker.say("$1\r\nx\r\n");
        CHECK(co_await talker.hear() == "+PONG\r\n");
      },
      nullptr, false);
  with_resp_server(
      [](RespServer&, RespTalker& talker) -> Task<void> {
        talker.say("*11\r\n");
        CHECK(co_await talker.hear_the_end() ==
              "-ERR Protocol error: unauthenticated multibulk length\r\n");
      },
      nullptr, false);
}

TEST_CASE("who doesn't tell the password in time is let go, and who does is not") {
  with_resp_server(
      [](RespServer& server, RespTalker& talker) -> Task<void> {
        const Nanos before = Reactor::current().now();
        co_await talker.say_slowly("PING\r\n", seconds(1));
        static_cast<void>(co_await talker.hear());
        CHECK(co_await talker.hear_the_end() == "");
        CHECK(Reactor::current().now() - before < seconds(12));
        CHECK(server.limits.counters.timeouts == 1);
        RespTalker other;
        REQUIRE_OR_RETURN(co_await other.connect());
        other.say("AUTH\r\n");
        CHECK(co_await other.hear() == "+OK\r\n");
        static_cast<void>(co_await sleep_for(seconds(600)));
        other.say("PING\r\n");
        CHECK(co_await other.hear() == "+PONG\r\n");
        co_await other.close();
      },
      nullptr, false);
}

TEST_CASE("a command that doesn't come to its end is given up, a slow one is not") {
  with_resp_server([](RespServer& server, RespTalker& talker) -> Task<void> {
    talker.say("*1\r\n$4\r\nPI");
    CHECK(co_await talker.hear_the_end() == "");
    CHECK(server.limits.counters.timeouts == 1);
    RespTalker other;
    REQUIRE_OR_RETURN(co_await other.connect());
    co_await other.say_slowly("*1\r\n$4\r\nPING\r\n", seconds(2));
    CHECK(co_await other.hear() == "+PONG\r\n");
    co_await other.close();
  });
}

TEST_CASE("a client may write a long pipeline before it reads") {
  with_resp_server([](RespServer& server, RespTalker& talker) -> Task<void> {
    std::string many;
    for (int i = 0; i < 2000; ++i) many += "BIG 5000\r\n";
    talker.say(many);
    CHECK(co_await talker.socket().drained(0));
    static_cast<void>(co_await sleep_for(seconds(1)));
    CHECK(server.limits.counters.output_pauses == 0);
    CHECK((co_await talker.hear(2000)).size() == 2000 * (7 + 5000 + 2));
  });
}

TEST_CASE(
    "beyond the bound a client that doesn't read is not read from, and is cut off in the end") {
  with_resp_server(
      [](RespServer& server, RespTalker& talker) -> Task<void> {
        std::string many;
        for (int i = 0; i < 3000; ++i) many += "BIG 5000\r\n";
        talker.say(many);
        static_cast<void>(co_await sleep_for(seconds(5)));
        REQUIRE_OR_RETURN(server.handler.connections.size() == 1);
        CHECK(server.handler.connections[0]->output_bytes() < (1u << 20) + (64u << 10));
        CHECK(server.limits.counters.output_pauses == 1);
        static_cast<void>(co_await sleep_for(seconds(60)));
        CHECK(server.handler.closed == 1);
      },
      [](RespServer& server) { server.limits.output_bytes_pause = 1u << 20; });
}

TEST_CASE("only so many commands of a connection are under way") {
  with_resp_server(
      [](RespServer& server, RespTalker& talker) -> Task<void> {
        std::string many;
        for (int i = 0; i < 100; ++i) many += "READ k" + std::to_string(i) + " 10\r\n";
        talker.say(many);
        static_cast<void>(co_await sleep_for(milliseconds(5)));
        CHECK(server.limits.exchanges_under_way <= 11);
        static_cast<void>(co_await talker.hear(100));
      },
      [](RespServer& server) { server.limits.pipeline_max = 10; });
}

TEST_CASE("what is held of a long command is accounted for, and waited for") {
  with_resp_server(
      [](RespServer& server, RespTalker& talker) -> Task<void> {
        const std::string value(100'000, 'v');
        talker.say("*3\r\n$4\r\nREAD\r\n$100000\r\n" + value + "\r\n$1\r\n1\r\n");
        CHECK((co_await talker.hear()).size() > value.size());
        CHECK(server.handler.unparsed_bytes_most >= value.size());
        CHECK(server.handler.unparsed_bytes_most < value.size() + 40'000);
        talker.say("*2\r\n$4\r\nREAD\r\n$300000\r\n" + value);
        CHECK(co_await talker.hear_the_end() ==
              "-ERR no memory for this command now; try again\r\n");
      },
      [](RespServer& server) { server.handler.unparsed_bytes_max = 200'000; });
}

TEST_CASE("a stop lets commands under way end, and idle connections go at once") {
  with_resp_server([](RespServer& server, RespTalker& talker) -> Task<void> {
    RespTalker idle;
    REQUIRE_OR_RETURN(co_await idle.connect());
    idle.say("PING\r\n");
    CHECK(co_await idle.hear() == "+PONG\r\n");
    talker.say("READ a 100\r\n");
    static_cast<void>(co_await sleep_for(milliseconds(20)));
    const Nanos before = Reactor::current().now();
    for (resp::Connection* connection : server.handler.connections) connection->drain();
    CHECK(co_await idle.hear_the_end() == "");
    CHECK(Reactor::current().now() - before < milliseconds(50));
    CHECK(co_await talker.hear_the_end() == "$10\r\nREAD a 100\r\n");
    co_await idle.close();
  });
}

TEST_CASE("a connection that breaks leaves nothing behind") {
  with_resp_server([](RespServer& server, RespTalker& talker) -> Task<void> {
    RespTalker other;
    REQUIRE_OR_RETURN(co_await other.connect());
    other.say("READ a 50\r\nWRITE b 30\r\nREAD b 5\r\nSTREAM 1000000 5\r\nPING\r\n*3\r\n$4\r\n");
    static_cast<void>(co_await sleep_for(milliseconds(10)));
    co_await other.close();
    talker.say("PING\r\n");
    CHECK(co_await talker.hear() == "+PONG\r\n");
    static_cast<void>(co_await sleep_for(seconds(40)));
    CHECK(server.handler.closed == 1);
  });
}

TEST_CASE("what follows a command that may change its meaning is not begun before it has ended") {
  with_resp_server([](RespServer& server, RespTalker& talker) -> Task<void> {
    talker.say("READ a 5\r\nHOLD 20\r\nPING\r\nREAD b 1\r\nHOLD 0\r\nREAD c 1\r\n");
    CHECK(
        co_await talker.hear(6) ==
        "$8\r\nREAD a 5\r\n$7\r\nHOLD 20\r\n+PONG\r\n$8\r\nREAD b 1\r\n$6\r\nHOLD 0\r\n$8\r\nREAD "
        "c 1\r\n");
    std::vector<std::string> begun;
    for (const std::string& line : server.handler.log) {
      if (line != "batch" && !line.starts_with("detach")) begun.push_back(line);
    }
    const auto at = [&](const std::string& line) { return std::ranges::find(begun, line); };
    CHECK(at("end HOLD 20") < at("begin READ b 1"));
    CHECK(at("end HOLD 0") < at("begin READ c 1"));
  });
}

TEST_CASE("what is pushed goes out between answers, to who reads") {
  with_resp_server(
      [](RespServer& server, RespTalker& talker) -> Task<void> {
        talker.say("READ a 20\r\nPING\r\n");
        static_cast<void>(co_await sleep_for(milliseconds(5)));
        resp::Connection& connection = *server.handler.connections[0];
        auto to = connection.push();
        REQUIRE_OR_RETURN(to.has_value());
        to->push(1);
        to->bulk("news");
        CHECK(co_await talker.hear(3) == "*1\r\n$4\r\nnews\r\n$9\r\nREAD a 20\r\n+PONG\r\n");
        talker.say("PROTO 3\r\nMODE off\r\n");
        CHECK(co_await talker.hear() == "_\r\n");
        static_cast<void>(co_await sleep_for(milliseconds(5)));
        to = connection.push();
        REQUIRE_OR_RETURN(to.has_value());
        to->push(1);
        to->bulk("more");
        CHECK(co_await talker.hear() == ">1\r\n$4\r\nmore\r\n");
        // Nobody reads: what is pushed is kept up to a bound.
        const std::string text(100'000, 't');
        size_t taken = 0;
        while (auto room = connection.push()) {
          room->bulk(text);
          taken += text.size();
          REQUIRE_OR_RETURN(taken < 10u << 20);
        }
        CHECK(taken > 1u << 20);
        CHECK(server.limits.counters.pushes_cut_off == 1);
        CHECK_FALSE(connection.push().has_value());
        static_cast<void>(co_await talker.hear_the_end());
        CHECK(server.limits.counters.pushes_cut_off == 1);
      },
      [](RespServer& server) { server.limits.push_bytes_max = 1u << 20; });
}

TEST_CASE("who leaves while a command waits for ever, with others behind it, is noticed") {
  with_resp_server([](RespServer& server, RespTalker& talker) -> Task<void> {
    RespTalker other;
    REQUIRE_OR_RETURN(co_await other.connect());
    other.say("EVER 0\r\nREAD a 1\r\nREAD b 1\r\n");
    static_cast<void>(co_await sleep_for(milliseconds(20)));
    other.say("READ c 1\r\n");
    static_cast<void>(co_await sleep_for(milliseconds(20)));
    CHECK(server.handler.closed == 0);
    co_await other.close();
    static_cast<void>(co_await sleep_for(seconds(1)));
    CHECK(server.handler.closed == 1);
    // Who stays gets his answers, also to what came meanwhile.
    server.handler.ever.reset();
    talker.say("EVER 0\r\nREAD a 1\r\nREAD b");
    static_cast<void>(co_await sleep_for(milliseconds(20)));
    talker.say(" 1\r\nPING\r\n");
    static_cast<void>(co_await sleep_for(milliseconds(20)));
    server.handler.ever.set();
    CHECK(co_await talker.hear(4) ==
          "$6\r\nEVER 0\r\n$8\r\nREAD a 1\r\n$8\r\nREAD b 1\r\n+PONG\r\n");
    // What is kept of him meanwhile is bounded.
    server.handler.ever.reset();
    std::string many = "EVER 0\r\n";
    for (int i = 0; i < 40'000; ++i) many += "READ a 0\r\n";
    talker.say(many);
    static_cast<void>(co_await sleep_for(milliseconds(100)));
    CHECK(server.handler.unparsed_bytes_most < 300'000);
    server.handler.ever.set();
    CHECK((co_await talker.hear(2)).starts_with("$6\r\nEVER 0\r\n"));
    static_cast<void>(co_await talker.hear(39'999));
  });
}
