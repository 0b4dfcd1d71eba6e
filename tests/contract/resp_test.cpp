// The Redis protocol of a real node: the handshakes of clients, commands on keys of all cores,
// pipelines, errors.
#include <doctest/doctest.h>

#include <chrono>
#include <thread>

#include "resp_socket.hpp"

using namespace gyre::test;

namespace {

const std::vector<std::string> with_resp = {"--resp", "127.0.0.1:0", "--durability", "none"};

bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

std::string key_of(int index) {
  return "key-" + std::to_string(index);
}

}  // namespace

TEST_CASE("keys of all cores are set, got and deleted, and HTTP shows the same") {
  NodeProcess node(with_resp);
  RespSocket client(node);
  for (int i = 0; i < 100; ++i) {
    CHECK(client.ask({"SET", key_of(i), "value " + std::to_string(i)}) == "+OK\r\n");
  }
  HttpClient http(node.port());
  for (int i = 0; i < 100; ++i) {
    CHECK(client.ask({"get", key_of(i)}) == bulk("value " + std::to_string(i)));
    CHECK(http.get(entity(key_of(i))).body == "value " + std::to_string(i));
  }
  CHECK(client.ask({"EXISTS", key_of(1), key_of(2), "nothing", key_of(1)}) == ":3\r\n");
  CHECK(client.ask({"DEL", key_of(1), key_of(2), "nothing", key_of(1)}) == ":2\r\n");
  CHECK(client.ask({"GET", key_of(1)}) == "$-1\r\n");
  CHECK(http.get(entity(key_of(1))).status == 404);
  CHECK(http.put(entity("over http"), "bytes").status == 201);
  CHECK(client.ask({"GET", "over http"}) == bulk("bytes"));
}

