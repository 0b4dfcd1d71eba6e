// The functions behind the command table.
#pragma once

#include "node/resp/invocation.hpp"

namespace gyre::resp_commands {

// connection_commands.cpp
resp::Exchange* auth(Invocation& in);
resp::Exchange* echo(Invocation& in);
resp::Exchange* hello(Invocation& in);
resp::Exchange* ping(Invocation& in);
resp::Exchange* quit(Invocation& in);
resp::Exchange* reset(Invocation& in);
resp::Exchange* select(Invocation& in);

// client_commands.cpp
resp::Exchange* client_getname(Invocation& in);
resp::Exchange* client_help(Invocation& in);
resp::Exchange* client_id(Invocation& in);
resp::Exchange* client_info(Invocation& in);
resp::Exchange* client_kill(Invocation& in);
resp::Exchange* client_list(Invocation& in);
resp::Exchange* client_no_evict(Invocation& in);
resp::Exchange* client_no_touch(Invocation& in);
resp::Exchange* client_reply(Invocation& in);
resp::Exchange* client_setinfo(Invocation& in);
resp::Exchange* client_setname(Invocation& in);

// server_commands.cpp
resp::Exchange* command(Invocation& in);
resp::Exchange* command_count(Invocation& in);
resp::Exchange* command_docs(Invocation& in);
resp::Exchange* command_getkeys(Invocation& in);
resp::Exchange* command_info(Invocation& in);
resp::Exchange* command_list(Invocation& in);
resp::Exchange* config_get(Invocation& in);
resp::Exchange* config_resetstat(Invocation& in);
resp::Exchange* config_set(Invocation& in);
resp::Exchange* function_flush(Invocation& in);
resp::Exchange* info(Invocation& in);
resp::Exchange* time(Invocation& in);

// value_commands.cpp
resp::Exchange* del(Invocation& in);
resp::Exchange* exists(Invocation& in);
resp::Exchange* get(Invocation& in);
resp::Exchange* mget(Invocation& in);
resp::Exchange* mset(Invocation& in);
resp::Exchange* set(Invocation& in);

}  // namespace gyre::resp_commands
