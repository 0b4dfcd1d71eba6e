// The administration of the real binary: its address, who may use it, and what its verbs do.
#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <chrono>
#include <filesystem>
#include <map>
#include <thread>

#include "http_client.hpp"
#include "node_process.hpp"
#include "shell.hpp"

using namespace gyre::test;
namespace fs = std::filesystem;

namespace {

constexpr const char* meant = "Gyre-Admin: 1\r\n";

uint16_t admin_port(const NodeProcess& node) {
  const std::string line = node.ready_line();
  const std::string before = " admin=http://127.0.0.1:";
  const size_t at = line.find(before);
  REQUIRE(at != std::string::npos);
  return static_cast<uint16_t>(std::stoul(line.substr(at + before.size())));
}

void fill(Shell& shell, int from, int count, size_t value_bytes = 200) {
  std::string text;
  for (int i = from; i < from + count; ++i) {
    text +=
        "key" + std::to_string(i) + "\t" + std::to_string(i) + std::string(value_bytes, 'v') + "\n";
  }
  REQUIRE(shell.run({"load", "-"}, text).code == 0);
}

// Somebody else's listener.
class TakenPort {
 public:
  explicit TakenPort(uint16_t port = 0) {
    fd_ = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    taken_ = bind(fd_, reinterpret_cast<sockaddr*>(&address), size) == 0 && listen(fd_, 8) == 0;
    if (getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size) == 0) {
      port_ = ntohs(address.sin_port);
    }
  }
  ~TakenPort() { close(fd_); }
  uint16_t port() const { return port_; }
  bool taken() const { return taken_; }

 private:
  int fd_ = -1;
  uint16_t port_ = 0;
  bool taken_ = false;
};

using Tables = std::map<std::string, std::pair<ino_t, int64_t>>;

Tables tables_of(const std::string& data) {
  Tables tables;
  for (const auto& entry : fs::recursive_directory_iterator(data)) {
    const std::string path = entry.path();
    struct stat status{};
    if (!path.ends_with(".table") || stat(path.c_str(), &status) != 0) continue;
    tables[path] = {status.st_ino, status.st_mtim.tv_sec * 1'000'000'000 + status.st_mtim.tv_nsec};
  }
  return tables;
}

}  // namespace

TEST_CASE("flush, compact and verify work without set-up and say what they did") {
  NodeProcess node;
  Shell shell(node.port());
  fill(shell, 0, 3000);
  const std::string shards = std::to_string(cores_under_test());
  const Ran flushed = shell.run({"admin", "flush"});
  CHECK(flushed.code == 0);
  CHECK(flushed.output == "flushed " + shards + " shards\n");
  CHECK(node.metric("flushes_total") == cores_under_test());
  fill(shell, 1000, 3000);
  const Ran compacted = shell.run({"admin", "compact"});
  CHECK(compacted.code == 0);
  CHECK(compacted.output == "compacted " + shards + " shards\n");
  CHECK(node.metric("compactions_total") >= cores_under_test());
  const Ran verified = shell.run({"admin", "verify"});
  CHECK(verified.code == 0);
  CHECK(verified.errors == "");
  CHECK(has(verified.output, " of " + shards + " shards: "));
  CHECK(has(verified.output, " 4000 entries"));
  HttpClient(node.port()).get(entity("key5"));
  const std::string status = shell.run({"admin", "status"}).output;
  CHECK(has(status, "  entries                  4,000\n"));
  CHECK(has(status, "  tombstones               0\n"));
  CHECK(has(status, "  write amplification      "));
  CHECK(has(status, "  level 0                  0 tables"));
  CHECK(has(status, "  level 6                  " + shards + " tables"));
  CHECK(has(status, "asked 1 times, past the filter 1, of these in vain 0"));
  // The address of the administration does as well, for status too.
  const std::string url = "http://127.0.0.1:" + std::to_string(admin_port(node));
  CHECK(shell.run({"admin", "verify", "--url", url}).code == 0);
  CHECK(has(shell.run({"admin", "status", "--url", url}).output, " is ready\n"));
}

