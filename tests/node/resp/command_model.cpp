#include "command_model.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace gyre::test {

namespace {

const std::string ok = "+OK\r\n";
const std::string null = "$-1\r\n";

std::string integer(int64_t value) {
  return fmt::format(":{}\r\n", value);
}
std::string bulk(const std::string& bytes) {
  return fmt::format("${}\r\n{}\r\n", bytes.size(), bytes);
}
std::string error(const std::string& text) {
  return "-ERR " + text + "\r\n";
}
const std::string not_integer = error("value is not an integer or out of range");
const std::string syntax = error("syntax error");

std::string lower(std::string text) {
  for (char& c : text) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  return text;
}

// The one spelling of a number.
std::optional<int64_t> number_of(const std::string& text) {
  errno = 0;
  char* end = nullptr;
  const long long value = std::strtoll(text.c_str(), &end, 10);
  if (errno != 0 || std::to_string(value) != text) return {};
  return value;
}

}  // namespace

CommandModel::Item* CommandModel::find(unsigned database, const std::string& key) {
  const auto at = items_[database].find(key);
  if (at == items_[database].end()) return nullptr;
  const int64_t left = at->second.expire_at_ms - now_ms_;
  if (at->second.expire_at_ms == 0 || left > slack_ms) return &at->second;
  if (left > -slack_ms) throw Ambiguous{};
  items_[database].erase(at);
  return nullptr;
}

void CommandModel::about(int64_t number) {
  reply_.kind = ExpectedReply::Kind::about;
  reply_.number = number;
}

std::vector<std::string> CommandModel::keys(uint64_t now_ms) const {
  std::vector<std::string> live;
  for (const auto& [key, item] : items_[database_]) {
    const bool dead = item.expire_at_ms != 0 && item.expire_at_ms <= static_cast<int64_t>(now_ms);
    if (!dead) live.push_back(key);
  }
  return live;
}

std::optional<ExpectedReply> CommandModel::run(const CommandWords& words, uint64_t now_ms) {
  now_ms_ = static_cast<int64_t>(now_ms);
  reply_ = {};
  Items before[databases];
  std::copy(std::begin(items_), std::end(items_), before);
  const unsigned database_before = database_;
  try {
    std::string bytes = answer(words);
    if (reply_.kind == ExpectedReply::Kind::exact) reply_.bytes = std::move(bytes);
    return reply_;
  } catch (Ambiguous) {
    std::copy(std::begin(before), std::end(before), items_);
    database_ = database_before;
    return {};
  }
}

