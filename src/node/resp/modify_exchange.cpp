#include "node/resp/modify_exchange.hpp"

#include <fmt/format.h>

#include "node/core.hpp"
#include "node/resp/key_of.hpp"
#include "node/resp/resp_server.hpp"

namespace gyre {

ModifyExchange::ModifyExchange(Invocation& in, std::string_view stored_key, uint64_t key_hash,
                               const ModifySpec& spec)
    : Exchange(in.client),
      ModifyTask(in.server, stored_key, key_hash, spec.value_bytes),
      words_(in.words),
      spec_(spec),
      key_hash_(key_hash) {
  // It sees what earlier writes have made, visible or not: they need not be waited for.
  touches({&key_hash_, 1}, false, true);
  wants_value = spec.wants_value;
}

void ModifyExchange::respond(resp::ReplyWriter& to) {
  if (!failure_text().empty()) return to.error(failure_text());
  to.raw(answer_);
}

resp::Exchange* modify_key(Invocation& in, const ModifySpec& spec) {
  if (refused_in_cluster(in)) return nullptr;
  if (!is_key(in[1])) return in.error(key_too_long);
  std::string room;
  const std::string_view stored = stored_key_of(in.client, in[1], room);
  return new ModifyExchange(in, stored, hash64(stored), spec);
}

bool refused_in_cluster(Invocation& in) {
  if (!in.server.core().has_coordinator()) return false;
  in.error(fmt::format("ERR '{}' is not available in a cluster yet", in.spec.name));
  return true;
}

}  // namespace gyre
