// `gyre proxy --resp` as a child process in front of a RedisProcess.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "node_process.hpp"
#include "redis_process.hpp"

namespace gyre::test {

class ProxyProcess : public NodeProcess {
 public:
  explicit ProxyProcess(const RedisProcess& redis, const std::vector<std::string>& more = {})
      : ProxyProcess(redis.port(), more) {}
  explicit ProxyProcess(uint16_t redis_port, const std::vector<std::string>& more)
      : NodeProcess({"--redis-port", std::to_string(redis_port), "--admin", "off", "--resp",
                     "127.0.0.1:0", "--ttl-ms", "3600000"},
                    false) {
    command = "proxy";
    flags.insert(flags.end(), more.begin(), more.end());
    start();
  }
  uint16_t resp_port() const {
    const std::string line = ready_line();
    const size_t at = line.find("resp=127.0.0.1:");
    return static_cast<uint16_t>(std::atoi(line.c_str() + at + 15));
  }
};

}  // namespace gyre::test
