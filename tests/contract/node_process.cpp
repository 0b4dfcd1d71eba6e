#include "node_process.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <thread>

#include "http_client.hpp"

namespace gyre::test {

namespace fs = std::filesystem;

namespace {

// Only against hanging for ever; a loaded machine may take its time.
constexpr unsigned start_seconds_max = 120;

std::string read_text(const std::string& path) {
  std::ifstream in(path);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

std::string binary() {
  const char* path = std::getenv("GYRE_TEST_BINARY");
  if (path == nullptr) throw std::runtime_error("GYRE_TEST_BINARY is not set");
  return path;
}

bool has_flag(const std::vector<std::string>& flags, const std::string& name) {
  for (const std::string& flag : flags) {
    if (flag == name) return true;
  }
  return false;
}

// A port that was free a moment ago.
uint16_t free_port() {
  return listening_port_of_new_socket();
}

}  // namespace

unsigned cores_under_test() {
  const char* text = std::getenv("GYRE_TEST_CORES");
  return text != nullptr ? static_cast<unsigned>(std::atoi(text)) : 1;
}

double test_scale() {
  const char* text = std::getenv("GYRE_TEST_SCALE");
  return text != nullptr ? std::atof(text) : 1;
}

uint64_t scaled(uint64_t count, uint64_t least) {
  const auto wanted = static_cast<uint64_t>(static_cast<double>(count) * test_scale());
  return wanted < least ? least : wanted;
}

uint64_t free_disk_bytes() {
  struct statvfs info{};
  if (statvfs(fs::temp_directory_path().c_str(), &info) != 0) return 0;
  return static_cast<uint64_t>(info.f_bavail) * info.f_frsize;
}

std::string make_temporary_directory() {
  std::string path = fs::temp_directory_path() / "gyre-contract-XXXXXX";
  if (mkdtemp(path.data()) == nullptr) throw std::runtime_error("mkdtemp " + path);
  return path;
}

void remove_directory(const std::string& path) {
  std::error_code ignored;
  fs::remove_all(path, ignored);
}

NodeProcess::NodeProcess(std::vector<std::string> given, bool start_now)
    : flags(std::move(given)), root_(make_temporary_directory()), data_(root_ + "/data") {
  if (!start_now) return;
  try {
    start();
  } catch (...) {
    kill();
    remove_directory(root_);
    throw;
  }
}

NodeProcess::~NodeProcess() {
  if (running()) {
    const Exit exit = wait(0);
    CHECK_MESSAGE(!exit.ended, "the node ended by itself with code " << exit.code << " signal "
                                                                     << exit.signal << ": "
                                                                     << error_output());
  }
  kill();
  remove_directory(root_);
}

void NodeProcess::launch() {
  std::vector<std::string> arguments = {binary(), command};
  const bool is_proxy = command == "proxy";
  if (is_proxy && !has_flag(flags, "--port") && std::getenv("PROXY_PORT") == nullptr) {
    if (port_ == 0) port_ = free_port();
    arguments.insert(arguments.end(), {"--port", std::to_string(port_)});
  }
  if (!is_proxy && !has_flag(flags, "--listen")) {
    if (port_ == 0) port_ = free_port();
    arguments.insert(arguments.end(), {"--listen", "127.0.0.1:" + std::to_string(port_)});
  }
  if (!is_proxy && !has_flag(flags, "--data")) arguments.insert(arguments.end(), {"--data", data_});
  if (!has_flag(flags, "--cores")) {
    arguments.insert(arguments.end(), {"--cores", std::to_string(cores_under_test())});
  }
  arguments.insert(arguments.end(), flags.begin(), flags.end());
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  fs::remove(root_ + "/out");  // the last start's lines must not be taken for this one's
  fs::remove(root_ + "/err");
  pid_ = fork();
  if (pid_ < 0) throw std::runtime_error("fork");
  if (pid_ != 0) return;
  if (network_namespace >= 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (setns(network_namespace, CLONE_NEWNET) != 0) _exit(126);
  }
  const int out = open((root_ + "/out").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  const int err = error_descriptor >= 0
                      ? error_descriptor
                      : open((root_ + "/err").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  dup2(out, STDOUT_FILENO);
  dup2(err, STDERR_FILENO);
  if (descriptors_max != 0) {
    const rlimit limit{.rlim_cur = descriptors_max, .rlim_max = descriptors_max};
    setrlimit(RLIMIT_NOFILE, &limit);
  }
  execv(argv[0], argv.data());
  _exit(127);
}

void NodeProcess::start() {
  // A free port may be taken by somebody else in between: then another one.
  for (int attempt = 0;; ++attempt) {
    const bool chosen_here = port_ == 0;
    launch();
    if (const Exit exit = wait_ready(); !exit.ended) return;
    if (!chosen_here || attempt >= 5 || error_output().find("in use") == std::string::npos) {
      throw std::runtime_error("the node ended: " + error_output());
    }
    port_ = 0;
  }
}

Exit NodeProcess::wait_ready() {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(start_seconds_max);
  while (std::chrono::steady_clock::now() < deadline) {
    const std::string line = ready_line();
    if (!line.empty() && line.back() == '\n') {
      const size_t at = line.find("http://");
      const size_t colon = line.rfind(':', line.find(' ', at));
      port_ = static_cast<uint16_t>(std::atoi(line.c_str() + colon + 1));
      return {};
    }
    if (const Exit exit = wait(0); exit.ended) return exit;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  throw std::runtime_error("the node does not become ready: " + error_output());
}

Exit NodeProcess::start_refused() {
  launch();
  const Exit exit = wait(start_seconds_max);
  if (!exit.ended) kill();
  return exit;
}

void NodeProcess::signal(int number) {
  if (pid_ > 0) ::kill(pid_, number);
}

Exit NodeProcess::wait(unsigned seconds) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  for (;;) {
    int status = 0;
    if (waitpid(pid_, &status, WNOHANG) == pid_) {
      pid_ = -1;
      return {true, WIFEXITED(status) ? WEXITSTATUS(status) : -1,
              WIFSIGNALED(status) ? WTERMSIG(status) : 0};
    }
    if (std::chrono::steady_clock::now() >= deadline) return {};
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

Exit NodeProcess::stop() {
  signal(SIGTERM);
  const Exit exit = wait(30);
  if (!exit.ended) throw std::runtime_error("the node does not stop: " + error_output());
  return exit;
}

void NodeProcess::kill() {
  if (pid_ <= 0) return;
  signal(SIGKILL);
  waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

std::string NodeProcess::ready_line() const {
  const std::string text = read_text(root_ + "/out");
  const size_t at = text.find(command == "proxy" ? "gyre proxy serves" : "gyre serves");
  if (at == std::string::npos) return {};
  return text.substr(at, text.find('\n', at) + 1 - at);
}

std::string NodeProcess::error_output() const {
  return read_text(root_ + "/err");
}

uint64_t NodeProcess::status_bytes(const std::string& field) const {
  std::ifstream in("/proc/" + std::to_string(pid_) + "/status");
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with(field + ":")) {
      return std::strtoull(line.c_str() + field.size() + 1, nullptr, 10) * 1024;
    }
  }
  return 0;
}

unsigned NodeProcess::descriptors() const {
  unsigned count = 0;
  for (const auto& entry : fs::directory_iterator("/proc/" + std::to_string(pid_) + "/fd")) {
    static_cast<void>(entry);
    ++count;
  }
  return count;
}

double NodeProcess::metric(const std::string& name) const {
  HttpClient client(address, port_, std::chrono::seconds(120));
  std::istringstream lines(client.get("/metrics").body);
  double sum = 0;
  bool found = false;
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("gyre_" + name)) continue;
    const char after = line[5 + name.size()];
    if (after != '{' && after != ' ') continue;
    sum += std::atof(line.c_str() + line.rfind(' '));
    found = true;
  }
  if (!found) throw std::runtime_error("no metric gyre_" + name);
  return sum;
}

}  // namespace gyre::test