std::string CommandModel::answer(const CommandWords& words) {
  const std::string name = lower(words[0]);
  const std::string& key = words.size() > 1 ? words[1] : words[0];
  if (name == "select") {
    database_ = static_cast<unsigned>(*number_of(key));
    return ok;
  }
  if (name == "set") return set(words);
  if (name == "setnx") return set({"set", key, words[2], "nx"}) == ok ? integer(1) : integer(0);
  if (name == "setex" || name == "psetex") {
    std::string wrong;
    const int64_t time = expiry(words[2], name == "setex" ? "ex" : "px", name, wrong);
    if (!wrong.empty()) return wrong;
    items_[database_][key] = {words[3], time};
    return ok;
  }
  if (name == "getset") return set({"set", key, words[2], "get"});
  if (name == "get") {
    const Item* item = find(key);
    return item != nullptr ? bulk(item->value) : null;
  }
  if (name == "getdel") {
    const Item* item = find(key);
    if (item == nullptr) return null;
    const std::string value = bulk(item->value);
    items_[database_].erase(key);
    return value;
  }
  if (name == "getex") return get_and_expire(words);
  if (name == "mget") {
    std::string all = fmt::format("*{}\r\n", words.size() - 1);
    for (size_t i = 1; i < words.size(); ++i) {
      const Item* item = find(words[i]);
      all += item != nullptr ? bulk(item->value) : null;
    }
    return all;
  }
  if (name == "mset" || name == "msetnx") {
    if (words.size() % 2 == 0) return error("wrong number of arguments for '" + name + "' command");
    for (size_t i = 1; name == "msetnx" && i < words.size(); i += 2) {
      if (find(words[i]) != nullptr) return integer(0);
    }
    for (size_t i = 1; i < words.size(); i += 2) items_[database_][words[i]] = {words[i + 1]};
    return name == "mset" ? ok : integer(1);
  }
  if (name == "append") {
    Item* item = find(key);
    if (item == nullptr) item = &(items_[database_][key] = {});
    item->value += words[2];
    return integer(static_cast<int64_t>(item->value.size()));
  }
  if (name == "strlen") {
    const Item* item = find(key);
    return integer(item != nullptr ? static_cast<int64_t>(item->value.size()) : 0);
  }
  if (name == "setrange") return set_range(words);
  if (name == "getrange" || name == "substr") return get_range(words);
  if (name == "incr") return add(key, "1", 1);
  if (name == "decr") return add(key, "1", -1);
  if (name == "incrby") return add(key, words[2], 1);
  if (name == "decrby") return add(key, words[2], -1);
  if (name == "incrbyfloat") return add_float(key, words[2]);
  if (name == "del" || name == "unlink" || name == "exists" || name == "touch") {
    int64_t found = 0;
    for (size_t i = 1; i < words.size(); ++i) {
      if (find(words[i]) == nullptr) continue;
      ++found;
      if (name == "del" || name == "unlink") items_[database_].erase(words[i]);
    }
    return integer(found);
  }
  if (name == "type") return find(key) != nullptr ? "+string\r\n" : "+none\r\n";
  if (name == "expire") return expire(words, true, false);
  if (name == "pexpire") return expire(words, false, false);
  if (name == "expireat") return expire(words, true, true);
  if (name == "pexpireat") return expire(words, false, true);
  if (name == "persist") {
    Item* item = find(key);
    if (item == nullptr || item->expire_at_ms == 0) return integer(0);
    item->expire_at_ms = 0;
    return integer(1);
  }
  if (name == "ttl" || name == "pttl" || name == "expiretime" || name == "pexpiretime") {
    const Item* item = find(key);
    if (item == nullptr) return integer(-2);
    if (item->expire_at_ms == 0) return integer(-1);
    const int64_t time = name.ends_with("time") ? item->expire_at_ms : item->expire_at_ms - now_ms_;
    about(name.front() == 'p' ? time : time / 1000);
    return {};
  }
  if (name == "rename") return rename(words, false);
  if (name == "renamenx") return rename(words, true);
  if (name == "copy") return copy(words);
  if (name == "dbsize" || name == "keys" || name == "randomkey") {
    for (const std::string& each : keys(static_cast<uint64_t>(now_ms_ - 2 * slack_ms))) find(each);
    reply_.members = keys(static_cast<uint64_t>(now_ms_));
    if (name == "dbsize") return integer(static_cast<int64_t>(reply_.members.size()));
    reply_.kind = name == "keys" ? ExpectedReply::Kind::set : ExpectedReply::Kind::one_of;
    return {};
  }
  if (name == "flushdb" || name == "flushall") {
    for (unsigned i = 0; i < databases; ++i) {
      if (name == "flushall" || i == database_) items_[i].clear();
    }
    return ok;
  }
  std::abort();
}

int64_t CommandModel::expiry(const std::string& text, const std::string& unit,
                             const std::string& command, std::string& wrong) {
  const std::optional<int64_t> given = number_of(text);
  if (!given) {
    wrong = not_integer;
    return 0;
  }
  __int128 time = *given;
  if (unit.starts_with("ex")) time *= 1000;
  const bool positive = time > 0;
  if (!unit.ends_with("at")) time += now_ms_;
  if (!positive || time > INT64_MAX) {
    wrong = error("invalid expire time in '" + command + "' command");
    return 0;
  }
  return static_cast<int64_t>(time);
}

