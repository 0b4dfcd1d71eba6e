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

// string_commands.cpp
resp::Exchange* append(Invocation& in);
resp::Exchange* decr(Invocation& in);
resp::Exchange* decrby(Invocation& in);
resp::Exchange* getdel(Invocation& in);
resp::Exchange* getex(Invocation& in);
resp::Exchange* getrange(Invocation& in);
resp::Exchange* getset(Invocation& in);
resp::Exchange* incr(Invocation& in);
resp::Exchange* incrby(Invocation& in);
resp::Exchange* incrbyfloat(Invocation& in);
resp::Exchange* psetex(Invocation& in);
resp::Exchange* set_with_options(Invocation& in);
resp::Exchange* setex(Invocation& in);
resp::Exchange* setnx(Invocation& in);
resp::Exchange* setrange(Invocation& in);
resp::Exchange* strlen(Invocation& in);

// In value_commands.cpp: the word `value_index` under key 1, whatever is there.
resp::Exchange* set_value(Invocation& in, size_t value_index, uint64_t expire_at_ms);

// expiry_commands.cpp
resp::Exchange* expire(Invocation& in);
resp::Exchange* expireat(Invocation& in);
resp::Exchange* expiretime(Invocation& in);
resp::Exchange* memory_usage(Invocation& in);
resp::Exchange* object_encoding(Invocation& in);
resp::Exchange* persist(Invocation& in);
resp::Exchange* pexpire(Invocation& in);
resp::Exchange* pexpireat(Invocation& in);
resp::Exchange* pexpiretime(Invocation& in);
resp::Exchange* pttl(Invocation& in);
resp::Exchange* ttl(Invocation& in);
resp::Exchange* type(Invocation& in);

// key_commands.cpp
resp::Exchange* copy(Invocation& in);
resp::Exchange* msetnx(Invocation& in);
resp::Exchange* rename(Invocation& in);
resp::Exchange* renamenx(Invocation& in);

// keyspace_commands.cpp
resp::Exchange* dbsize(Invocation& in);
resp::Exchange* flushall(Invocation& in);
resp::Exchange* flushdb(Invocation& in);
resp::Exchange* keys(Invocation& in);
resp::Exchange* randomkey(Invocation& in);
resp::Exchange* scan(Invocation& in);

}  // namespace gyre::resp_commands
