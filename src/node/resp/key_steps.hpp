// Steps of commands that touch several keys one after the other (RENAME, COPY, MSETNX), each on the
// core of its key. Each step is atomic; the command is not.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <gyre/result.hpp>
#include <gyre/task.hpp>
#include <gyre/version.hpp>

namespace gyre {

class RespServer;

// The newest state of a key.
struct KeyState {
  bool present = false;
  Version version;
  uint64_t expire_at_ms = 0;
  std::string value;  // if it was wanted
};
enum class WantsValue : uint8_t { no, yes };

// Keys are stored ones. An error's detail is what the client is told: "CODE reason".
Task<Result<KeyState>> look_at_key(RespServer& server, std::string key, WantsValue wants);
// With `only_if_absent` nothing is written over a key that is there; false then.
Task<Result<bool>> put_key(RespServer& server, std::string key, std::string value,
                           uint64_t expire_at_ms, bool only_if_absent);
// Only if it is still what was looked at; false: it has changed.
Task<Result<bool>> remove_key(RespServer& server, std::string key, Version version);

}  // namespace gyre
