// What is in a reply of the Redis protocol.
#pragma once

#include <string>
#include <vector>

namespace gyre::test {

// The bulk strings of a reply, whatever they are in.
inline std::vector<std::string> bulks_of(const std::string& reply) {
  std::vector<std::string> out;
  for (size_t at = 0; at < reply.size();) {
    const size_t end = reply.find("\r\n", at);
    if (end == std::string::npos) break;
    if (reply[at] == '$' && reply[at + 1] != '-') {
      const size_t size = std::stoul(reply.substr(at + 1, end - at - 1));
      out.push_back(reply.substr(end + 2, size));
      at = end + 2 + size + 2;
    } else {
      at = end + 2;
    }
  }
  return out;
}

}  // namespace gyre::test
