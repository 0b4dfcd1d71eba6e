#include "proxy/redis_commands.hpp"

#include <algorithm>
#include <iterator>

#include "resp/number_text.hpp"

namespace gyre::proxy {

namespace {

struct Known {
  std::string_view name;
  CommandKind kind;
};

using enum CommandKind;

// Sorted by name.
constexpr Known table[] = {
    {"acl", refused},
    {"asking", refused},
    {"auth", local},
    {"bgrewriteaof", refused},
    {"bgsave", refused},
    {"bitcount", read},
    {"bitfield_ro", read},
    {"bitpos", read},
    {"blmove", blocking},
    {"blmpop", blocking},
    {"blpop", blocking},
    {"brpop", blocking},
    {"brpoplpush", blocking},
    {"bzmpop", blocking},
    {"bzpopmax", blocking},
    {"bzpopmin", blocking},
    {"client", local},
    {"cluster", refused},
    {"command", read},
    {"config", read},
    {"dbsize", read},
    {"debug", refused},
    {"discard", session},
    {"dump", read},
    {"echo", local},
    {"eval_ro", read},
    {"evalsha_ro", read},
    {"exec", session},
    {"exists", read},
    {"expiretime", read},
    {"failover", refused},
    {"fcall_ro", read},
    {"flushall", flush},
    {"flushdb", flush},
    {"geodist", read},
    {"geohash", read},
    {"geopos", read},
    {"georadius_ro", read},
    {"georadiusbymember_ro", read},
    {"geosearch", read},
    {"get", cached_read},
    {"getbit", read},
    {"getrange", cached_read},
    {"hello", local},
    {"hexists", read},
    {"hget", read},
    {"hgetall", read},
    {"hkeys", read},
    {"hlen", read},
    {"hmget", read},
    {"hrandfield", read},
    {"hscan", read},
    {"hstrlen", read},
    {"hvals", read},
    {"info", read},
    {"keys", read},
    {"lastsave", read},
    {"latency", read},
    {"lcs", read},
    {"lindex", read},
    {"llen", read},
    {"lolwut", read},
    {"lpos", read},
    {"lrange", read},
    {"memory", read},
    {"mget", cached_read},
    {"migrate", refused},
    {"module", refused},
    {"monitor", refused},
    {"multi", session},
    {"object", read},
    {"pexpiretime", read},
    {"pfcount", read},
    {"ping", local},
    {"psubscribe", subscribe},
    {"psync", refused},
    {"pttl", read},
    {"publish", read},
    {"pubsub", read},
    {"punsubscribe", subscribe},
    {"quit", local},
    {"randomkey", read},
    {"readonly", refused},
    {"readwrite", refused},
    {"replconf", refused},
    {"replicaof", refused},
    {"reset", local},
    {"role", read},
    {"save", refused},
    {"scan", read},
    {"scard", read},
    {"script", read},
    {"sdiff", read},
    {"select", local},
    {"shutdown", refused},
    {"sinter", read},
    {"sintercard", read},
    {"sismember", read},
    {"slaveof", refused},
    {"slowlog", read},
    {"smembers", read},
    {"smismember", read},
    {"sort_ro", read},
    {"spublish", read},
    {"srandmember", read},
    {"sscan", read},
    {"ssubscribe", subscribe},
    {"strlen", cached_read},
    {"subscribe", subscribe},
    {"substr", cached_read},
    {"sunion", read},
    {"sunsubscribe", subscribe},
    {"swapdb", flush},
    {"sync", refused},
    {"time", read},
    {"touch", read},
    {"ttl", read},
    {"type", read},
    {"unsubscribe", subscribe},
    {"unwatch", session},
    {"wait", blocking},
    {"waitaof", blocking},
    {"watch", session},
    {"xinfo", read},
    {"xlen", read},
    {"xpending", read},
    {"xrange", read},
    {"xread", blocking},
    {"xreadgroup", blocking},
    {"xrevrange", read},
    {"zcard", read},
    {"zcount", read},
    {"zdiff", read},
    {"zinter", read},
    {"zintercard", read},
    {"zlexcount", read},
    {"zmscore", read},
    {"zrandmember", read},
    {"zrange", read},
    {"zrangebylex", read},
    {"zrangebyscore", read},
    {"zrank", read},
    {"zrevrange", read},
    {"zrevrangebylex", read},
    {"zrevrangebyscore", read},
    {"zrevrank", read},
    {"zscan", read},
    {"zscore", read},
    {"zunion", read},
};
static_assert(std::ranges::is_sorted(table, {}, &Known::name));

constexpr size_t name_bytes_max = 24;

}  // namespace

CommandKind kind_of(std::string_view name) {
  if (name.size() > name_bytes_max) return write;
  char lower[name_bytes_max];
  std::ranges::transform(name, lower, resp::to_lower);
  const std::string_view wanted(lower, name.size());
  const auto* found = std::ranges::lower_bound(table, wanted, {}, &Known::name);
  return found != std::end(table) && found->name == wanted ? found->kind : write;
}

}  // namespace gyre::proxy
