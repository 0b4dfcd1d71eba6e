// Debian's redis-server as a child process, on a free port and without files, and a client that
// talks to it directly.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

namespace gyre::test {

class RedisProcess {
 public:
  // Extra arguments of redis-server.
  explicit RedisProcess(std::vector<std::string> arguments = {});
  ~RedisProcess();  // kills it
  RedisProcess(const RedisProcess&) = delete;
  RedisProcess& operator=(const RedisProcess&) = delete;

  // Starts and waits until it answers; the first time on a free port, then on the same.
  void start();
  void kill();  // SIGKILL, and the end
  void signal(int number);
  uint16_t port() const { return port_; }

 private:
  std::vector<std::string> arguments_;
  std::string directory_;
  pid_t pid_ = -1;
  uint16_t port_ = 0;
};

// Blocking; throws when the connection ends.
class RedisClient {
 public:
  explicit RedisClient(uint16_t port);
  ~RedisClient();
  RedisClient(const RedisClient&) = delete;
  RedisClient& operator=(const RedisClient&) = delete;

  // The reply in the way of redis-cli: "OK", "(nil)", "(error) …", digits, or the bytes. Elements of
  // arrays are separated by line ends.
  std::string run(std::initializer_list<std::string_view> words);
  std::string run_all(const std::vector<std::string>& words);
  // Sent in one piece.
  std::vector<std::string> pipeline(const std::vector<std::vector<std::string>>& commands);
  void send(const std::vector<std::string>& words);

 private:
  void send_bytes(std::string_view bytes);
  std::string read_line();
  std::string read_bytes(size_t size_bytes);
  std::string read_reply();
  void fill();

  int fd_ = -1;
  std::string buffer_;
};

}  // namespace gyre::test
