#include "lab_network.hpp"

#include <fcntl.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <stdexcept>

namespace gyre::chaos {

namespace {

constexpr int not_run = 127;

// In another network namespace if `network` is a descriptor; the exit code, what it printed in
// `output`.
int run_command(int network, const std::vector<std::string>& words, std::string& output) {
  std::vector<char*> argv;
  for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error("pipe");
  const pid_t pid = fork();
  if (pid < 0) throw std::runtime_error("fork");
  if (pid == 0) {
    dup2(ends[1], STDOUT_FILENO);
    dup2(ends[1], STDERR_FILENO);
    if (network >= 0 && setns(network, CLONE_NEWNET) != 0) _exit(not_run);
    execvp(argv[0], argv.data());
    _exit(not_run);
  }
  close(ends[1]);
  char bytes[4096];
  for (ssize_t size = 0; (size = read(ends[0], bytes, sizeof bytes)) > 0;) {
    output.append(bytes, static_cast<size_t>(size));
  }
  close(ends[0]);
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : not_run;
}

std::vector<std::string> words_of(const std::string& command) {
  std::vector<std::string> words;
  for (size_t at = 0; at < command.size();) {
    const size_t end = std::min(command.find(' ', at), command.size());
    words.push_back(command.substr(at, end - at));
    at = end + 1;
  }
  return words;
}

void must_run(int network, const std::string& command) {
  std::string output;
  const int code = run_command(network, words_of(command), output);
  if (code == not_run) throw std::runtime_error("can't run: " + command);
  if (code != 0) throw std::runtime_error(command + ": " + output);
}

int own_namespace() {
  const int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw std::runtime_error("no /proc/thread-self/ns/net");
  return fd;
}

void write_text(const std::string& path, const std::string& text) {
  std::ofstream(path) << text;
}

// Into a new network namespace; as root of a user namespace where we are not root.
void enter_new_namespace() {
  if (unshare(CLONE_NEWNET) == 0) return;
  const std::string uid = std::to_string(getuid());
  const std::string gid = std::to_string(getgid());
  if (unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) {
    throw std::runtime_error(std::string("network namespaces: ") + std::strerror(errno));
  }
  write_text("/proc/self/setgroups", "deny");
  write_text("/proc/self/uid_map", "0 " + uid + " 1");
  write_text("/proc/self/gid_map", "0 " + gid + " 1");
}

}  // namespace

std::unique_ptr<LabNetwork> LabNetwork::make(size_t nodes, std::string& why_not) {
  std::unique_ptr<LabNetwork> made(new LabNetwork());
  try {
    made->build(nodes);
  } catch (const std::runtime_error& error) {
    why_not = error.what();
    return nullptr;
  }
  return made;
}

LabNetwork::~LabNetwork() {
  for (const int fd : namespaces_) close(fd);
}

void LabNetwork::build(size_t nodes) {
  std::string ignored;
  if (run_command(-1, {"ip", "-V"}, ignored) == not_run) {
    throw std::runtime_error("no ip command (package iproute2)");
  }
  enter_new_namespace();
  must_run(-1, "ip link set lo up");
  must_run(-1, "ip link add bridge type bridge forward_delay 0 stp_state 0");
  must_run(-1, "ip address add " + bridge_address() + "/24 dev bridge");
  must_run(-1, "ip link set bridge up");
  const int home = own_namespace();
  for (size_t node = 0; node < nodes; ++node) {
    if (unshare(CLONE_NEWNET) != 0) throw std::runtime_error("unshare");
    namespaces_.push_back(own_namespace());
    if (setns(home, CLONE_NEWNET) != 0) throw std::runtime_error("setns");
    const int inside = namespaces_[node];
    must_run(-1, "ip link add " + cable(node) + " type veth peer name eth0 netns /proc/" +
                     std::to_string(getpid()) + "/fd/" + std::to_string(inside));
    must_run(-1, "ip link set " + cable(node) + " master bridge up");
    must_run(inside, "ip link set lo up");
    must_run(inside, "ip address add " + address_of(node) + "/24 dev eth0");
    must_run(inside, "ip link set eth0 up");
  }
  close(home);
}

void LabNetwork::unplug(size_t node) {
  must_run(-1, "ip link set " + cable(node) + " down");
}

void LabNetwork::plug(size_t node) {
  must_run(-1, "ip link set " + cable(node) + " up");
}

// A blackhole route would tell the sender at once, with EINVAL. A link address that nobody has is
// silent: the bridge hands the packets to all, and all ignore them.
void LabNetwork::blackhole(size_t from, size_t to) {
  must_run(namespaces_[from], "ip neighbour replace " + address_of(to) +
                                  " lladdr 02:00:00:00:00:01 dev eth0 nud permanent");
}

void LabNetwork::end_blackhole(size_t from, size_t to) {
  must_run(namespaces_[from], "ip neighbour del " + address_of(to) + " dev eth0");
}

void LabNetwork::limit(size_t node, uint64_t bytes_per_second) {
  const std::string rate = std::to_string(bytes_per_second * 8) + "bit";
  const std::string rest = " root tbf rate " + rate + " burst 16kb latency 400ms";
  must_run(-1, "tc qdisc replace dev " + cable(node) + rest);
  must_run(namespaces_[node], "tc qdisc replace dev eth0" + rest);
}

void LabNetwork::end_limit(size_t node) {
  must_run(-1, "tc qdisc del dev " + cable(node) + " root");
  must_run(namespaces_[node], "tc qdisc del dev eth0 root");
}

bool LabNetwork::can_limit() {
  std::string ignored;
  return run_command(-1, {"tc", "-V"}, ignored) == 0;
}

}  // namespace gyre::chaos
