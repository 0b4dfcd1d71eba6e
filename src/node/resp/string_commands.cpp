// Commands on the value of one key. Texts, and the order in which mistakes are looked for, are those of
// Redis 7.0.
#include <algorithm>
#include <cmath>
#include <limits>

#include "node/core.hpp"
#include "node/resp/commands.hpp"
#include "node/resp/error_texts.hpp"
#include "node/resp/expiry_options.hpp"
#include "node/resp/float_text.hpp"
#include "node/resp/modify_exchange.hpp"
#include "node/resp/read_exchange.hpp"
#include "node/resp/resp_server.hpp"
#include "resp/number_text.hpp"

namespace gyre::resp_commands {

namespace {

using namespace modify_flag;

constexpr size_t number_bytes_max = 32;
constexpr size_t float_bytes_max = 64;
constexpr size_t grows_bytes = 256;  // of values that grow; a longer one's memory is found later

uint64_t now_ms() {
  return Reactor::current().wall_ms();
}

}  // namespace

// --- SET and its kin -----------------------------------------------------------------------------

namespace {

resp::Exchange* start_set(Invocation& in, uint32_t flags, uint64_t expire_at_ms) {
  return modify_key(in, {.kind = ModifyKind::set,
                         .value_bytes = in[2].size(),
                         .expire_at_ms = expire_at_ms,
                         .flags = flags});
}

// SETEX, PSETEX: key, time, value.
resp::Exchange* set_with_expiry(Invocation& in, ExpiryUnit unit) {
  std::string error;
  const auto expiry = absolute_expiry(in[2], unit, now_ms(), in.spec.name, error);
  if (!expiry) return in.error(error);
  return set_value(in, 3, static_cast<uint64_t>(*expiry));
}

}  // namespace

resp::Exchange* set_with_options(Invocation& in) {
  SetOptions options;
  if (!parse_set_options(in.words.subspan(3), OptionsOf::set, options)) return in.syntax_error();
  uint64_t expire_at_ms = 0;
  if (options.unit != ExpiryUnit::none) {
    std::string error;
    const auto expiry = absolute_expiry(options.expiry, options.unit, now_ms(), "set", error);
    if (!expiry) return in.error(error);
    expire_at_ms = static_cast<uint64_t>(*expiry);
  }
  const uint32_t flags = (options.if_absent ? if_absent : 0u) |
                         (options.if_present ? if_present : 0u) | (options.get ? get_old : 0u) |
                         (options.keep_ttl ? keep_ttl : 0u);
  return flags == 0 ? set_value(in, 2, expire_at_ms) : start_set(in, flags, expire_at_ms);
}

resp::Exchange* setnx(Invocation& in) {
  return start_set(in, if_absent | answer_number, 0);
}

resp::Exchange* setex(Invocation& in) {
  return set_with_expiry(in, ExpiryUnit::ex);
}

resp::Exchange* psetex(Invocation& in) {
  return set_with_expiry(in, ExpiryUnit::px);
}

resp::Exchange* getset(Invocation& in) {
  return start_set(in, get_old, 0);
}

// --- GETDEL, GETEX -------------------------------------------------------------------------------

namespace {}  // namespace

resp::Exchange* getdel(Invocation& in) {
  return modify_key(in, {.kind = ModifyKind::getdel});
}

resp::Exchange* getex(Invocation& in) {
  SetOptions options;
  if (!parse_set_options(in.words.subspan(2), OptionsOf::getex, options)) return in.syntax_error();
  return modify_key(in, {.kind = ModifyKind::getex});
}

// --- numbers -------------------------------------------------------------------------------------

namespace {

resp::Exchange* add(Invocation& in, int64_t number) {
  return modify_key(in,
                    {.kind = ModifyKind::incr, .value_bytes = number_bytes_max, .number = number});
}

}  // namespace

resp::Exchange* incr(Invocation& in) {
  return add(in, 1);
}

resp::Exchange* decr(Invocation& in) {
  return add(in, -1);
}

resp::Exchange* incrby(Invocation& in) {
  const auto number = resp::parse_integer(in[2]);
  return number ? add(in, *number) : in.not_an_integer();
}

resp::Exchange* decrby(Invocation& in) {
  const auto number = resp::parse_integer(in[2]);
  if (!number) return in.not_an_integer();
  if (*number == std::numeric_limits<int64_t>::min()) {
    return in.error(error_text::decrement_overflow);
  }
  return add(in, -*number);
}

// The value is looked at before the increment.
resp::Exchange* incrbyfloat(Invocation& in) {
  const auto number = parse_float(in[2]);
  if (!number) return in.error(error_text::not_float);
  return modify_key(in, {.kind = ModifyKind::incrbyfloat, .value_bytes = float_bytes_max});
}

// --- parts of a value ----------------------------------------------------------------------------

namespace {

// The part of `size` bytes that GETRANGE's bounds mean: [first, first + count).
struct Part {
  uint64_t first = 0;
  uint64_t count = 0;
};
Part part_of(int64_t start, int64_t end, uint64_t size) {
  const auto length = static_cast<int64_t>(size);
  if (start < 0 && end < 0 && start > end) return {};
  if (start < 0) start = std::max<int64_t>(start + length, 0);
  if (end < 0) end = std::max<int64_t>(end + length, 0);
  end = std::min(end, length - 1);
  if (start > end || length == 0) return {};
  return {static_cast<uint64_t>(start), static_cast<uint64_t>(end - start + 1)};
}

void answer_strlen(resp::ReplyWriter& to, resp::Command, const StoreRead& read, bool present) {
  to.integer(present ? static_cast<int64_t>(read.size_bytes) : 0);
}

}  // namespace

resp::Exchange* append(Invocation& in) {
  return modify_key(in, {.kind = ModifyKind::append, .value_bytes = in[2].size() + grows_bytes});
}

resp::Exchange* setrange(Invocation& in) {
  const auto offset = resp::parse_integer(in[2]);
  if (!offset) return in.not_an_integer();
  if (*offset < 0) return in.error(error_text::offset_out_of_range);
  return modify_key(in, {.kind = ModifyKind::setrange,
                         .value_bytes = in[3].size() + grows_bytes,
                         .number = std::min(*offset, std::numeric_limits<int64_t>::max() / 2)});
}

resp::Exchange* getrange(Invocation& in) {
  const auto start = resp::parse_integer(in[2]);
  const auto end = resp::parse_integer(in[3]);
  if (!start || !end) return in.not_an_integer();
  const ReadApply answer = [](resp::ReplyWriter& to, resp::Command words, const StoreRead& read,
                              bool present) {
    if (!present) return to.bulk({});
    const Part part =
        part_of(*resp::parse_integer(words[2]), *resp::parse_integer(words[3]), read.size_bytes);
    if (!read.large) return to.bulk(read.value.substr(part.first, part.count));
    to.begin_bulk(part.count);
    uint64_t skip = part.first;
    uint64_t left = part.count;
    read.large_buffer.for_each_piece([&](std::string_view piece) {
      const uint64_t skipped = std::min<uint64_t>(skip, piece.size());
      skip -= skipped;
      const std::string_view wanted = piece.substr(skipped, left);
      left -= wanted.size();
      to.raw(wanted);
    });
    to.end_bulk();
  };
  return read_key(in, 1, LargeBytes::wanted, answer);
}

resp::Exchange* strlen(Invocation& in) {
  return read_key(in, 1, LargeBytes::unwanted, answer_strlen);
}

}  // namespace gyre::resp_commands
