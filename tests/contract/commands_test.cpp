// The client commands of the real binary against a real node, as a shell runs them.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <thread>
#include <vector>

#include "http_client.hpp"
#include "node_process.hpp"
#include "shell.hpp"

using namespace gyre::test;
namespace fs = std::filesystem;

namespace {

std::string every_byte() {
  std::string bytes;
  for (int c = 1; c < 256; ++c) bytes += static_cast<char>(c);  // no argument can hold a zero
  return bytes;
}

std::string escaped(const std::string& bytes) {
  std::string text;
  for (char c : bytes) {
    if (c == '\t')
      text += "\\t";
    else if (c == '\n')
      text += "\\n";
    else if (c == '\\')
      text += "\\\\";
    else
      text += c;
  }
  return text;
}

// Says one thing to one client, then closes.
class OneAnswer {
 public:
  explicit OneAnswer(std::string answer) {
    listener_ = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    REQUIRE(bind(listener_, reinterpret_cast<sockaddr*>(&address), size) == 0);
    REQUIRE(listen(listener_, 8) == 0);
    REQUIRE(getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) == 0);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this, answer = std::move(answer)] {
      const int fd = accept(listener_, nullptr, nullptr);
      std::string heard;
      char buffer[4096];
      while (!has(heard, "\r\n\r\n")) {
        const ssize_t got = read(fd, buffer, sizeof buffer);
        if (got <= 0) break;
        heard.append(buffer, static_cast<size_t>(got));
      }
      for (size_t at = 0; at < answer.size();) {
        const ssize_t sent = send(fd, answer.data() + at, answer.size() - at, MSG_NOSIGNAL);
        if (sent <= 0) break;
        at += static_cast<size_t>(sent);
      }
      close(fd);
    });
  }
  ~OneAnswer() {
    thread_.join();
    close(listener_);
  }
  uint16_t port() const { return port_; }

 private:
  int listener_ = -1;
  uint16_t port_ = 0;
  std::thread thread_;
};

}  // namespace

TEST_CASE("put, get and del: what they print and how they end") {
  NodeProcess node;
  Shell shell(node.port());
  const Ran absent = shell.run({"get", "k"});
  CHECK(absent.code == 3);
  CHECK(absent.output.empty());
  CHECK(absent.errors == "gyre: there is no key 'k'\n");

  const Ran put = shell.run({"put", "k", "value"});
  CHECK(put.code == 0);
  CHECK(put.output + put.errors == "");
  CHECK(shell.run({"get", "k"}).output == "value");
  CHECK(shell.run({"put", "k", ""}).code == 0);
  const Ran empty = shell.run({"get", "k"});
  CHECK(empty.code == 0);
  CHECK(empty.output == "");

  CHECK(shell.run({"del", "k"}).code == 0);
  CHECK(shell.run({"get", "k"}).code == 3);
  CHECK(shell.run({"del", "k"}).code == 0);

  const std::string odd = every_byte();
  CHECK(shell.run({"put", odd, odd}).code == 0);
  CHECK(shell.run({"get", odd}).output == odd);
  CHECK(HttpClient(node.port()).get(entity(odd)).body == odd);

  CHECK(shell.run({"put", "short-lived", "x", "--ttl", "1ms"}).code == 0);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  CHECK(shell.run({"get", "short-lived"}).code == 3);

  const Ran refused = shell.run({"get", ""});
  CHECK(refused.code == 1);
  CHECK(has(refused.errors, "400 Bad Request: "));
}