TEST_CASE("values of any bytes and sizes") {
  NodeProcess node(
      {"--resp", "127.0.0.1:0", "--durability", "none", "--max-value", "4M", "--memory", "256M"});
  RespSocket client(node);
  int seed = 0;
  for (const size_t size :
       {0u, 1u, 511u, 512u, 513u, 16'000u, 16'384u, 70'000u, 1u << 20, 3u << 20}) {
    CAPTURE(size);
    const std::string value = random_bytes(static_cast<uint64_t>(++seed), size);
    for (int i = 0; i < 4; ++i) CHECK(client.ask({"SET", key_of(i), value}) == "+OK\r\n");
    for (int i = 0; i < 4; ++i) CHECK(client.ask({"GET", key_of(i)}) == bulk(value));
    CHECK(client.ask({"MGET", key_of(0), key_of(1), key_of(2)}) ==
          "*3\r\n" + bulk(value) + bulk(value) + bulk(value));
  }
  CHECK(client.ask({"SET", "", "empty"}) == "+OK\r\n");
  CHECK(client.ask({"GET", ""}) == bulk("empty"));
  CHECK(client.ask({"SET", std::string(65'536, 'k'), "long"}) == "+OK\r\n");
  CHECK(client.ask({"GET", std::string(65'536, 'k')}) == bulk("long"));
  CHECK(client.ask({"SET", std::string(65'537, 'k'), "x"}) ==
        "-ERR the key is longer than 65536 bytes\r\n");
  client.say("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4194305\r\n");
  CHECK(client.hear_the_end() == "-ERR Protocol error: invalid bulk length\r\n");
}

TEST_CASE("a value of the largest size fits into little memory, again and again") {
  NodeProcess node({"--resp", "127.0.0.1:0", "--durability", "none", "--memory", "192M"});
  RespSocket client(node);
  const std::string value = random_bytes(1, 16u << 20);
  for (int i = 0; i < 6; ++i) {
    CAPTURE(i);
    std::string said = client.ask({"SET", key_of(i % 2), value});
    // A flush may have to come first.
    for (int tries = 0; tries < 50 && said != "+OK\r\n"; ++tries) {
      CHECK((said.starts_with("-OOM") || said.starts_with("-TRYAGAIN")));
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      said = client.ask({"SET", key_of(i % 2), value});
    }
    CHECK(said == "+OK\r\n");
    const std::string got = client.ask({"GET", key_of(i % 2)});
    CHECK(got.size() == bulk(value).size());
  }
}

TEST_CASE("a client over its rate limit is told so") {
  NodeProcess node({"--resp", "127.0.0.1:0", "--rate-limit", "20"});
  RespSocket client(node);
  std::string bytes;
  for (int i = 0; i < 200; ++i) bytes += "PING\r\n";
  client.say(bytes);
  int refused = 0;
  for (int i = 0; i < 200; ++i) {
    const std::string reply = client.hear();
    if (reply == "+PONG\r\n") continue;
    CHECK(reply == "-ERR over the rate limit of this client address; slow down\r\n");
    ++refused;
  }
  CHECK(refused > 100);
}

TEST_CASE("a pipeline is answered in order, and each command sees what came before it") {
  NodeProcess node({"--resp", "127.0.0.1:0"});
  RespSocket client(node);
  std::string bytes;
  std::string expected;
  for (int i = 0; i < 300; ++i) {
    const std::string key = key_of(i % 7);
    const std::string value = std::to_string(i);
    bytes += command_bytes({"SET", key, value}) + command_bytes({"GET", key}) + "PING\r\n" +
             command_bytes({"MSET", "a" + key, value, "b", value}) +
             command_bytes({"MGET", "a" + key, "b", key}) + command_bytes({"DEL", key}) +
             command_bytes({"EXISTS", key}) + command_bytes({"NOSUCH"});
    expected += "+OK\r\n" + bulk(value) + "+PONG\r\n+OK\r\n*3\r\n" + bulk(value) + bulk(value) +
                bulk(value) +
                ":1\r\n:0\r\n-ERR unknown command 'NOSUCH', with args beginning with: \r\n";
  }
  client.say(bytes);
  std::string heard;
  for (int i = 0; i < 300 * 8; ++i) heard += client.hear();
  CHECK(heard == expected);
}

TEST_CASE("the last of many writes to one key in a pipeline is the one that stays") {
  NodeProcess node({"--resp", "127.0.0.1:0"});
  RespSocket client(node);
  for (int round = 0; round < 20; ++round) {
    std::string bytes;
    for (int i = 0; i < 100; ++i) {
      bytes += command_bytes({"SET", key_of(round), std::to_string(i)});
    }
    client.say(bytes);
    for (int i = 0; i < 100; ++i) CHECK(client.hear() == "+OK\r\n");
    CHECK(client.ask({"GET", key_of(round)}) == bulk("99"));
  }
}

TEST_CASE("databases are kept apart") {
  NodeProcess node(with_resp);
  RespSocket client(node);
  for (int database = 0; database < 16; ++database) {
    CHECK(client.ask({"SELECT", std::to_string(database)}) == "+OK\r\n");
    CHECK(client.ask({"GET", "key"}) == "$-1\r\n");
    CHECK(client.ask({"SET", "key", std::to_string(database)}) == "+OK\r\n");
  }
  for (int database = 0; database < 16; ++database) {
    client.ask({"SELECT", std::to_string(database)});
    CHECK(client.ask({"GET", "key"}) == bulk(std::to_string(database)));
  }
  CHECK(client.ask({"SELECT", "16"}) == "-ERR DB index is out of range\r\n");
  CHECK(client.ask({"SELECT", "-1"}) == "-ERR DB index is out of range\r\n");
  CHECK(client.ask({"SELECT", "x"}) == "-ERR value is not an integer or out of range\r\n");
  HttpClient http(node.port());
  CHECK(http.get(entity("key")).body == "0");
}

TEST_CASE("clients' handshakes are answered") {
  NodeProcess node(with_resp);
  {
    RespSocket client(node);
    const std::string hello = client.ask({"HELLO", "3"});
    CHECK(hello.starts_with("%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n"));
    CHECK(contains(hello, "$5\r\nproto\r\n:3\r\n"));
    CHECK(contains(hello, "$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n"));
    CHECK(client.ask({"GET", "nothing"}) == "_\r\n");
    CHECK(client.ask({"CLIENT", "MAINT_NOTIFICATIONS", "ON"}) ==
          "-ERR unknown subcommand 'MAINT_NOTIFICATIONS'. Try CLIENT HELP.\r\n");
    CHECK(client.ask({"CLIENT", "SETNAME", "tester"}) == "+OK\r\n");
    CHECK(client.ask({"CLIENT", "SETINFO", "LIB-NAME", "redis-py"}) == "+OK\r\n");
    CHECK(client.ask({"CLIENT", "SETINFO", "LIB-VER", "8.0.0"}) == "+OK\r\n");
    CHECK(client.ask({"CLIENT", "GETNAME"}) == bulk("tester"));
    CHECK(contains(client.ask({"CLIENT", "LIST"}), " name=tester age=0 idle=0 flags=N db=0"));
    CHECK(contains(client.ask({"CLIENT", "INFO"}), "lib-name=redis-py lib-ver=8.0.0"));
    const std::string info = client.ask({"INFO"});
    for (const char* part :
         {"redis_version:7.", "redis_mode:standalone", "loading:0", "role:master"}) {
      CAPTURE(part);
      CHECK(contains(info, part));
    }
    CHECK(client.ask({"HELLO", "2"}).starts_with("*14\r\n"));
  }
  RespSocket client(node);
  CHECK(client.ask({"HELLO", "4"}) == "-NOPROTO unsupported protocol version\r\n");
  CHECK(client.ask({"HELLO", "x"}) ==
        "-ERR Protocol version is not an integer or out of range\r\n");
  CHECK(client.ask({"HELLO", "3", "FOO"}) == "-ERR Syntax error in HELLO option 'FOO'\r\n");
  CHECK(contains(client.ask({"HELLO", "3", "AUTH", "default", "any", "SETNAME", "n"}), "proto"));
  CHECK(client.ask({"CLIENT", "GETNAME"}) == bulk("n"));
  CHECK(client.ask({"AUTH", "x"}).starts_with("-ERR AUTH <password> called without any password"));
  CHECK(client.ask({"RESET"}) == "+RESET\r\n");
  CHECK(client.ask({"CLIENT", "GETNAME"}) == "$-1\r\n");
  CHECK(contains(client.ask({"CONFIG", "GET", "databases"}), "16"));
  CHECK(contains(client.ask({"CONFIG", "GET", "save"}), "save"));
  CHECK(contains(client.ask({"CONFIG", "GET", "append*"}), bulk("appendonly") + bulk("yes")));
  CHECK(client.ask({"CONFIG", "SET", "timeout", "100"}) == "+OK\r\n");
  CHECK(contains(client.ask({"CONFIG", "GET", "timeout"}), bulk("100")));
  CHECK(client.ask({"CONFIG", "SET", "dir", "/tmp"}) ==
        "-ERR Unknown option or number of arguments for CONFIG SET - 'dir'\r\n");
  CHECK(client.ask({"CONFIG", "SET", "port", "1"}).starts_with("-ERR CONFIG SET failed"));
  CHECK(client.ask({"FUNCTION", "FLUSH"}) == "+OK\r\n");
  CHECK(client.ask({"TIME"}).starts_with("*2\r\n"));
  CHECK(client.ask({"QUIT"}) == "+OK\r\n");
  CHECK(client.hear_the_end() == "");
}

TEST_CASE("what commands there are can be asked") {
  NodeProcess node(with_resp);
  RespSocket client(node);
  const std::string count = client.ask({"COMMAND", "COUNT"});
  CHECK(client.ask({"COMMAND"}).starts_with("*" + count.substr(1)));
  CHECK(client.ask({"COMMAND", "INFO", "get", "nosuch"})
            .starts_with(
                "*2\r\n*10\r\n$3\r\nget\r\n:2\r\n*2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n"));
  CHECK(contains(client.ask({"COMMAND", "DOCS"}), bulk("summary")));
  CHECK(client.ask({"COMMAND", "GETKEYS", "MSET", "a", "1", "b", "2"}) ==
        "*2\r\n" + bulk("a") + bulk("b"));
  CHECK(client.ask({"COMMAND", "GETKEYS", "PING"}) == "-ERR The command has no key arguments\r\n");
  CHECK(contains(client.ask({"COMMAND", "LIST", "FILTERBY", "PATTERN", "mge*"}),
                 "*1\r\n" + bulk("mget")));
}

TEST_CASE("errors are Redis' own") {
  NodeProcess node(with_resp);
  RespSocket client(node);
  CHECK(client.ask({"foo", "a\r\nb", std::string(200, 'x')}) ==
        "-ERR unknown command 'foo', with args beginning with: 'a  b' '" + std::string(121, 'x') +
            "' \r\n");
  CHECK(client.ask({"GET"}) == "-ERR wrong number of arguments for 'get' command\r\n");
  CHECK(client.ask({"MSET", "a"}) == "-ERR wrong number of arguments for 'mset' command\r\n");
  CHECK(client.ask({"MSET", "a", "1", "b"}) ==
        "-ERR wrong number of arguments for 'mset' command\r\n");
  CHECK(client.ask({"CLIENT"}) == "-ERR wrong number of arguments for 'client' command\r\n");
  CHECK(client.ask({"CLIENT", "ID", "x"}) ==
        "-ERR wrong number of arguments for 'client|id' command\r\n");
  CHECK(client.ask({"CLIENT", "FOO"}) == "-ERR unknown subcommand 'FOO'. Try CLIENT HELP.\r\n");
  CHECK(client.ask({"CLIENT", "SETNAME", "a b"}) ==
        "-ERR Client names cannot contain spaces, newlines or special characters.\r\n");
  CHECK(client.ask({"PING", "a", "b"}) == "-ERR wrong number of arguments for 'ping' command\r\n");
  CHECK(client.ask({"PING"}) == "+PONG\r\n");
}

TEST_CASE("clients are listed and ended across cores") {
  NodeProcess node(with_resp);
  std::vector<std::unique_ptr<RespSocket>> others;
  std::vector<std::string> ids;
  for (int i = 0; i < 8; ++i) {
    others.push_back(std::make_unique<RespSocket>(node));
    ids.push_back(others.back()->ask({"CLIENT", "ID"}));
  }
  RespSocket client(node);
  const std::string list = client.ask({"CLIENT", "LIST"});
  for (const std::string& id : ids) {
    CHECK(contains(list, "id=" + id.substr(1, id.size() - 3) + " "));
  }
  CHECK(client.ask({"CLIENT", "KILL", "ID", ids[3].substr(1, ids[3].size() - 3)}) == ":1\r\n");
  CHECK(others[3]->hear_the_end() == "");
  CHECK(client.ask({"CLIENT", "KILL", "TYPE", "normal"}) == ":7\r\n");
  for (int i = 0; i < 8; ++i) CHECK(others[static_cast<size_t>(i)]->hear_the_end() == "");
  CHECK(client.ask({"CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no"}) == ":1\r\n");
  CHECK(client.hear_the_end() == "");
}

TEST_CASE("a client may write a long pipeline before it reads anything") {
  NodeProcess node({"--resp", "127.0.0.1:0", "--durability", "none", "--memory", "512M"});
  RespSocket client(node);
  const std::string value = random_bytes(1, 1000);
  CHECK(client.ask({"SET", "key", value}) == "+OK\r\n");
  std::string bytes;
  for (int i = 0; i < 20'000; ++i) bytes += command_bytes({"GET", "key"});
  client.say(bytes);  // 20 MB of answers
  for (int i = 0; i < 20'000; ++i) REQUIRE(client.hear() == bulk(value));
}

TEST_CASE("what was acknowledged is there after a kill, and the node stops and starts as ever") {
  NodeProcess node({"--resp", "127.0.0.1:0"});
  {
    RespSocket client(node);
    for (int i = 0; i < 50; ++i) CHECK(client.ask({"SET", key_of(i), "v"}) == "+OK\r\n");
  }
  node.kill();
  node.start();
  {
    RespSocket client(node);
    for (int i = 0; i < 50; ++i) CHECK(client.ask({"GET", key_of(i)}) == bulk("v"));
  }
  RespSocket idle(node);
  CHECK(idle.ask({"PING"}) == "+PONG\r\n");
  CHECK(node.stop().code == 0);
  CHECK(idle.hear_the_end() == "");
}
