// Who may talk to the RESP port of a real node: passwords, and what strangers can't do.
#include <doctest/doctest.h>

#include "resp_socket.hpp"
#include "shell.hpp"

using namespace gyre::test;

namespace {

constexpr const char* no_auth = "-NOAUTH Authentication required.\r\n";
constexpr const char* wrong = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";

// A node with a password; --resp comes as given.
struct Guarded {
  explicit Guarded(const std::string& address = "127.0.0.1:0") : node({}, false) {
    const std::string file = node.root() + "/password";
    write_text(file, "correct horse\n");
    node.flags = {"--resp", address, "--resp-password-file", file, "--durability", "none"};
    node.start();
  }
  NodeProcess node;
};

}  // namespace

TEST_CASE("nothing but telling the password is possible before it") {
  Guarded guarded;
  RespSocket client(guarded.node);
  for (const std::vector<std::string>& words :
       std::vector<std::vector<std::string>>{{"PING"},
                                             {"GET", "a"},
                                             {"SET", "a", "b"},
                                             {"CONFIG", "GET", "*"},
                                             {"INFO"},
                                             {"CLIENT", "LIST"},
                                             {"CLIENT", "NOSUCH"},
                                             {"COMMAND"},
                                             {"SELECT", "1"},
                                             {"NOSUCH"}}) {
    CAPTURE(words[0]);
    CHECK(client.ask(words) == no_auth);
  }
  CHECK(client.ask({"HELLO", "3"}).starts_with("-NOAUTH HELLO must be called with"));
  CHECK(client.ask({"AUTH", "wrong"}) == wrong);
  CHECK(client.ask({"AUTH", "correct hors"}) == wrong);
  CHECK(client.ask({"AUTH", "correct horse "}) == wrong);
  CHECK(client.ask({"AUTH", ""}) == wrong);
  CHECK(client.ask({"AUTH", "other", "correct horse"}) == wrong);
  CHECK(client.ask({"HELLO", "3", "AUTH", "default", "wrong"}) == wrong);
  CHECK(client.ask({"PING"}) == no_auth);
  CHECK(client.ask({"AUTH", "correct horse"}) == "+OK\r\n");
  CHECK(client.ask({"SET", "a", "b"}) == "+OK\r\n");
  CHECK(client.ask({"RESET"}) == "+RESET\r\n");
  CHECK(client.ask({"GET", "a"}) == no_auth);
  CHECK(client.ask({"AUTH", "default", "correct horse"}) == "+OK\r\n");
  CHECK(client.ask({"GET", "a"}) == bulk("b"));
  RespSocket other(guarded.node);
  CHECK(other.ask({"HELLO", "3", "AUTH", "default", "correct horse"}).starts_with("%7\r\n"));
  CHECK(other.ask({"GET", "a"}) == bulk("b"));
}

TEST_CASE("the password is told to nobody") {
  Guarded guarded;
  RespSocket client(guarded.node);
  client.ask({"AUTH", "guess horse"});
  client.ask({"AUTH", "correct horse"});
  std::string all = client.ask({"CONFIG", "GET", "*"}) + client.ask({"INFO", "everything"}) +
                    client.ask({"CLIENT", "LIST"});
  guarded.node.stop();
  all += guarded.node.error_output() + guarded.node.ready_line();
  CHECK_FALSE(has(all, "horse"));
}

TEST_CASE("strangers can't make the node hold much") {
  Guarded guarded;
  {
    RespSocket client(guarded.node);
    client.say("*11\r\n");
    CHECK(client.hear_the_end() == "-ERR Protocol error: unauthenticated multibulk length\r\n");
  }
  {
    RespSocket client(guarded.node);
    client.say("*2\r\n$4\r\nAUTH\r\n$16385\r\n");
    CHECK(client.hear_the_end() == "-ERR Protocol error: unauthenticated bulk length\r\n");
  }
  RespSocket client(guarded.node);
  CHECK(client.ask({"AUTH", "correct horse"}) == "+OK\r\n");
  CHECK(client.ask({"SET", "a", std::string(100'000, 'x')}) == "+OK\r\n");
}

TEST_CASE("only so many of one address may be without the password") {
  Guarded guarded;
  std::vector<std::unique_ptr<RespSocket>> strangers;
  std::string refusal;
  for (int i = 0; i < 200 && refusal.empty(); ++i) {
    strangers.push_back(std::make_unique<RespSocket>(guarded.node));
    const std::string said = strangers.back()->ask({"PING"});
    if (said != no_auth) refusal = said;
  }
  CHECK(refusal == "-ERR max number of unauthenticated clients reached\r\n");
  CHECK(strangers[0]->ask({"AUTH", "correct horse"}) == "+OK\r\n");
  strangers.clear();
  for (int i = 0; i < 200; ++i) {
    RespSocket client(guarded.node);
    if (client.ask({"AUTH", "correct horse"}) == "+OK\r\n") return;
  }
  FAIL("the places of strangers who have gone stay taken");
}

TEST_CASE("a browser's requests and TLS are cut off, and change nothing") {
  NodeProcess node({"--resp", "127.0.0.1:0", "--durability", "none"});
  for (const std::string& bytes :
       {std::string("POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nSET evil 1\r\n"),
        std::string("GET / HTTP/1.1\r\nHost: x\r\n\r\nSET evil 1\r\n"),
        std::string("DELETE /SET HTTP/1.1\r\nHost: x\r\n\r\nSET evil 1\r\n"),
        std::string("\x16\x03\x01\x02\x00\x01\r\nSET evil 1\r\n", 20),
        std::string("Host: x\r\nSET evil 1\r\n")}) {
    RespSocket client(node);
    try {
      client.say(bytes);
    } catch (const ConnectionEnded&) {
    }
    CHECK(client.hear_the_end() == "");
  }
  RespSocket client(node);
  CHECK(client.ask({"EXISTS", "evil"}) == ":0\r\n");
  CHECK(has(client.ask({"INFO", "stats"}), "foreigners_cut_off:5"));
  node.stop();
  CHECK(has(node.error_output(), "event=foreigner_cut_off"));
}

TEST_CASE("an open address needs a password, and a password file a password") {
  NodeProcess node({"--resp", "0.0.0.0:0"}, false);
  CHECK(node.start_refused().code != 0);
  CHECK(has(node.error_output(), "--resp-password-file"));
  const std::string file = node.root() + "/empty";
  write_text(file, "\n");
  node.flags = {"--resp", "0.0.0.0:0", "--resp-password-file", file};
  CHECK(node.start_refused().code != 0);
  CHECK(has(node.error_output(), "there is no password in it"));
  node.flags = {"--resp", "0.0.0.0:0", "--resp-password-file", node.root() + "/missing"};
  CHECK(node.start_refused().code != 0);
  Guarded open("0.0.0.0:0");
  RespSocket client(open.node);
  CHECK(client.ask({"PING"}) == no_auth);
}

TEST_CASE("a port that somebody serves already is refused") {
  NodeProcess first({"--resp", "127.0.0.1:0"});
  NodeProcess second({"--resp", "127.0.0.1:" + std::to_string(resp_port_of(first))}, false);
  CHECK(second.start_refused().code != 0);
  CHECK(has(second.error_output(), "--resp"));
}
