// One command of one client, while it is being started.
#pragma once

#include <string>
#include <string_view>

#include "node/resp/command_table.hpp"
#include "node/resp/resp_client.hpp"
#include "resp/connection.hpp"

namespace gyre {

class Core;
class RespServer;

struct Invocation {
  RespServer& server;
  RespClient& client;
  resp::Command words;
  const CommandSpec& spec;

  resp::ReplyWriter out() { return client.out(); }
  size_t size() const { return words.size(); }
  std::string_view operator[](size_t index) const { return words[index]; }

  // Answers, for `return in.error(…)`.
  resp::Exchange* error(std::string_view message);
  resp::Exchange* ok();
  resp::Exchange* wrong_arity();
  resp::Exchange* syntax_error() { return error("ERR syntax error"); }
  resp::Exchange* not_an_integer() { return error("ERR value is not an integer or out of range"); }
};

}  // namespace gyre
