#include "proxy/cluster_commands.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <map>

#include "resp/cluster.hpp"
#include "resp/number_text.hpp"

namespace gyre::proxy {

namespace {

using Kind = Placement::Kind;
using Merge = Placement::Merge;

constexpr size_t name_bytes_max = 24;

struct Rule {
  std::string_view name;
  Placement placement;
  size_t count_at = 0;  // where the number of keys is, if it says so; they are behind it
};

constexpr Placement any{Kind::any, Merge::first, 0};
constexpr Placement third{Kind::key, Merge::first, 2};
constexpr Placement fourth{Kind::key, Merge::first, 3};

// Sorted by name.
constexpr Rule rules[] = {
    {"bitop", third},
    {"blmpop", fourth, 2},
    {"bzmpop", fourth, 2},
    {"command", any},
    {"config", any},
    {"dbsize", {Kind::all, Merge::sum}},
    {"del", {Kind::by_slot, Merge::sum}},
    {"discard", any},
    {"echo", any},
    {"eval", fourth, 2},
    {"eval_ro", fourth, 2},
    {"evalsha", fourth, 2},
    {"evalsha_ro", fourth, 2},
    {"exec", any},
    {"exists", {Kind::by_slot, Merge::sum}},
    {"fcall", fourth, 2},
    {"fcall_ro", fourth, 2},
    {"flushall", {Kind::all}},
    {"flushdb", {Kind::all}},
    {"function", any},
    {"info", any},
    {"keys", {Kind::all, Merge::concatenate}},
    {"lastsave", any},
    {"latency", any},
    {"lmpop", third, 1},
    {"lolwut", any},
    {"memory", any},
    {"mset", {Kind::by_slot, Merge::first, 1, 2}},
    {"multi", any},
    {"object", third},
    {"ping", any},
    {"publish", any},
    {"pubsub", any},
    {"randomkey", any},
    {"role", any},
    {"scan", {Kind::refused}},
    {"script", any},
    {"sintercard", third, 1},
    {"slowlog", any},
    {"swapdb", any},
    {"time", any},
    {"touch", {Kind::by_slot, Merge::sum}},
    {"unlink", {Kind::by_slot, Merge::sum}},
    {"unwatch", any},
    {"wait", any},
    {"waitaof", any},
    {"xgroup", third},
    {"xinfo", third},
    {"zdiff", third, 1},
    {"zinter", third, 1},
    {"zintercard", third, 1},
    {"zmpop", third, 1},
    {"zunion", third, 1},
};
static_assert(std::ranges::is_sorted(rules, {}, &Rule::name));

// What every node has to have, so that a script or a function is found wherever its keys are.
bool is_for_all(std::string_view name, std::string_view what) {
  const auto is = [&](std::string_view word) { return resp::is_word(what, word); };
  if (name == "script") return is("load") || is("flush");
  if (name == "function") return is("load") || is("delete") || is("flush") || is("restore");
  return false;
}

}  // namespace

Placement placement_of(resp::Command command) {
  std::string name;
  for (const char c : command[0].substr(0, name_bytes_max)) name += resp::to_lower(c);
  Placement placement;
  size_t count_at = 0;
  if (const auto* rule = std::ranges::lower_bound(rules, std::string_view(name), {}, &Rule::name);
      rule != std::end(rules) && rule->name == name) {
    placement = rule->placement;
    count_at = rule->count_at;
  }
  if (command.size() > 1 && is_for_all(name, command[1])) {
    placement.kind = Kind::all;
  } else if (name == "memory" && command.size() > 2 && resp::is_word(command[1], "usage")) {
    placement = third;
  } else if (name == "xread" || name == "xreadgroup") {
    const auto streams = std::ranges::find_if(
        command, [](std::string_view word) { return resp::is_word(word, "streams"); });
    placement.key_at = static_cast<size_t>(streams - command.begin()) + 1;
  } else if (count_at != 0 && command.size() > count_at && command[count_at] == "0") {
    placement = any;
  }
  if (placement.kind == Kind::by_slot) {
    // What lacks something is for Redis to refuse.
    const bool whole = command.size() > 1 && (command.size() - 1) % placement.step == 0;
    if (!whole) placement = {};
  }
  if (placement.kind == Kind::key && placement.key_at >= command.size()) placement = any;
  return placement;
}

std::vector<SlotPart> split_by_slot(resp::Command command, const Placement& placement) {
  struct Part {
    uint16_t slot;
    std::vector<std::string_view> words;
  };
  std::vector<Part> parts;
  std::map<uint16_t, size_t> of_slot;
  for (size_t at = 1; at + placement.step <= command.size(); at += placement.step) {
    const uint16_t slot = resp::slot_of_key(command[at]);
    const auto [found, is_new] = of_slot.try_emplace(slot, parts.size());
    if (is_new) parts.push_back({slot, {command[0]}});
    std::vector<std::string_view>& words = parts[found->second].words;
    for (size_t i = 0; i < placement.step; ++i) words.push_back(command[at + i]);
  }
  std::vector<SlotPart> out;
  for (const Part& part : parts) {
    SlotPart one{part.slot, fmt::format("*{}\r\n", part.words.size())};
    for (const std::string_view word : part.words) {
      one.bytes += fmt::format("${}\r\n", word.size());
      one.bytes += word;
      one.bytes += "\r\n";
    }
    out.push_back(std::move(one));
  }
  return out;
}

std::string merge_replies(Merge merge, const std::vector<std::string_view>& replies) {
  constexpr std::string_view strange = "-ERR gyre proxy: the nodes' answers don't fit together\r\n";
  for (const std::string_view reply : replies) {
    if (reply.starts_with('-') || reply.starts_with('!')) return std::string(reply);
  }
  if (merge == Merge::first) return std::string(replies.front());
  int64_t sum = 0;
  std::string all;
  for (const std::string_view reply : replies) {
    const size_t line = std::min(reply.find("\r\n"), reply.size());
    const auto number = resp::parse_integer(reply.substr(std::min<size_t>(1, line), line - 1));
    const char type = merge == Merge::sum ? ':' : '*';
    if (!reply.starts_with(type) || !number || *number < 0 ||
        __builtin_add_overflow(sum, *number, &sum)) {
      return std::string(strange);
    }
    if (merge == Merge::concatenate) all += reply.substr(line + 2);
  }
  if (merge == Merge::sum) return fmt::format(":{}\r\n", sum);
  return fmt::format("*{}\r\n", sum) + all;
}

}  // namespace gyre::proxy
