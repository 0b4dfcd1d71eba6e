#include "node/resp/modify_exchange.hpp"

#include "node/core.hpp"
#include "node/resp/key_of.hpp"
#include "node/resp/resp_server.hpp"

namespace gyre {

ModifyExchange::ModifyExchange(Invocation& in, std::string_view stored_key, uint64_t key_hash,
                               const ModifySpec& spec)
    : Exchange(in.client),
      ModifyTask(in.server, stored_key, key_hash, spec, Exchange::protocol()),
      words_(in.words),
      key_hash_(key_hash) {
  take_words(words_.all());
  // The shard sees what earlier writes have made, visible or not: they need not be waited for. Another
  // node does not, and a later write of this one's could overtake it.
  touches({&key_hash_, 1}, in.server.core().has_coordinator(), true);
}

void ModifyExchange::respond(resp::ReplyWriter& to) {
  if (!failure_text().empty()) return to.error(failure_text());
  to.raw(answer());
}

resp::Exchange* modify_key(Invocation& in, const ModifySpec& spec) {
  if (!is_key(in[1])) return in.error(key_too_long);
  std::string room;
  const std::string_view stored = stored_key_of(in.client, in[1], room);
  return new ModifyExchange(in, stored, hash64(stored), spec);
}

}  // namespace gyre