std::string CommandModel::set(const CommandWords& words) {
  bool nx = false, xx = false, get = false, keep = false;
  std::string unit, time;
  for (size_t i = 3; i < words.size(); ++i) {
    const std::string word = lower(words[i]);
    const bool timed = word == "ex" || word == "px" || word == "exat" || word == "pxat";
    if (word == "nx" && !xx) {
      nx = true;
    } else if (word == "xx" && !nx) {
      xx = true;
    } else if (word == "get") {
      get = true;
    } else if (word == "keepttl" && unit.empty()) {
      keep = true;
    } else if (timed && !keep && (unit.empty() || unit == word) && i + 1 < words.size()) {
      unit = word;
      time = words[++i];
    } else {
      return syntax;
    }
  }
  std::string wrong;
  int64_t expire_at_ms = unit.empty() ? 0 : expiry(time, unit, "set", wrong);
  if (!wrong.empty()) return wrong;
  const Item* item = find(words[1]);
  const std::string old = item != nullptr ? bulk(item->value) : null;
  if ((nx && item != nullptr) || (xx && item == nullptr)) return get ? old : null;
  if (keep && item != nullptr) expire_at_ms = item->expire_at_ms;
  items_[database_][words[1]] = {words[2], expire_at_ms};
  return get ? old : ok;
}

std::string CommandModel::get_and_expire(const CommandWords& words) {
  std::string unit, time;
  bool persist = false;
  for (size_t i = 2; i < words.size(); ++i) {
    const std::string word = lower(words[i]);
    const bool timed = word == "ex" || word == "px" || word == "exat" || word == "pxat";
    if (word == "persist" && unit.empty()) {
      persist = true;
    } else if (timed && !persist && (unit.empty() || unit == word) && i + 1 < words.size()) {
      unit = word;
      time = words[++i];
    } else {
      return syntax;
    }
  }
  Item* item = find(words[1]);
  if (item == nullptr) return null;
  std::string wrong;
  const int64_t expire_at_ms = unit.empty() ? 0 : expiry(time, unit, "getex", wrong);
  if (!wrong.empty()) return wrong;
  const std::string value = bulk(item->value);
  if (persist || !unit.empty()) item->expire_at_ms = expire_at_ms;
  return value;
}

std::string CommandModel::expire(const CommandWords& words, bool seconds, bool absolute) {
  bool nx = false, xx = false, gt = false, lt = false;
  for (size_t i = 3; i < words.size(); ++i) {
    const std::string word = lower(words[i]);
    if (word != "nx" && word != "xx" && word != "gt" && word != "lt") {
      return error("Unsupported option " + words[i]);
    }
    nx |= word == "nx";
    xx |= word == "xx";
    gt |= word == "gt";
    lt |= word == "lt";
  }
  if (nx && (xx || gt || lt)) {
    return error("NX and XX, GT or LT options at the same time are not compatible");
  }
  if (gt && lt) return error("GT and LT options at the same time are not compatible");
  const std::optional<int64_t> given = number_of(words[2]);
  if (!given) return not_integer;
  const __int128 unit = seconds ? 1000 : 1;
  const __int128 time = *given * unit + (absolute ? 0 : now_ms_);
  if (*given * unit > INT64_MAX || *given * unit < INT64_MIN || time > INT64_MAX) {
    return error("invalid expire time in '" + lower(words[0]) + "' command");
  }
  Item* item = find(words[1]);
  if (item == nullptr) return integer(0);
  const __int128 present = item->expire_at_ms;
  const __int128 apart = time > present ? time - present : present - time;
  if (present != 0 && (gt || lt) && apart < slack_ms) throw Ambiguous{};
  if ((nx && present != 0) || (xx && present == 0)) return integer(0);
  if (gt && (present == 0 || time <= present)) return integer(0);
  if (lt && present != 0 && time >= present) return integer(0);
  item->expire_at_ms = static_cast<int64_t>(time);
  if (time <= now_ms_) items_[database_].erase(words[1]);
  return integer(1);
}

std::string CommandModel::add(const std::string& key, const std::string& by, int sign) {
  const std::optional<int64_t> given = number_of(by);
  if (!given) return not_integer;
  if (sign < 0 && *given == INT64_MIN) return error("decrement would overflow");
  Item* item = find(key);
  const std::optional<int64_t> old = item != nullptr ? number_of(item->value) : 0;
  if (!old) return not_integer;
  const __int128 sum = static_cast<__int128>(*old) + static_cast<__int128>(*given) * sign;
  if (sum > INT64_MAX || sum < INT64_MIN) return error("increment or decrement would overflow");
  if (item == nullptr) item = &(items_[database_][key] = {});
  item->value = std::to_string(static_cast<int64_t>(sum));
  return integer(static_cast<int64_t>(sum));
}

