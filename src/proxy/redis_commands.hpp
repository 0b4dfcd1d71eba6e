// What the proxy does with a command of Redis, by its name. A name that is not known is passed on as
// one that writes: whatever it is given may then be a key that changes.
#pragma once

#include <cstdint>
#include <string_view>

namespace gyre::proxy {

enum class CommandKind : uint8_t {
  local,        // about the connection: answered here
  cached_read,  // GET, MGET, STRLEN, GETRANGE, SUBSTR: from memory, where it can be
  read,         // passed on; changes no key
  write,        // passed on; what it is given is invalidated before and after
  flush,        // passed on; everything is invalidated
  blocking,     // waits in Redis: on a connection of its own
  subscribe,    // answered, and followed, by pushes: on a connection of its own
  session,      // changes what later commands mean (MULTI, WATCH …): on a connection of its own
  refused,      // not for a connection that many share, or not for clients at all
};

// `name` in any case.
CommandKind kind_of(std::string_view name);

}  // namespace gyre::proxy