TEST_CASE("verify names a damaged file, and the node says so everywhere") {
  NodeProcess node;
  Shell shell(node.port());
  fill(shell, 0, 3000);
  REQUIRE(shell.run({"admin", "flush"}).code == 0);
  const Tables tables = tables_of(node.data());
  REQUIRE(!tables.empty());
  const std::string damaged = tables.begin()->first;
  {
    std::fstream file(damaged, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(100);
    file.put('\x7f');
  }
  const Ran verified = shell.run({"admin", "verify"});
  CHECK(verified.code == 1);
  CHECK(has(verified.errors, damaged + ": offset 0: data block"));
  CHECK(has(verified.errors, "; 1 places are damaged"));
  HttpClient client(node.port());
  const HttpAnswer ready = client.get("/readyz?verbose");
  CHECK(ready.status == 200);  // everything else is served
  CHECK(has(ready.body, damaged + ": offset 0"));
  CHECK(client.get("/readyz").body == "ok\n");
  CHECK(node.metric("damaged_tables") == 1);
  CHECK(has(node.error_output(), "event=damaged_table"));
}

TEST_CASE("a checkpoint made while the node is written to starts as a node of its own") {
  NodeProcess node;
  Shell shell(node.port());
  fill(shell, 0, 2000);
  const std::string copy = node.root() + "/copy of it";
  std::thread writer([&] {
    HttpClient client(node.port());
    for (int i = 0; i < 2000; ++i) client.put(entity("later" + std::to_string(i)), "x");
  });
  const Ran made = shell.run({"admin", "checkpoint", copy});
  writer.join();
  CHECK(made.code == 0);
  CHECK(has(made.output, copy + " holds a copy of "));
  CHECK(!fs::exists(copy + ".incomplete"));
  const Ran again = shell.run({"admin", "checkpoint", copy});
  CHECK(again.code == 1);
  CHECK(has(again.errors, "exists already"));
  CHECK(shell.run({"admin", "compact"}).code == 0);  // removes tables that the copy has
  NodeProcess other({"--data", copy});
  HttpClient client(other.port());
  for (int i = 0; i < 2000; i += 7) {
    CHECK(client.get(entity("key" + std::to_string(i))).body ==
          std::to_string(i) + std::string(200, 'v'));
  }
  CHECK(client.put(entity("new"), "value").status == 201);
  Shell other_shell(other.port());
  CHECK(other_shell.run({"admin", "verify"}).code == 0);
  CHECK(HttpClient(node.port()).get(entity("new")).status == 404);
}

TEST_CASE("no web page, and nobody by accident, makes a node do anything") {
  NodeProcess node;
  HttpClient admin(admin_port(node));
  for (const char* verb : {"flush", "compact", "verify", "checkpoint?directory=/tmp/x"}) {
    const std::string target = std::string("/admin/") + verb;
    CAPTURE(target);
    CHECK(admin.request("POST", target).status == 403);
    CHECK(admin.request("POST", target, std::string(meant) + "Origin: null\r\n").status == 403);
    CHECK(admin.request("POST", target, "Gyre-Admin: 0\r\n").status == 403);
    const HttpAnswer got = admin.get(target, meant);
    CHECK(got.status == 405);
    CHECK(got.header("allow") == "POST");
    const HttpAnswer asked = admin.request("OPTIONS", target, meant);
    CHECK(asked.status == 405);
    CHECK(!asked.has("access-control-allow-origin"));
    // Where clients are, there is nothing to be had.
    HttpClient client(node.port());
    CHECK(client.request("POST", target, meant).status == 403);
  }
  for (const char* directory : {"", "?directory=", "?directory=relative", "?directory=%zz"}) {
    CHECK(admin.request("POST", std::string("/admin/checkpoint") + directory, meant).status == 400);
  }
  CHECK(admin.request("POST", "/admin/nothing", meant).status == 400);
  CHECK(admin.get("/v0/entity?id=k").status == 400);
  CHECK(admin.get("/livez").body == "ok\n");
  CHECK(admin.get("/v0/status").status == 200);
  const std::string url = "http://127.0.0.1:" + std::to_string(admin_port(node)) + "\n";
  CHECK(admin.get("/admin").body == url);
  CHECK(HttpClient(node.port()).get("/admin").body == url);
  const HttpAnswer flushed = admin.request("POST", "/admin/flush", meant);
  CHECK(flushed.status == 200);
  CHECK(has(flushed.body, "ok flushed "));
}

TEST_CASE("the default port gives way, a chosen one that is taken is refused") {
  const TakenPort other;
  NodeProcess refused({"--admin", std::to_string(other.port())}, false);
  const Exit exit = refused.start_refused();
  CHECK(exit.code == 1);
  CHECK(has(refused.error_output(), "127.0.0.1:" + std::to_string(other.port())));
  CHECK(has(refused.error_output(), "--admin"));

  NodeProcess node;
  CHECK(node.stop().code == 0);
  const uint16_t usual = static_cast<uint16_t>(
      node.port() + 10'000 <= 65'535 ? node.port() + 10'000 : node.port() - 10'000);
  const TakenPort taken(usual);
  if (taken.taken()) {
    node.start();
    CHECK(admin_port(node) != usual);
    Shell shell(node.port());
    CHECK(shell.run({"admin", "flush"}).code == 0);
    CHECK(has(node.error_output(), "event=admin_port_taken"));
    CHECK(node.stop().code == 0);
  }
  node.flags = {"--admin", "off"};
  node.start();
  CHECK(node.ready_line().find(" admin=off ") != std::string::npos);
  Shell shell(node.port());
  const Ran ran = shell.run({"admin", "flush"});
  CHECK(ran.code == 1);
  CHECK(has(ran.errors, "--admin off"));
}

TEST_CASE("a stop does not wait for what the administration has under way") {
  NodeProcess node;
  Shell shell(node.port());
  fill(shell, 0, 60'000, 1000);
  for (const char* verb : {"compact", "verify"}) {
    CAPTURE(verb);
    HttpClient admin(admin_port(node));
    admin.send("POST /admin/" + std::string(verb) +
               " HTTP/1.1\r\nHost: x\r\nGyre-Admin: 1\r\n\r\n");
    CHECK(admin.read_head().status == 200);
    const auto before = std::chrono::steady_clock::now();
    CHECK(node.stop().code == 0);
    CHECK(std::chrono::steady_clock::now() - before < std::chrono::seconds(10));
    node.start();
  }
  CHECK(shell.run({"admin", "verify"}).code == 0);
}

TEST_CASE("other numbers of cores serve the same shards without writing a table") {
  NodeProcess node({"--shards", "2", "--cores", "1"});
  Shell shell(node.port());
  fill(shell, 0, 5000);
  HttpClient(node.port()).del(entity("key17"));
  const Ran all = shell.run({"scan", "k"});
  CHECK(all.code == 0);
  CHECK(node.stop().code == 0);
  const Tables tables = tables_of(node.data());
  REQUIRE(tables.size() >= 2);
  for (const char* cores : {"2", "1", "2"}) {
    CAPTURE(cores);
    node.flags = {"--cores", cores};
    node.start();
    CHECK(has(node.ready_line(), std::string(" cores=") + cores + " shards=2 "));
    CHECK(shell.run({"scan", "k"}).output == all.output);
    HttpClient client(node.port());
    CHECK(client.get(entity("key17")).status == 404);
    CHECK(client.get(entity("key18")).body == "18" + std::string(200, 'v'));
    CHECK(node.metric("flushes_total") == 0);
    CHECK(node.metric("compactions_total") == 0);
    CHECK(node.stop().code == 0);
    CHECK(tables_of(node.data()) == tables);
  }
}
