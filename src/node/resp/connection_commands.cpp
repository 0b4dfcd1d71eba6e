// What a client says of itself and of its connection.
#include <fmt/format.h>

#include "node/node.hpp"
#include "node/resp/commands.hpp"
#include "node/resp/compatibility.hpp"
#include "node/resp/resp_server.hpp"
#include "resp/number_text.hpp"

namespace gyre::resp_commands {

namespace {

constexpr std::string_view wrong_password =
    "WRONGPASS invalid username-password pair or user is disabled.";

// There is one user, whom Redis calls default. False: answered.
bool authenticate(Invocation& in, std::string_view user, std::string_view password) {
  if (user != "default" || (in.server.needs_password() && !in.server.is_password(password))) {
    in.error(wrong_password);
    return false;
  }
  in.server.authenticated(in.client);
  return true;
}

void answer_hello(Invocation& in) {
  resp::ReplyWriter out = in.out();
  out.map(7);
  out.bulk("server");
  out.bulk("redis");
  out.bulk("version");
  out.bulk(redis_version);
  out.bulk("proto");
  out.integer(static_cast<int>(in.client.protocol()));
  out.bulk("id");
  out.integer(static_cast<int64_t>(in.client.id));
  out.bulk("mode");
  out.bulk("standalone");
  out.bulk("role");
  out.bulk("master");
  out.bulk("modules");
  out.array(0);
}

}  // namespace

resp::Exchange* auth(Invocation& in) {
  if (in.size() > 3) return in.syntax_error();
  if (in.size() == 2 && !in.server.needs_password()) {
    return in.error(
        "ERR AUTH <password> called without any password configured for the default user. Are you "
        "sure your configuration is correct?");
  }
  const std::string_view user = in.size() == 2 ? std::string_view("default") : in[1];
  if (!authenticate(in, user, in[in.size() - 1])) return nullptr;
  return in.ok();
}

resp::Exchange* echo(Invocation& in) {
  in.out().bulk(in[1]);
  return nullptr;
}

// HELLO [protover [AUTH username password] [SETNAME clientname]]
resp::Exchange* hello(Invocation& in) {
  resp::Protocol protocol = in.client.protocol();
  size_t at = 1;
  if (in.size() > 1) {
    const auto version = resp::parse_integer(in[1]);
    if (!version) return in.error("ERR Protocol version is not an integer or out of range");
    if (*version < 2 || *version > 3) return in.error("NOPROTO unsupported protocol version");
    protocol = *version == 3 ? resp::Protocol::resp3 : resp::Protocol::resp2;
    ++at;
  }
  std::string_view name;
  bool has_name = false;
  for (; at < in.size(); ++at) {
    const size_t left = in.size() - at - 1;
    if (resp::is_word(in[at], "auth") && left >= 2) {
      if (!authenticate(in, in[at + 1], in[at + 2])) return nullptr;
      at += 2;
    } else if (resp::is_word(in[at], "setname") && left >= 1) {
      name = in[++at];
      has_name = true;
      if (!is_client_attribute(name)) return in.error(wrong_client_name);
    } else {
      return in.error(fmt::format("ERR Syntax error in HELLO option '{}'", resp::echo(in[at])));
    }
  }
  if (!in.client.authenticated()) {
    return in.error(
        "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO "
        "<proto> AUTH <user> <pass> option can be used to authenticate the client and select the "
        "RESP protocol version at the same time");
  }
  if (has_name) in.client.name = name;
  in.client.set_protocol(protocol);
  answer_hello(in);
  return nullptr;
}

resp::Exchange* ping(Invocation& in) {
  if (in.size() > 2) return in.wrong_arity();
  if (in.size() == 2) {
    in.out().bulk(in[1]);
  } else {
    in.out().simple("PONG");
  }
  return nullptr;
}

resp::Exchange* quit(Invocation& in) {
  in.client.close_after_answer();
  return in.ok();
}

resp::Exchange* reset(Invocation& in) {
  RespClient& client = in.client;
  client.database = 0;
  client.name.clear();
  client.no_evict = false;
  client.no_touch = false;
  client.set_protocol(resp::Protocol::resp2);
  client.set_reply_mode(resp::ReplyMode::on);
  if (in.server.needs_password()) in.server.forget_authentication(client);
  in.out().simple("RESET");
  return nullptr;
}

resp::Exchange* select(Invocation& in) {
  const auto number = resp::parse_integer(in[1]);
  if (!number) return in.not_an_integer();
  if (*number < 0 || *number >= RespServer::databases) {
    return in.error("ERR DB index is out of range");
  }
  in.client.database = static_cast<unsigned>(*number);
  return in.ok();
}

}  // namespace gyre::resp_commands