// Only of numbers that are quarters, so that sums are exact.
std::string CommandModel::add_float(const std::string& key, const std::string& by) {
  const auto quarters = [](const std::string& text) -> std::optional<double> {
    char* end = nullptr;
    const double value = std::strtod(text.c_str(), &end);
    if (text.empty() || end != text.c_str() + text.size() || std::isspace(text[0])) return {};
    return value;
  };
  const std::optional<double> given = quarters(by);
  if (!given) return error("value is not a valid float");
  Item* item = find(key);
  const std::optional<double> old = item != nullptr ? quarters(item->value) : 0.0;
  if (!old) return error("value is not a valid float");
  if (std::fabs(*old) > 1e9 || std::fmod(*old * 4, 1) != 0) throw Ambiguous{};
  std::string text = fmt::format("{:.2f}", *old + *given);
  while (text.back() == '0') text.pop_back();
  if (text.back() == '.') text.pop_back();
  if (text == "-0") text = "0";
  if (item == nullptr) item = &(items_[database_][key] = {});
  item->value = text;
  return bulk(text);
}

std::string CommandModel::set_range(const CommandWords& words) {
  const std::optional<int64_t> offset = number_of(words[2]);
  if (!offset) return not_integer;
  if (*offset < 0) return error("offset is out of range");
  Item* item = find(words[1]);
  const auto old_size = item != nullptr ? static_cast<int64_t>(item->value.size()) : 0;
  const std::string& part = words[3];
  if (part.empty()) return integer(old_size);
  if (*offset > 900'000) return error("string exceeds maximum allowed size (proto-max-bulk-len)");
  if (item == nullptr) item = &(items_[database_][words[1]] = {});
  const auto at = static_cast<size_t>(*offset);
  if (item->value.size() < at + part.size()) item->value.resize(at + part.size(), '\0');
  item->value.replace(at, part.size(), part);
  return integer(static_cast<int64_t>(item->value.size()));
}

std::string CommandModel::get_range(const CommandWords& words) {
  const std::optional<int64_t> first = number_of(words[2]);
  const std::optional<int64_t> last = number_of(words[3]);
  if (!first || !last) return not_integer;
  const Item* item = find(words[1]);
  if (item == nullptr) return bulk("");
  const auto size = static_cast<int64_t>(item->value.size());
  const auto from_end = [&](int64_t at) { return at < 0 ? std::max<int64_t>(at + size, 0) : at; };
  if (*first < 0 && *last < 0 && *first > *last) return bulk("");
  const int64_t begin = from_end(*first);
  const int64_t end = std::min(from_end(*last), size - 1);
  if (begin > end) return bulk("");
  return bulk(item->value.substr(static_cast<size_t>(begin), static_cast<size_t>(end - begin + 1)));
}

std::string CommandModel::rename(const CommandWords& words, bool only_new) {
  const Item* item = find(words[1]);
  if (item == nullptr) return error("no such key");
  if (words[1] == words[2]) return only_new ? integer(0) : ok;
  if (only_new && find(words[2]) != nullptr) return integer(0);
  const Item moved = *item;
  items_[database_].erase(words[1]);
  items_[database_][words[2]] = moved;
  return only_new ? integer(1) : ok;
}

std::string CommandModel::copy(const CommandWords& words) {
  unsigned to = database_;
  bool replace = false;
  for (size_t i = 3; i < words.size(); ++i) {
    if (lower(words[i]) == "replace") {
      replace = true;
    } else if (lower(words[i]) == "db" && i + 1 < words.size()) {
      const std::optional<int64_t> number = number_of(words[++i]);
      if (!number) return not_integer;
      if (*number < 0 || *number >= databases) return error("DB index is out of range");
      to = static_cast<unsigned>(*number);
    } else {
      return syntax;
    }
  }
  if (to == database_ && words[1] == words[2]) {
    return error("source and destination objects are the same");
  }
  const Item* item = find(words[1]);
  if (item == nullptr || (find(to, words[2]) != nullptr && !replace)) return integer(0);
  const Item copied = *item;
  items_[to][words[2]] = copied;
  return integer(1);
}

}  // namespace gyre::test