TEST_CASE("put - streams standard input, and stops when the node refuses it") {
  NodeProcess node({"--max-value", "4M"});
  Shell shell(node.port());
  for (const size_t size : {size_t{0}, size_t{1}, size_t{100'000}, size_t{4} << 20}) {
    CAPTURE(size);
    const std::string value = random_bytes(size, size);
    const Ran put = shell.run({"put", "streamed", "-"}, value);
    CHECK(put.code == 0);
    CHECK(put.errors == "");
    CHECK(HttpClient(node.port()).get(entity("streamed")).body == value);
    CHECK(shell.run({"get", "streamed"}).output == value);
  }
  // Endless input: only an early answer ends this.
  const Ran endless = shell.run_from({"put", "endless", "-"}, "/dev/zero");
  CHECK(endless.code == 1);
  CHECK(has(endless.errors, "413"));
  CHECK(shell.run({"get", "endless"}).code == 3);
  const Ran unreadable = shell.run_from({"put", "unreadable", "-"}, "/");
  CHECK(unreadable.code == 1);
  CHECK(has(unreadable.errors, "standard input: Is a directory"));
  CHECK(shell.run({"get", "unreadable"}).code == 3);
}

TEST_CASE("what load stored scan prints, byte for byte") {
  NodeProcess node;
  Shell shell(node.port());
  std::map<std::string, std::string> records;
  for (uint64_t i = 0; i < 20'000; ++i) {
    records["key" + std::to_string(i)] = random_bytes(i, i % 50);
  }
  records["large"] = random_bytes(1, 300'000);
  records["odd"] = every_byte() + '\0' + every_byte();
  records["empty"] = "";
  std::string text;
  for (const auto& [key, value] : records) text += key + "\t" + escaped(value) + "\n";
  write_text(shell.path("records"), text);

  const Ran load = shell.run({"load", shell.path("records")});
  CHECK(load.code == 0);
  CHECK(load.output == "");
  CHECK(has(load.errors, "gyre: 20,003 records stored from "));
  const Ran scan = shell.run({"scan", "a"});
  CHECK(scan.code == 0);
  CHECK(scan.errors == "");
  CHECK(scan.output == text);

  CHECK(shell.run({"scan", "key10", "key100"}).output ==
        "key10\t" + escaped(records["key10"]) + "\n");
  CHECK(shell.run({"scan", "key1", "--keys", "--limit", "3"}).output == "key1\nkey10\nkey100\n");
  CHECK(shell.run({"scan", "key1", "--limit", "0"}).output == "");
  CHECK(shell.run({"scan", "zzz"}).output == "");
  CHECK(shell.run({"scan", "zzz"}).code == 0);

  CHECK(shell.run({"load", "-"}, "key1\tnew\nkey1\tnewer\n").code == 0);
  CHECK(shell.run({"get", "key1"}).output == "newer");
}

TEST_CASE("load counts what it can't store, shows it, and fails") {
  NodeProcess node({"--max-value", "1K"});
  Shell shell(node.port());
  const Ran load = shell.run({"load", "-"}, "a\t1\nno tab\nbad\\x\t2\n\t3\nlong\t" +
                                                std::string(2000, 'x') + "\nb\t4\nc\tcut");
  CHECK(load.code == 1);
  CHECK(has(load.errors, "gyre: line 2: has no tab between key and value\n"));
  CHECK(has(load.errors, "gyre: line 3: has a backslash"));
  CHECK(has(load.errors, "gyre: line 4: has an empty key\n"));
  CHECK(has(load.errors, "gyre: line 5: key 'long': 413 "));
  CHECK(has(load.errors, "gyre: line 7: does not end in a newline"));
  CHECK(has(load.errors, "gyre: 2 records stored from "));
  CHECK(has(load.errors, "gyre: 5 lines were not stored\n"));
  CHECK(shell.run({"scan", "a"}).output == "a\t1\nb\t4\n");

  const Ran missing = shell.run({"load", shell.path("absent")});
  CHECK(missing.code == 1);
  CHECK(has(missing.errors, "absent can't be opened: No such file or directory"));
  const Ran directory = shell.run({"load", "/"});
  CHECK(directory.code == 1);
  CHECK(has(directory.errors, "/ is a directory"));
  const Ran binary = shell.run_from({"load", "-"}, "/dev/zero");
  CHECK(binary.code == 1);
  CHECK(has(binary.errors, "line 1 has no tab within its first 131072 bytes"));
}

TEST_CASE("load gets over a node that is killed and started again") {
  NodeProcess node;
  Shell shell(node.port());
  const uint64_t count = scaled(60'000, 5'000);
  std::string text;
  for (uint64_t i = 0; i < count; ++i) {
    text += "key" + std::to_string(1'000'000 + i) + "\tvalue " + std::to_string(i) + "\n";
  }
  write_text(shell.path("records"), text);
  const pid_t load = shell.start({"load", shell.path("records")}, "/dev/null");
  while (node.metric("shard_writes_total") < static_cast<double>(count) / 10) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  node.kill();
  node.start();
  const Ran ran = shell.finish(load);
  CHECK(ran.errors != "");
  CHECK(ran.code == 0);
  CHECK(shell.run({"scan", "key"}).output == text);
}

TEST_CASE("without a node every command says so and what to do") {
  NodeProcess node({}, false);
  Shell shell(listening_port_of_new_socket());
  for (const std::vector<std::string>& command :
       std::vector<std::vector<std::string>>{{"get", "k"},
                                             {"put", "k", "v"},
                                             {"put", "k", "-"},
                                             {"del", "k"},
                                             {"scan", "k"},
                                             {"load", "-"},
                                             {"admin", "status"}}) {
    CAPTURE(command[0]);
    const Ran ran = shell.run(command, "k\tv\n");
    CHECK(ran.code == 1);
    CHECK(ran.output == "");
    CHECK(has(ran.errors, "gyre: cannot connect to http://127.0.0.1:"));
    CHECK(has(ran.errors, ": refused. Is `gyre serve` running there?"));
  }
  const Ran name = shell.run({"get", "k", "--url", "http://no-such-host.invalid:8080"});
  CHECK(name.code == 1);
  CHECK(has(name.errors, "no-such-host.invalid"));
}

TEST_CASE("a scan whose answer is cut fails, and says that it is incomplete") {
  const std::string head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
  const auto scan = [](const std::string& answer) {
    OneAnswer server(answer);
    return Shell(server.port()).run({"scan", "a"});
  };
  const Ran whole = scan(head + "3\r\na\n1\r\n5\r\nb\n2\n3\r\n0\r\n\r\n");
  CHECK(whole.code == 0);
  CHECK(whole.output == "a\t1\nb\t2\\n3\n");
  const Ran between = scan(head + "3\r\na\n1\r\n");
  CHECK(between.code == 1);
  CHECK(between.output == "a\t1\n");
  CHECK(has(between.errors, "the scan is incomplete: it ended after 1 records"));
  const Ran within = scan(head + "3\r\na\n1\r\n9\r\nb\n2");
  CHECK(within.code == 1);
  CHECK(within.output == "a\t1\nb\t2");  // no newline: load refuses such a line
  const Ran no_records = scan(head + "3\r\nabc\r\n0\r\n\r\n");
  CHECK(no_records.code == 1);
  CHECK(has(no_records.errors, "is not made of records"));
  const Ran sized = scan("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na\n1");
  CHECK(sized.code == 1);
}

TEST_CASE("a node that does not answer is given up after --timeout") {
  const int silent = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  REQUIRE(bind(silent, reinterpret_cast<sockaddr*>(&address), size) == 0);
  REQUIRE(listen(silent, 8) == 0);
  REQUIRE(getsockname(silent, reinterpret_cast<sockaddr*>(&address), &size) == 0);
  Shell shell(ntohs(address.sin_port));
  const Ran ran = shell.run({"get", "k", "--timeout", "100ms"});
  CHECK(ran.code == 1);
  CHECK(has(ran.errors, "did not answer in time (no progress for 100ms)"));
  close(silent);
}

TEST_CASE("admin status shows the node") {
  NodeProcess node;
  Shell shell(node.port());
  CHECK(shell.run({"put", "k", "v"}).code == 0);
  const Ran status = shell.run({"admin", "status"});
  CHECK(status.code == 0);
  CHECK(status.errors == "");
  CHECK(has(status.output, " is ready\n[+] serving ok\n[+] shard-000 ok\n"));
  CHECK(has(status.output, "  put                      1\n"));
  CHECK(has(status.output, "  writes                   1\n"));
  CHECK(has(status.output,
            "  cores                    " + std::to_string(cores_under_test()) + "\n"));
}

TEST_CASE("inspect passes every file of a data directory, and fails on a changed byte") {
  NodeProcess node;
  Shell shell(node.port());
  std::string text;
  for (int i = 0; i < 5000; ++i)
    text += "key" + std::to_string(i) + "\t" + std::string(200, 'v') + "\n";
  text += "large\t" + std::string(500'000, 'L') + "\n";
  CHECK(shell.run({"load", "-"}, text).code == 0);
  node.kill();  // the log is as a crash leaves it
  unsigned logs = 0, tables = 0, manifests = 0;
  const auto inspect_all = [&] {
    for (const auto& entry : fs::recursive_directory_iterator(node.data())) {
      const std::string path = entry.path();
      const bool log = path.ends_with(".log");
      const bool table = path.ends_with(".table");
      const bool manifest = has(path, "MANIFEST-");
      if (!log && !table && !manifest) continue;
      CAPTURE(path);
      logs += log;
      tables += table;
      manifests += manifest;
      const Ran ran = shell.run({"inspect", path});
      CHECK(ran.code == 0);
      CHECK(ran.errors == "");
      const Ran records = shell.run({"inspect", path, "--records"});
      CHECK(records.code == 0);
      CHECK(records.output.size() >= ran.output.size());
    }
  };
  inspect_all();
  CHECK(logs > 0);
  CHECK(manifests > 0);
  node.start();
  CHECK(node.stop().code == 0);  // a stop flushes
  inspect_all();
  REQUIRE(tables > 0);
  const Ran whole = shell.run({"inspect", node.data()});
  CHECK(whole.code == 0);
  CHECK(whole.errors == "");
  node.start();
  const Ran busy = shell.run({"inspect", node.data()});
  CHECK(busy.code == 1);
  CHECK(has(busy.errors, "is in use by a node: ask it with gyre admin verify"));
  CHECK(node.stop().code == 0);
  for (const auto& entry : fs::recursive_directory_iterator(node.data())) {
    const std::string path = entry.path();
    if (!path.ends_with(".table")) continue;
    std::string bytes = read_text(path);
    bytes[50] = static_cast<char>(bytes[50] ^ 1);
    write_text(path, bytes);
    const Ran ran = shell.run({"inspect", path});
    CHECK(ran.code == 1);
    CHECK(has(ran.errors, "gyre: damage: " + path + ": offset "));
  }
  const Ran other = shell.run({"inspect", node.data() + "/GYRE"});
  CHECK(other.code == 1);
}
