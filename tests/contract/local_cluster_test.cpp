// `gyre cluster`: nodes on this machine as its child processes.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "node_group.hpp"
#include "shell.hpp"

using namespace gyre::test;

namespace {

namespace fs = std::filesystem;

// Only against hanging for ever.
bool eventually(const std::function<bool()>& holds) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(120);
  while (!holds()) {
    if (std::chrono::steady_clock::now() >= deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return true;
}

// The command, in a process group and with a directory for temporary files of its own.
class LocalCluster {
 public:
  explicit LocalCluster(std::vector<std::string> flags) : root_(make_temporary_directory()) {
    start(std::move(flags));
  }
  ~LocalCluster() {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
    CHECK(eventually([&] { return none_serves(); }));
    remove_directory(root_);
  }
  LocalCluster(const LocalCluster&) = delete;
  LocalCluster& operator=(const LocalCluster&) = delete;

  void start(std::vector<std::string> flags) {
    std::vector<std::string> arguments = {std::getenv("GYRE_TEST_BINARY"), "cluster", "--cores",
                                          std::to_string(cores_under_test())};
    if (std::ranges::find(flags, "--memory") == flags.end()) {
      arguments.insert(arguments.end(), {"--memory", "160M"});
    }
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    fs::create_directories(root_ + "/tmp");
    fs::remove(out());
    pid_ = fork();
    REQUIRE(pid_ >= 0);
    if (pid_ != 0) return;
    setpgid(0, 0);
    setenv("TMPDIR", (root_ + "/tmp").c_str(), 1);
    dup2(open("/dev/null", O_RDONLY), STDIN_FILENO);
    dup2(open(out().c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), STDOUT_FILENO);
    dup2(open(err().c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), STDERR_FILENO);
    execv(argv[0], argv.data());
    _exit(127);
  }

  // The nodes' ports, once it says that all are ready.
  void wait_ready() {
    REQUIRE_MESSAGE(eventually([&] { return has(read_text(out()), "Ctrl-C stops them."); }),
                    read_text(err()));
    ports_.clear();
    const std::string text = read_text(out());
    for (int i = 1;; ++i) {
      const std::string before = "  n" + std::to_string(i) + "  http://127.0.0.1:";
      const size_t at = text.find(before);
      if (at == std::string::npos) break;
      ports_.push_back(static_cast<uint16_t>(std::atoi(text.c_str() + at + before.size())));
    }
  }

  int wait() {
    REQUIRE(pid_ > 0);
    int status = 0;
    REQUIRE(eventually([&] { return waitpid(pid_, &status, WNOHANG) == pid_; }));
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  int stop() {
    REQUIRE(pid_ > 0);
    kill(pid_, SIGTERM);
    return wait();
  }

  // Of node `index`, from 0.
  pid_t node_pid(size_t index) const {
    const std::string data = "/n" + std::to_string(index + 1);
    for (const auto& entry : fs::directory_iterator("/proc")) {
      std::string line = read_text(entry.path() / "cmdline");
      for (char& c : line) c = c == '\0' ? ' ' : c;
      const std::string status = read_text(entry.path() / "status");
      if (has(line, data + " ") && has(status, "PPid:\t" + std::to_string(pid_) + "\n"))
        return std::atoi(entry.path().filename().c_str());
    }
    FAIL("no process of node " << index);
    return -1;
  }
  bool none_serves() const {
    for (const uint16_t port : ports_) {
      if (!is_refused(port)) return false;
    }
    return true;
  }

  pid_t pid() const { return pid_; }
  const std::vector<uint16_t>& ports() const { return ports_; }
  std::string path(const std::string& name) const { return root_ + "/" + name; }
  std::string out() const { return root_ + "/out"; }
  std::string err() const { return root_ + "/err"; }
  std::string errors() const { return read_text(err()); }
  bool left_nothing() const { return fs::is_empty(root_ + "/tmp"); }

 private:
  std::string root_;
  pid_t pid_ = -1;
  std::vector<uint16_t> ports_;
};

bool is_gone(pid_t pid) {
  return kill(pid, 0) != 0 && errno == ESRCH;
}

}  // namespace

TEST_CASE("three nodes serve as one, and nothing is left of them after SIGTERM") {
  LocalCluster cluster({"--nodes", "3"});
  cluster.wait_ready();
  REQUIRE(cluster.ports().size() == 3);
  CHECK(!cluster.left_nothing());
  std::vector<pid_t> nodes;
  for (size_t i = 0; i < 3; ++i) nodes.push_back(cluster.node_pid(i));
  CHECK(HttpClient(cluster.ports()[0]).put(entity("k"), "v").status == 201);
  CHECK(HttpClient(cluster.ports()[2]).get(entity("k")).body == "v");
  CHECK(HttpClient(cluster.ports()[1]).get(entity("k") + "&replicas=3/3").body == "v");
  for (const char* name : {"n1", "n2", "n3"}) {
    CHECK(has(cluster.errors(), std::string(name) + " | gyre serves http://"));
  }
  CHECK(cluster.stop() == 0);
  for (const pid_t node : nodes) CHECK(is_gone(node));
  CHECK(cluster.none_serves());
  CHECK(cluster.left_nothing());
}

TEST_CASE("Ctrl-C reaches the nodes once, through the command") {
  LocalCluster cluster({"--nodes", "2"});
  cluster.wait_ready();
  kill(-cluster.pid(), SIGINT);  // as a terminal: to the whole group
  CHECK(cluster.wait() == 0);    // a node that is told twice ends with 130
  CHECK(cluster.left_nothing());
}

TEST_CASE("a node that dies is told of, and the others go on") {
  LocalCluster cluster({"--nodes", "3"});
  cluster.wait_ready();
  REQUIRE(HttpClient(cluster.ports()[0]).put(entity("k") + "&replicas=3/3", "v").status == 201);
  kill(cluster.node_pid(1), SIGKILL);
  REQUIRE(eventually([&] { return has(cluster.errors(), "gyre cluster: n2 "); }));
  CHECK(has(cluster.errors(), "was ended by signal 9; the others go on"));
  CHECK(HttpClient(cluster.ports()[0]).get(entity("k")).body == "v");
  CHECK(HttpClient(cluster.ports()[2]).put(entity("k"), "w").status == 201);
  CHECK(cluster.stop() == 1);
  CHECK(cluster.none_serves());
  CHECK(cluster.left_nothing());
}

TEST_CASE("a second signal doesn't wait for a node that doesn't stop") {
  LocalCluster cluster({"--nodes", "2"});
  cluster.wait_ready();
  const pid_t stuck = cluster.node_pid(0);
  kill(stuck, SIGSTOP);
  kill(cluster.pid(), SIGTERM);
  REQUIRE(eventually([&] { return is_refused(cluster.ports()[1]); }));
  CHECK(kill(stuck, 0) == 0);
  CHECK(cluster.stop() == 1);
  CHECK(is_gone(stuck));
  CHECK(!has(cluster.errors(), "does not stop and is killed"));  // not by waiting long enough
  CHECK(cluster.left_nothing());
}

TEST_CASE("nodes don't outlive a command that is killed") {
  LocalCluster cluster({"--nodes", "2"});
  cluster.wait_ready();
  const pid_t node = cluster.node_pid(1);
  kill(cluster.pid(), SIGKILL);
  CHECK(cluster.wait() == -1);
  CHECK(eventually([&] { return is_gone(node) && cluster.none_serves(); }));
}

TEST_CASE("a directory that is given keeps the cluster") {
  LocalCluster cluster({"--nodes", "2", "--dir", "/dev/null/x"});
  CHECK(cluster.wait() == 1);
  CHECK(has(cluster.errors(), "--dir /dev/null/x: "));
  const std::string directory = cluster.path("kept");
  cluster.start({"--nodes", "2", "--dir", directory});
  cluster.wait_ready();
  const std::vector<uint16_t> ports = cluster.ports();
  CHECK(HttpClient(ports[0]).put(entity("k") + "&replicas=2/2", "v").status == 201);
  struct stat secret{};
  REQUIRE(stat((directory + "/secret").c_str(), &secret) == 0);
  CHECK((secret.st_mode & 0777) == 0600);
  CHECK(secret.st_size == 65);
  {
    LocalCluster other({"--nodes", "2", "--dir", directory});
    CHECK(other.wait() == 1);
    CHECK(has(other.errors(), "is in use by another gyre cluster"));
  }
  CHECK(cluster.stop() == 0);
  cluster.start({"--nodes", "3", "--dir", directory});
  CHECK(cluster.wait() == 1);
  CHECK(has(cluster.errors(), "holds the data of 2 nodes, not 3"));
  cluster.start({"--base-port", "9", "--dir", directory});
  CHECK(cluster.wait() == 1);
  CHECK(has(cluster.errors(), "leave --base-port out"));
  cluster.start({"--dir", directory});
  cluster.wait_ready();
  CHECK(cluster.ports() == ports);
  CHECK(HttpClient(ports[1]).get(entity("k") + "&replicas=2/2").body == "v");
  CHECK(cluster.stop() == 0);
  CHECK(cluster.left_nothing());
}

TEST_CASE("nodes take the ports from --base-port on, or say which is taken") {
  NodeProcess other;
  LocalCluster cluster({"--nodes", "2", "--base-port", std::to_string(other.port() - 1)});
  CHECK(cluster.wait() == 1);
  CHECK(has(cluster.errors(), "port " + std::to_string(other.port()) + " of node n2 is in use"));
  CHECK(has(cluster.errors(), "--base-port"));
  CHECK(cluster.left_nothing());
  const uint16_t port = free_ports(1).front();
  cluster.start({"--nodes", "1", "--base-port", std::to_string(port)});
  cluster.wait_ready();
  CHECK(cluster.ports() == std::vector<uint16_t>{port});
  CHECK(HttpClient(port).put(entity("k"), "v").status == 201);
  CHECK(cluster.stop() == 0);
}

TEST_CASE("nodes that can't start are named, with what they said") {
  LocalCluster cluster({"--nodes", "2", "--memory", "17M"});
  CHECK(cluster.wait() == 1);
  CHECK(has(cluster.errors(), " | gyre: --memory"));
  CHECK(has(cluster.errors(), " (http://127.0.0.1:"));
  CHECK(has(cluster.errors(), "ended with exit code 2"));
  CHECK(has(cluster.errors(), "not all nodes could be started"));
  CHECK(cluster.left_nothing());
}
