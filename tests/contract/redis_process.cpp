#include "redis_process.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <stdexcept>
#include <thread>

#include "http_client.hpp"
#include "node_process.hpp"

namespace gyre::test {

namespace {
constexpr auto start_patience = std::chrono::seconds(60);
}

RedisProcess::RedisProcess(std::vector<std::string> arguments)
    : arguments_(std::move(arguments)), directory_(make_temporary_directory()) {
  start();
}

RedisProcess::~RedisProcess() {
  kill();
  remove_directory(directory_);
}

void RedisProcess::start() {
  if (port_ == 0) port_ = listening_port_of_new_socket();
  std::vector<std::string> words = {
      "redis-server", "--port", std::to_string(port_), "--bind", "127.0.0.1",
      "--save",       "",       "--appendonly",        "no",     "--dir",
      directory_};
  words.insert(words.end(), arguments_.begin(), arguments_.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  pid_ = fork();
  if (pid_ < 0) throw std::runtime_error("fork");
  if (pid_ == 0) {
    const int out = open((directory_ + "/out").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    dup2(out, STDOUT_FILENO);
    dup2(out, STDERR_FILENO);
    execvp(argv[0], argv.data());
    _exit(127);
  }
  const auto deadline = std::chrono::steady_clock::now() + start_patience;
  while (std::chrono::steady_clock::now() < deadline) {
    int status = 0;
    if (waitpid(pid_, &status, WNOHANG) == pid_) {
      pid_ = -1;
      throw std::runtime_error("redis-server ended at once; is it installed?");
    }
    try {
      const std::string reply = RedisClient(port_).run({"PING"});
      if (reply == "PONG" || reply.find("NOAUTH") != std::string::npos) return;
    } catch (const std::runtime_error&) {  // not yet
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  throw std::runtime_error("redis-server does not answer");
}

void RedisProcess::signal(int number) {
  if (pid_ > 0) ::kill(pid_, number);
}

void RedisProcess::kill() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

RedisClient::RedisClient(uint16_t port) {
  fd_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    close(fd_);
    throw std::runtime_error("can't connect to Redis");
  }
  const int on = 1;
  setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  const timeval patience{.tv_sec = 60, .tv_usec = 0};
  setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
}

RedisClient::~RedisClient() {
  close(fd_);
}

void RedisClient::fill() {
  char bytes[16384];
  const ssize_t got = read(fd_, bytes, sizeof bytes);
  if (got <= 0) throw std::runtime_error("the connection to Redis ended");
  buffer_.append(bytes, static_cast<size_t>(got));
}

std::string RedisClient::read_line() {
  for (;;) {
    const size_t end = buffer_.find("\r\n");
    if (end != std::string::npos) {
      std::string line = buffer_.substr(0, end);
      buffer_.erase(0, end + 2);
      return line;
    }
    fill();
  }
}

std::string RedisClient::read_bytes(size_t size_bytes) {
  while (buffer_.size() < size_bytes) fill();
  std::string bytes = buffer_.substr(0, size_bytes);
  buffer_.erase(0, size_bytes);
  return bytes;
}

std::string RedisClient::read_reply() {
  const std::string line = read_line();
  const std::string rest = line.substr(1);
  switch (line[0]) {
    case '-':
      return "(error) " + rest;
    case '$': {
      if (rest == "-1") return "(nil)";
      std::string bytes = read_bytes(std::stoul(rest) + 2);
      bytes.resize(bytes.size() - 2);
      return bytes;
    }
    case '_':
      return "(nil)";
    case '%':
    case '*': {
      if (rest == "-1") return "(nil)";
      std::string all;
      const long factor = line[0] == '%' ? 2 : 1;
      for (long i = 0, count = factor * std::stol(rest); i < count; ++i) all += read_reply() + "\n";
      return all;
    }
    default:
      return rest;
  }
}

namespace {
void append_command(std::string& to, const std::vector<std::string>& words) {
  to += "*" + std::to_string(words.size()) + "\r\n";
  for (const std::string& word : words) {
    to += "$" + std::to_string(word.size()) + "\r\n" + word + "\r\n";
  }
}
}  // namespace

void RedisClient::send_bytes(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) throw std::runtime_error("the connection to Redis ended");
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
}

void RedisClient::send(const std::vector<std::string>& words) {
  std::string bytes;
  append_command(bytes, words);
  send_bytes(bytes);
}

std::string RedisClient::run_all(const std::vector<std::string>& words) {
  send(words);
  return read_reply();
}

std::string RedisClient::run(std::initializer_list<std::string_view> words) {
  return run_all(std::vector<std::string>(words.begin(), words.end()));
}

std::vector<std::string> RedisClient::pipeline(
    const std::vector<std::vector<std::string>>& commands) {
  std::string bytes;
  for (const auto& words : commands) append_command(bytes, words);
  send_bytes(bytes);
  std::vector<std::string> replies;
  for (size_t i = 0; i < commands.size(); ++i) replies.push_back(read_reply());
  return replies;
}

}  // namespace gyre::test
