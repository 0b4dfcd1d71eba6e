// A connection to the RESP front end with what the client has told of itself.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "node/resp/command_table.hpp"
#include "resp/connection.hpp"

namespace gyre {

class RespClient final : public resp::Connection {
 public:
  RespClient(int fd, resp::Handler& handler, const resp::ConnectionLimits& limits,
             bool authenticated, uint64_t number)
      : Connection(fd, handler, limits, authenticated), id(number) {}
  static void* operator new(size_t size_bytes) { return allocate_frame(size_bytes); }
  static void operator delete(void* memory, size_t size_bytes) { free_frame(memory, size_bytes); }

  const uint64_t id;      // unique in the life of the node
  unsigned database = 0;  // SELECT
  std::string name;
  std::string library_name;
  std::string library_version;
  bool no_evict = false;
  bool no_touch = false;
  const CommandSpec* last_command = nullptr;

  RespClient* next_client() const { return static_cast<RespClient*>(next); }
};

// Whether a name fits in one word of CLIENT LIST.
inline bool is_client_attribute(std::string_view text) {
  for (const char c : text) {
    if (c < '!' || c > '~') return false;
  }
  return true;
}
inline constexpr std::string_view wrong_client_name =
    "ERR Client names cannot contain spaces, newlines or special characters.";

// A line of CLIENT LIST, without its end.
std::string describe(const RespClient& client);

}  // namespace gyre
