// CLIENT: what connections there are, on all cores, and what is said of this one.
#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <vector>

#include <gyre/call.hpp>

#include "node/node.hpp"
#include "node/resp/commands.hpp"
#include "node/resp/resp_server.hpp"
#include "node/resp/task_exchange.hpp"
#include "resp/number_text.hpp"

namespace gyre {

std::string describe(const RespClient& client) {
  const Nanos now = Reactor::current().now();
  return fmt::format(
      "id={} addr=peer-{:016x}:0 laddr=?:0 fd={} name={} age={} idle={} flags={} db={} sub=0 "
      "psub=0 "
      "ssub=0 multi=-1 qbuf={} qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl={} oll=0 omem={} "
      "tot-mem={} events=r cmd={} user=default redir=-1 resp={} lib-name={} lib-ver={}",
      client.id, client.peer(), client.fd(), client.name,
      (now - client.connected_at()) / seconds(1), (now - client.heard_at()) / seconds(1),
      client.no_evict ? "e" : "N", client.database, client.memory_bytes(), client.output_bytes(),
      client.output_bytes(), client.memory_bytes() + client.output_bytes() + sizeof(RespClient),
      client.last_command == nullptr ? "NULL" : client.last_command->name,
      static_cast<int>(client.protocol()), client.library_name, client.library_version);
}

namespace resp_commands {

namespace {

// Which clients are meant.
struct ClientFilter {
  std::vector<uint64_t> ids;  // any of these; empty: all
  bool has_ids = false;
  bool none = false;  // something that no client here is
  std::optional<uint64_t> not_this;
  std::optional<uint64_t> seconds_min;

