// Redis' own tools, unchanged, against a real node.
#include <doctest/doctest.h>

#include <cstdio>
#include <string>

#include "node_process.hpp"
#include "shell.hpp"

using namespace gyre::test;

namespace {

std::string port_of(const NodeProcess& node) {
  const std::string line = node.ready_line();
  const size_t at = line.find(" resp=");
  REQUIRE(at != std::string::npos);
  const std::string address = line.substr(at + 6, line.find(' ', at + 1) - at - 6);
  return address.substr(address.rfind(':') + 1);
}

// Both streams of a shell command.
std::string output_of(const std::string& command) {
  FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  REQUIRE(pipe != nullptr);
  std::string out;
  char buffer[4096];
  while (const size_t size = fread(buffer, 1, sizeof buffer, pipe)) out.append(buffer, size);
  pclose(pipe);
  return out;
}

}  // namespace

TEST_CASE("redis-cli sets and gets, with both protocols, inline and from a pipe") {
  NodeProcess node({"--resp", "127.0.0.1:0", "--durability", "none"});
  const std::string cli = "redis-cli -p " + port_of(node) + " ";
  CHECK(output_of(cli + "SET key 'a value'") == "OK\n");
  CHECK(output_of(cli + "-3 GET key") == "a value\n");
  CHECK(output_of(cli + "GET nothing") == "\n");
  CHECK(output_of(cli + "-n 3 SET other 1") == "OK\n");
  CHECK(output_of(cli + "-n 3 EXISTS other key") == "1\n");
  CHECK(output_of(cli + "nosuch x") ==
        "ERR unknown command 'nosuch', with args beginning with: 'x' \n\n");
  CHECK(has(output_of(cli + "INFO server"), "redis_version:7."));
  CHECK(output_of("printf 'PING\\r\\nECHO \"a b\"\\r\\n' | " + cli) == "PONG\na b\n");
  CHECK(output_of("printf '*3\\r\\n$3\\r\\nSET\\r\\n$1\\r\\na\\r\\n$1\\r\\nb\\r\\n' | " + cli +
                  "--pipe") ==
        "All data transferred. Waiting for the last reply...\nLast reply received from server.\n"
        "errors: 0, replies: 1\n");
  CHECK(output_of(cli + "GET a") == "b\n");
  CHECK(has(output_of("printf 'HELP SET\\n' | " + cli), "Stores a value"));
}

TEST_CASE("redis-cli tells the password") {
  NodeProcess node({}, false);
  write_text(node.root() + "/password", "secret");
  node.flags = {"--resp", "127.0.0.1:0", "--resp-password-file", node.root() + "/password"};
  node.start();
  const std::string cli = "redis-cli --no-auth-warning -p " + port_of(node) + " ";
  CHECK(output_of(cli + "PING") == "NOAUTH Authentication required.\n\n");
  CHECK(output_of(cli + "-a secret PING") == "PONG\n");
  CHECK(output_of(cli + "-3 --user default -a secret PING") == "PONG\n");
  CHECK(has(output_of(cli + "-a wrong PING"), "WRONGPASS"));
}

TEST_CASE("redis-benchmark runs, pipelined and not") {
  NodeProcess node({"--resp", "127.0.0.1:0", "--durability", "none"});
  for (const char* pipeline : {"1", "16"}) {
    const std::string out =
        output_of("redis-benchmark -p " + port_of(node) + " -n 2000 -c 10 -r 500 -q -P " +
                  pipeline + " -t ping,set,get,mset");
    CAPTURE(out);
    for (const char* test : {"PING_INLINE", "PING_MBULK", "SET", "GET", "MSET"}) {
      CHECK(has(out, test));
    }
    CHECK_FALSE(has(out, "Error"));
    CHECK_FALSE(has(out, "WARNING"));
  }
}
