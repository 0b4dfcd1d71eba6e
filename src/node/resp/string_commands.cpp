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

using Act = StoreModify::Act;

constexpr size_t number_bytes_max = 32;
constexpr size_t float_bytes_max = 64;
constexpr size_t grows_bytes = 256;  // of values that grow; a longer one's memory is found later

uint64_t now_ms() {
  return Reactor::current().wall_ms();
}

bool is_past(int64_t expire_at_ms) {
  return expire_at_ms <= static_cast<int64_t>(now_ms());
}

void answer_value(resp::ReplyWriter to, const StoreRead& current, bool present) {
  if (!present) return to.null();
  if (!current.large) return to.bulk(current.value);
  to.begin_bulk(current.size_bytes);
  current.large_buffer.for_each_piece([&](std::string_view piece) { to.raw(piece); });
  to.end_bulk();
}

}  // namespace

// --- SET and its kin -----------------------------------------------------------------------------

namespace {

enum SetFlag : uint32_t {
  if_absent = 1,
  if_present = 2,
  get_old = 4,
  keep_ttl = 8,
  answer_number = 16,  // SETNX
};

// Its value is the word `number`.
Act apply_set(ModifyExchange& self, const StoreRead& current, bool present) {
  const uint32_t flags = self.spec().flags;
  const bool allowed = !((flags & if_absent) && present) && !((flags & if_present) && !present);
  if (flags & get_old) {
    answer_value(self.reply(), current, present);
  } else if (flags & answer_number) {
    self.reply().integer(allowed ? 1 : 0);
  } else if (allowed) {
    self.reply().ok();
  } else {
    self.reply().null();
  }
  if (!allowed) return Act::leave;
  const bool keeps = (flags & keep_ttl) && present;
  return self.set(self.words()[static_cast<size_t>(self.spec().number)],
                  keeps ? current.expire_at_ms : self.spec().expire_at_ms);
}

resp::Exchange* start_set(Invocation& in, size_t value_index, uint32_t flags,
                          uint64_t expire_at_ms) {
  return modify_key(in, {.apply = apply_set,
                         .value_bytes = in[value_index].size(),
                         .wants_value = (flags & get_old) != 0,
                         .number = static_cast<int64_t>(value_index),
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
  return flags == 0 ? set_value(in, 2, expire_at_ms) : start_set(in, 2, flags, expire_at_ms);
}

resp::Exchange* setnx(Invocation& in) {
  return start_set(in, 2, if_absent | answer_number, 0);
}

resp::Exchange* setex(Invocation& in) {
  return set_with_expiry(in, ExpiryUnit::ex);
}

resp::Exchange* psetex(Invocation& in) {
  return set_with_expiry(in, ExpiryUnit::px);
}

resp::Exchange* getset(Invocation& in) {
  return start_set(in, 2, get_old, 0);
}

// --- GETDEL, GETEX -------------------------------------------------------------------------------

namespace {

Act apply_getdel(ModifyExchange& self, const StoreRead& current, bool present) {
  answer_value(self.reply(), current, present);
  return present ? self.remove() : Act::leave;
}

Act apply_getex(ModifyExchange& self, const StoreRead& current, bool present) {
  SetOptions options;
  parse_set_options(self.words().from(2), OptionsOf::getex, options);  // it could be parsed before
  if (!present) {
    self.reply().null();
    return Act::leave;
  }
  std::string error;
  std::optional<int64_t> expiry;
  if (options.unit != ExpiryUnit::none) {
    expiry = absolute_expiry(options.expiry, options.unit, now_ms(), "getex", error);
    if (!expiry) {
      self.reply().error(error);
      return Act::leave;
    }
  }
  answer_value(self.reply(), current, present);
  if (expiry && is_past(*expiry)) return self.remove();
  if (expiry) return self.keep(current, static_cast<uint64_t>(*expiry));
  if (options.persist && current.expire_at_ms != 0) return self.keep(current, 0);
  return Act::leave;
}

}  // namespace

resp::Exchange* getdel(Invocation& in) {
  return modify_key(in, {.apply = apply_getdel});
}

resp::Exchange* getex(Invocation& in) {
  SetOptions options;
  if (!parse_set_options(in.words.subspan(2), OptionsOf::getex, options)) return in.syntax_error();
  return modify_key(in, {.apply = apply_getex});
}

// --- numbers -------------------------------------------------------------------------------------

namespace {

// A number is short: what is long is none.
std::optional<std::string_view> short_value(const StoreRead& current) {
  if (current.large) return {};
  return current.value;
}

Act apply_incr(ModifyExchange& self, const StoreRead& current, bool present) {
  int64_t value = 0;
  if (present) {
    const auto text = short_value(current);
    const auto old = text ? resp::parse_integer(*text) : std::nullopt;
    if (!old) {
      self.reply().error(error_text::not_integer);
      return Act::leave;
    }
    value = *old;
  }
  if (__builtin_add_overflow(value, self.spec().number, &value)) {
    self.reply().error(error_text::overflow);
    return Act::leave;
  }
  self.reply().integer(value);
  return self.set_made(std::to_string(value), present ? current.expire_at_ms : 0);
}

resp::Exchange* add(Invocation& in, int64_t number) {
  return modify_key(in, {.apply = apply_incr,
                         .value_bytes = number_bytes_max,
                         .wants_value = false,
                         .number = number});
}

Act apply_incrbyfloat(ModifyExchange& self, const StoreRead& current, bool present) {
  long double value = 0;
  if (present) {
    const auto text = short_value(current);
    const auto old = text ? parse_float(*text) : std::nullopt;
    if (!old) {
      self.reply().error(error_text::not_float);
      return Act::leave;
    }
    value = *old;
  }
  value += self.spec().fraction;
  if (!std::isfinite(value)) {
    self.reply().error(error_text::not_finite);
    return Act::leave;
  }
  std::string text = float_text(value);
  self.reply().bulk(text);
  return self.set_made(std::move(text), present ? current.expire_at_ms : 0);
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
  return modify_key(in, {.apply = apply_incrbyfloat,
                         .value_bytes = float_bytes_max,
                         .wants_value = false,
                         .fraction = *number});
}

// --- parts of a value ----------------------------------------------------------------------------

namespace {

Act apply_append(ModifyExchange& self, const StoreRead& current, bool present) {
  const std::string_view more = self.words()[2];
  const uint64_t size = (present ? current.size_bytes : 0) + more.size();
  if (present && size > self.value_bytes_max) {
    self.reply().error(error_text::string_too_long);
    return Act::leave;
  }
  self.reply().integer(static_cast<int64_t>(size));
  if (!present) return self.set(more, 0);
  if (more.empty()) return Act::leave;
  if (!current.large) {
    std::string longer(current.value);
    longer += more;
    return self.set_made(std::move(longer), current.expire_at_ms);
  }
  ValueBuffer longer;
  longer.expect(size);
  current.large_buffer.for_each_piece([&](std::string_view piece) { longer.append(piece); });
  longer.append(more);
  return self.set_made(std::move(longer), current.expire_at_ms);
}

Act apply_setrange(ModifyExchange& self, const StoreRead& current, bool present) {
  const std::string_view part = self.words()[3];
  const auto offset = static_cast<uint64_t>(self.spec().number);
  const uint64_t old_size = present ? current.size_bytes : 0;
  if (part.empty()) {
    self.reply().integer(static_cast<int64_t>(old_size));
    return Act::leave;
  }
  if (offset + part.size() > self.value_bytes_max) {
    self.reply().error(error_text::string_too_long);
    return Act::leave;
  }
  std::string value;
  if (present) value = current.large ? current.large_buffer.to_string() : current.value;
  value.resize(std::max<uint64_t>(old_size, offset + part.size()));
  std::copy(part.begin(), part.end(), value.begin() + static_cast<std::ptrdiff_t>(offset));
  self.reply().integer(static_cast<int64_t>(value.size()));
  return self.set_made(std::move(value), present ? current.expire_at_ms : 0);
}

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
  return modify_key(in, {.apply = apply_append, .value_bytes = in[2].size() + grows_bytes});
}

resp::Exchange* setrange(Invocation& in) {
  const auto offset = resp::parse_integer(in[2]);
  if (!offset) return in.not_an_integer();
  if (*offset < 0) return in.error(error_text::offset_out_of_range);
  return modify_key(in, {.apply = apply_setrange,
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