  bool takes(const RespClient& client) const {
    if (none || client.id == not_this) return false;
    if (has_ids && std::ranges::find(ids, client.id) == ids.end()) return false;
    return !seconds_min || Reactor::current().now() - client.connected_at() >=
                               seconds(static_cast<int64_t>(*seconds_min));
  }
};

constexpr std::string_view client_types[] = {"normal", "master", "replica", "slave", "pubsub"};

bool is_client_type(std::string_view text) {
  return std::ranges::any_of(client_types,
                             [&](std::string_view type) { return resp::is_word(text, type); });
}

void unknown_type(resp::ReplyWriter out, std::string_view type) {
  out.error(fmt::format("ERR Unknown client type '{}'", resp::echo(type)));
}

// CLIENT LIST [TYPE type] [ID id …]. False: answered.
bool read_list_filter(TaskExchange& in, ClientFilter& filter) {
  if (in.size() == 4 && resp::is_word(in[2], "type")) {
    if (!is_client_type(in[3])) {
      unknown_type(in.out(), in[3]);
      return false;
    }
    filter.none = !resp::is_word(in[3], "normal");
    return true;
  }
  if (in.size() > 3 && resp::is_word(in[2], "id")) {
    filter.has_ids = true;
    for (size_t i = 3; i < in.size(); ++i) {
      const auto id = resp::parse_integer(in[i]);
      if (!id || *id < 0) {
        in.out().error("ERR Invalid client ID");
        return false;
      }
      filter.ids.push_back(static_cast<uint64_t>(*id));
    }
    return true;
  }
  if (in.size() == 2) return true;
  in.out().error("ERR syntax error");
  return false;
}

Task<void> list(TaskExchange& in) {
  ClientFilter filter;
  if (!read_list_filter(in, filter)) co_return;
  Node& node = in.server().node();
  std::string text;
  for (unsigned core = 0; core < node.cores(); ++core) {
    text += co_await call_on(core, [&node, &filter, core] {
      std::string lines;
      for (RespClient* at = node.core(core).resp()->clients(); at != nullptr;
           at = at->next_client()) {
        if (filter.takes(*at)) lines += describe(*at) + "\n";
      }
      return lines;
    });
  }
  in.out().verbatim("txt", text);
}

// CLIENT KILL in its later form: pairs of a filter and its value. False: answered.
bool read_kill_filter(TaskExchange& in, ClientFilter& filter) {
  bool skip_me = true;
  if (in.size() % 2 != 0) {
    in.out().error("ERR syntax error");
    return false;
  }
  for (size_t at = 2; at < in.size(); at += 2) {
    const std::string_view value = in[at + 1];
    if (resp::is_word(in[at], "id")) {
      const auto id = resp::parse_integer(value);
      if (!id || *id < 1) {
        in.out().error("ERR client-id should be greater than 0");
        return false;
      }
      filter.has_ids = true;
      filter.ids.push_back(static_cast<uint64_t>(*id));
    } else if (resp::is_word(in[at], "maxage")) {
      const auto age = resp::parse_integer(value);
      if (!age || *age < 1) {
        in.out().error("ERR maxage should be greater than 0");
        return false;
      }
      filter.seconds_min = static_cast<uint64_t>(*age);
    } else if (resp::is_word(in[at], "type")) {
      if (!is_client_type(value)) {
        unknown_type(in.out(), value);
        return false;
      }
      filter.none |= !resp::is_word(value, "normal");
    } else if (resp::is_word(in[at], "user")) {
      if (value != "default") {
        in.out().error(fmt::format("ERR No such user '{}'", resp::echo(value)));
        return false;
      }
    } else if (resp::is_word(in[at], "addr") || resp::is_word(in[at], "laddr")) {
      filter.none = true;  // addresses are not told
    } else if (resp::is_word(in[at], "skipme") &&
               (resp::is_word(value, "yes") || resp::is_word(value, "no"))) {
      skip_me = resp::is_word(value, "yes");
    } else {
      in.out().error("ERR syntax error");
      return false;
    }
  }
  if (skip_me) filter.not_this = in.client().id;
  return true;
}

Task<void> kill(TaskExchange& in) {
  ClientFilter filter;
  if (in.size() == 3) {  // by address and port, which are not told
    in.out().error("ERR No such client");
    co_return;
  }
  if (!read_kill_filter(in, filter)) co_return;
  Node& node = in.server().node();
  const RespClient* self = &in.client();
  int64_t killed = 0;
  for (unsigned core = 0; core < node.cores(); ++core) {
    killed += co_await call_on(core, [&node, &filter, core, self] {
      int64_t count = 0;
      for (RespClient* at = node.core(core).resp()->clients(); at != nullptr;
           at = at->next_client()) {
        if (!filter.takes(*at)) continue;
        ++count;
        if (at == self) {
          at->close_after_answer();
        } else {
          at->abort();
        }
      }
      return count;
    });
  }
  in.out().integer(killed);
}

// ON or OFF. False: answered.
bool read_switch(Invocation& in, bool& value) {
  if (!resp::is_word(in[2], "on") && !resp::is_word(in[2], "off")) {
    in.syntax_error();
    return false;
  }
  value = resp::is_word(in[2], "on");
  in.ok();
  return true;
}

}  // namespace

resp::Exchange* client_list(Invocation& in) {
  return new TaskExchange(in, list);
}
resp::Exchange* client_kill(Invocation& in) {
  return new TaskExchange(in, kill);
}

resp::Exchange* client_getname(Invocation& in) {
  if (in.client.name.empty()) {
    in.out().null();
  } else {
    in.out().bulk(in.client.name);
  }
  return nullptr;
}

resp::Exchange* client_help(Invocation& in) {
  const CommandSpec* container = find_command("client");
  resp::ReplyWriter out = in.out();
  out.array(1 + 2 * container->subcommands.size());
  out.simple("CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:");
  for (const CommandSpec& subcommand : container->subcommands) {
    out.simple(subcommand.subcommand_name());
    out.simple(fmt::format("    {}", subcommand.summary));
  }
  return nullptr;
}

resp::Exchange* client_id(Invocation& in) {
  in.out().integer(static_cast<int64_t>(in.client.id));
  return nullptr;
}

resp::Exchange* client_info(Invocation& in) {
  in.out().verbatim("txt", describe(in.client) + "\n");
  return nullptr;
}

resp::Exchange* client_no_evict(Invocation& in) {
  read_switch(in, in.client.no_evict);
  return nullptr;
}
resp::Exchange* client_no_touch(Invocation& in) {
  read_switch(in, in.client.no_touch);
  return nullptr;
}

resp::Exchange* client_reply(Invocation& in) {
  if (resp::is_word(in[2], "on")) {
    in.client.set_reply_mode(resp::ReplyMode::on);
    return in.ok();
  }
  if (resp::is_word(in[2], "off")) {
    in.client.set_reply_mode(resp::ReplyMode::off);
  } else if (resp::is_word(in[2], "skip")) {
    // Who gets no replies at all goes on so.
    if (!in.client.silent()) in.client.set_reply_mode(resp::ReplyMode::skip_next);
  } else {
    return in.syntax_error();
  }
  return nullptr;
}

resp::Exchange* client_setinfo(Invocation& in) {
  const bool is_name = resp::is_word(in[2], "lib-name");
  if (!is_name && !resp::is_word(in[2], "lib-ver")) {
    return in.error(fmt::format("ERR Unrecognized option '{}'", resp::echo(in[2])));
  }
  if (!is_client_attribute(in[3])) {
    return in.error(fmt::format("ERR {} cannot contain spaces, newlines or special characters.",
                                is_name ? "lib-name" : "lib-ver"));
  }
  (is_name ? in.client.library_name : in.client.library_version) = in[3];
  return in.ok();
}

resp::Exchange* client_setname(Invocation& in) {
  if (!is_client_attribute(in[2])) return in.error(wrong_client_name);
  in.client.name = in[2];
  return in.ok();
}

}  // namespace resp_commands
}  // namespace gyre
