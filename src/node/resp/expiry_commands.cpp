// Commands on the expiry of one key, and what is told of a key without its value.
#include <cmath>

#include "node/core.hpp"
#include "node/resp/commands.hpp"
#include "node/resp/error_texts.hpp"
#include "node/resp/expiry_options.hpp"
#include "node/resp/modify_exchange.hpp"
#include "node/resp/read_exchange.hpp"
#include "node/resp/resp_server.hpp"
#include "resp/number_text.hpp"

namespace gyre::resp_commands {

namespace {

using namespace modify_flag;

resp::Exchange* start_expire(Invocation& in, ExpiryUnit unit) {
  ExpireConditions conditions;
  std::string error = parse_expire_conditions(in.words.subspan(3), conditions);
  if (!error.empty()) return in.error(error);
  const auto time = expire_time(in[2], unit, Reactor::current().wall_ms(), in.spec.name, error);
  if (!time) return in.error(error);
  return modify_key(
      in, {.kind = ModifyKind::expire,
           .number = *time,
           .flags = (conditions.if_none ? if_none : 0u) | (conditions.if_some ? if_some : 0u) |
                    (conditions.greater ? greater : 0u) | (conditions.less ? less : 0u)});
}

// -2: there is no such key, -1: it has no expiry.
template <bool Absolute, bool Seconds>
void answer_expiry(resp::ReplyWriter& to, resp::Command, const StoreRead& read, bool present) {
  if (!present) return to.integer(-2);
  if (read.expire_at_ms == 0) return to.integer(-1);
  auto time = static_cast<int64_t>(read.expire_at_ms);
  if (!Absolute)
    time = std::max<int64_t>(time - static_cast<int64_t>(Reactor::current().wall_ms()), 0);
  to.integer(Seconds ? time / 1000 + (time % 1000 >= 500 ? 1 : 0) : time);
}

void answer_type(resp::ReplyWriter& to, resp::Command, const StoreRead&, bool present) {
  to.simple(present ? "string" : "none");
}

// Beside its bytes, about: the entry of a memtable or block, and its index.
constexpr int64_t entry_overhead_bytes = 64;

void answer_memory_usage(resp::ReplyWriter& to, resp::Command words, const StoreRead& read,
                         bool present) {
  if (!present) return to.null();
  to.integer(static_cast<int64_t>(words[2].size() + read.size_bytes) + entry_overhead_bytes);
}

// As Redis would hold it.
void answer_encoding(resp::ReplyWriter& to, resp::Command, const StoreRead& read, bool present) {
  constexpr size_t embedded_bytes_max = 44;
  if (!present) return to.null();
  if (read.large || read.value.size() > embedded_bytes_max) return to.bulk("raw");
  to.bulk(resp::parse_integer(read.value) ? "int" : "embstr");
}

}  // namespace

resp::Exchange* expire(Invocation& in) {
  return start_expire(in, ExpiryUnit::ex);
}
resp::Exchange* pexpire(Invocation& in) {
  return start_expire(in, ExpiryUnit::px);
}
resp::Exchange* expireat(Invocation& in) {
  return start_expire(in, ExpiryUnit::exat);
}
resp::Exchange* pexpireat(Invocation& in) {
  return start_expire(in, ExpiryUnit::pxat);
}

resp::Exchange* persist(Invocation& in) {
  return modify_key(in, {.kind = ModifyKind::persist});
}

resp::Exchange* ttl(Invocation& in) {
  return read_key(in, 1, LargeBytes::unwanted, answer_expiry<false, true>);
}
resp::Exchange* pttl(Invocation& in) {
  return read_key(in, 1, LargeBytes::unwanted, answer_expiry<false, false>);
}
resp::Exchange* expiretime(Invocation& in) {
  return read_key(in, 1, LargeBytes::unwanted, answer_expiry<true, true>);
}
resp::Exchange* pexpiretime(Invocation& in) {
  return read_key(in, 1, LargeBytes::unwanted, answer_expiry<true, false>);
}

resp::Exchange* type(Invocation& in) {
  return read_key(in, 1, LargeBytes::unwanted, answer_type);
}

resp::Exchange* memory_usage(Invocation& in) {
  if (in.size() != 3) {
    if (in.size() != 5 || !resp::is_word(in[3], "samples")) return in.syntax_error();
    const auto samples = resp::parse_integer(in[4]);
    if (!samples) return in.not_an_integer();
    if (*samples < 0) return in.syntax_error();
  }
  return read_key(in, 2, LargeBytes::unwanted, answer_memory_usage);
}

resp::Exchange* object_encoding(Invocation& in) {
  return read_key(in, 2, LargeBytes::unwanted, answer_encoding);
}

}  // namespace gyre::resp_commands
