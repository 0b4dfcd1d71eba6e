// Texts are those of Redis 7.0.
#include "node/resp/modification.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include <gyre/reactor.hpp>

#include "base/coding.hpp"
#include "node/resp/error_texts.hpp"
#include "node/resp/expiry_options.hpp"
#include "node/resp/float_text.hpp"
#include "resp/number_text.hpp"

namespace gyre {

using Act = StoreModify::Act;
using namespace modify_flag;

namespace {

constexpr size_t version_bytes = 16;

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

Act apply_set(Modification& self, const StoreRead& current, bool present) {
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
  return self.set(self.words()[2], keeps ? current.expire_at_ms : self.spec().expire_at_ms);
}

Act apply_getdel(Modification& self, const StoreRead& current, bool present) {
  answer_value(self.reply(), current, present);
  return present ? self.remove() : Act::leave;
}

Act apply_getex(Modification& self, const StoreRead& current, bool present) {
  SetOptions options;
  parse_set_options(self.words().subspan(2), OptionsOf::getex,
                    options);  // it could be parsed before
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

// A number is short: what is long is none.
std::optional<std::string_view> short_value(const StoreRead& current) {
  if (current.large) return {};
  return current.value;
}

Act apply_incr(Modification& self, const StoreRead& current, bool present) {
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

Act apply_incrbyfloat(Modification& self, const StoreRead& current, bool present) {
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
  value += parse_float(self.words()[2]).value_or(0);
  if (!std::isfinite(value)) {
    self.reply().error(error_text::not_finite);
    return Act::leave;
  }
  std::string text = float_text(value);
  self.reply().bulk(text);
  return self.set_made(std::move(text), present ? current.expire_at_ms : 0);
}

Act apply_append(Modification& self, const StoreRead& current, bool present) {
  const std::string_view more = self.words()[2];
  const uint64_t size = (present ? current.size_bytes : 0) + more.size();
  if (present && size > self.value_bytes_max()) {
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

Act apply_setrange(Modification& self, const StoreRead& current, bool present) {
  const std::string_view part = self.words()[3];
  const auto offset = static_cast<uint64_t>(self.spec().number);
  const uint64_t old_size = present ? current.size_bytes : 0;
  if (part.empty()) {
    self.reply().integer(static_cast<int64_t>(old_size));
    return Act::leave;
  }
  if (offset + part.size() > self.value_bytes_max()) {
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

Act apply_expire(Modification& self, const StoreRead& current, bool present) {
  const uint32_t flags = self.spec().flags;
  const ExpireConditions conditions{.if_none = (flags & if_none) != 0,
                                    .if_some = (flags & if_some) != 0,
                                    .greater = (flags & greater) != 0,
                                    .less = (flags & less) != 0};
  const int64_t wanted_ms = self.spec().number;
  const bool changes = present && conditions.allow(current.expire_at_ms, wanted_ms);
  self.reply().integer(changes ? 1 : 0);
  if (!changes) return Act::leave;
  if (wanted_ms <= static_cast<int64_t>(Reactor::current().wall_ms())) return self.remove();
  return self.keep(current, static_cast<uint64_t>(wanted_ms));
}

Act apply_persist(Modification& self, const StoreRead& current, bool present) {
  const bool changes = present && current.expire_at_ms != 0;
  self.reply().integer(changes ? 1 : 0);
  return changes ? self.keep(current, 0) : Act::leave;
}

Act apply_remove(Modification& self, const StoreRead&, bool present) {
  self.reply().integer(present ? 1 : 0);
  return present ? self.remove() : Act::leave;
}

Act apply_remove_version(Modification& self, const StoreRead& current, bool present) {
  const bool same = present && version_word(current.version) == self.words()[2];
  self.reply().integer(same ? 1 : 0);
  return same ? self.remove() : Act::leave;
}

}  // namespace

bool ModifySpec::wants_value() const {
  switch (kind) {
    case ModifyKind::set:
      return (flags & get_old) != 0;
    case ModifyKind::incr:
    case ModifyKind::incrbyfloat:  // a number is short
    case ModifyKind::remove:
    case ModifyKind::remove_version:
      return false;
    default:
      return true;
  }
}

bool Modification::makes_sense(const ModifySpec& spec, Words words) {
  const auto kind = static_cast<uint8_t>(spec.kind);
  if (kind < 1 || kind > static_cast<uint8_t>(modify_kind_last)) return false;
  switch (spec.kind) {
    case ModifyKind::set:
    case ModifyKind::append:
      return words.size() == 3;
    case ModifyKind::incrbyfloat:
      return words.size() == 3 && parse_float(words[2]);
    case ModifyKind::remove_version:
      return words.size() == 3 && words[2].size() == version_bytes;
    case ModifyKind::setrange:
      return words.size() == 4 && spec.number >= 0 &&
             spec.number <= std::numeric_limits<int64_t>::max() / 2;
    case ModifyKind::getex: {
      SetOptions options;
      return words.size() >= 2 && parse_set_options(words.subspan(2), OptionsOf::getex, options);
    }
    default:
      return words.size() >= 2;
  }
}

void Modification::refuse(std::string_view text) {
  reply().error(text);
  changed_ = false;
}

size_t ModifySpec::words_max() const {
  switch (kind) {
    case ModifyKind::set:
    case ModifyKind::append:
    case ModifyKind::incrbyfloat:
    case ModifyKind::remove_version:
      return 1;
    case ModifyKind::setrange:
      return 2;
    case ModifyKind::getex:
      return SIZE_MAX;
    default:
      return 0;
  }
}

Act Modification::apply(const StoreRead& current, bool present) {
  const auto act = [&]() -> Act {
    switch (spec_.kind) {
      case ModifyKind::set:
        return apply_set(*this, current, present);
      case ModifyKind::getdel:
        return apply_getdel(*this, current, present);
      case ModifyKind::getex:
        return apply_getex(*this, current, present);
      case ModifyKind::incr:
        return apply_incr(*this, current, present);
      case ModifyKind::incrbyfloat:
        return apply_incrbyfloat(*this, current, present);
      case ModifyKind::append:
        return apply_append(*this, current, present);
      case ModifyKind::setrange:
        return apply_setrange(*this, current, present);
      case ModifyKind::expire:
        return apply_expire(*this, current, present);
      case ModifyKind::persist:
        return apply_persist(*this, current, present);
      case ModifyKind::remove:
        return apply_remove(*this, current, present);
      case ModifyKind::remove_version:
        return apply_remove_version(*this, current, present);
    }
    return Act::leave;
  }();
  changed_ = act == Act::write;
  return act;
}

// --- what is made --------------------------------------------------------------------------------

Act Modification::set(std::string_view value, uint64_t expire_at_ms) {
  if (value.size() >= Memtable::large_value_bytes_min) {
    return set_made(ValueBuffer(value), expire_at_ms);
  }
  record_.kind = Kind::value;
  record_.expire_at_ms = expire_at_ms;
  record_.value = value;
  record_.value_buffer = nullptr;
  return Act::write;
}

Act Modification::set_made(std::string&& value, uint64_t expire_at_ms) {
  made_ = std::move(value);
  return set(made_, expire_at_ms);
}

Act Modification::set_made(ValueBuffer&& value, uint64_t expire_at_ms) {
  buffer_ = std::move(value);
  record_.kind = Kind::value;
  record_.expire_at_ms = expire_at_ms;
  record_.value = {};
  record_.value_buffer = &buffer_;
  return Act::write;
}

Act Modification::keep(const StoreRead& current, uint64_t expire_at_ms) {
  if (current.large) return set_made(current.large_buffer.share(), expire_at_ms);
  return set_made(std::string(current.value), expire_at_ms);
}

Act Modification::remove() {
  record_.kind = Kind::tombstone;
  record_.expire_at_ms = 0;
  record_.value = {};
  record_.value_buffer = nullptr;
  return Act::write;
}

std::string version_word(const Version& version) {
  std::string word(version_bytes, '\0');
  put_fixed(word.data(), version.hlc);
  put_fixed(word.data() + 8, version.origin);
  return word;
}

}  // namespace gyre
