// Random commands on a whole node in the simulation, against a model (command_model.hpp): every answer
// is compared, in pipelines, in several databases, across time that passes, restarts and power cuts.
// Other clients count meanwhile.
//
//   GYRE_TEST_SEED=17 node_resp_fuzz_test      one seed alone
//   GYRE_TEST_SCALE=100 node_resp_fuzz_test    a night's run
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <set>

#include <gyre/scope.hpp>
#include <gyre/socket.hpp>
#include <gyre/time.hpp>

#include "../../store/shard_rig.hpp"
#include "../node_sim_rig.hpp"
#include "command_model.hpp"
#include "node/resp/glob.hpp"
#include "resp_line.hpp"

using namespace gyre;
using namespace gyre::test;

namespace {

constexpr unsigned counters = 3;

std::string shown(const std::string& bytes) {
  std::string text;
  for (const char c : bytes.substr(0, 120)) {
    text += c >= ' ' && c <= '~' ? std::string(1, c)
                                 : fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
  }
  return bytes.size() > 120 ? text + "…" : text;
}

std::string shown(const CommandWords& words) {
  std::string text;
  for (const std::string& word : words) text += shown(word) + " ";
  return text;
}

std::vector<std::string> members_of(const std::string& reply) {
  resp::ReplyTree tree;
  std::vector<std::string> members;
  if (!tree.parse(reply)) return {"no reply"};
  for (const resp::Reply member : tree.root()) members.emplace_back(member.text());
  return members;
}

bool fits(const ExpectedReply& expected, const std::string& reply) {
  switch (expected.kind) {
    case ExpectedReply::Kind::exact:
      return reply == expected.bytes;
    case ExpectedReply::Kind::about: {
      resp::ReplyTree tree;
      if (!tree.parse(reply) || !tree.root().integer()) return false;
      const int64_t apart = *tree.root().integer() - expected.number;
      return apart <= CommandModel::slack_ms && apart >= -CommandModel::slack_ms;
    }
    case ExpectedReply::Kind::set: {
      std::vector<std::string> members = members_of(reply);
      std::sort(members.begin(), members.end());
      return members == expected.members;
    }
    case ExpectedReply::Kind::one_of: {
      if (expected.members.empty()) return reply == "$-1\r\n";
      resp::ReplyTree tree;
      return tree.parse(reply) &&
             std::ranges::find(expected.members, tree.root().text()) != expected.members.end();
    }
  }
  return false;
}

// --- what is asked --------------------------------------------------------------------------------

class Generator {
 public:
  explicit Generator(uint64_t seed) : prng(seed, "commands") {}

  CommandWords next() {
    static const std::vector<std::string> one_key = {
        "GET", "GETDEL", "STRLEN",     "INCR",        "DECR", "TYPE", "PERSIST",
        "TTL", "PTTL",   "EXPIRETIME", "pexpiretime", "Get",  "INCR", "GET"};
    switch (prng.below(22)) {
      case 0:
      case 1:
      case 2:
        return {pick(one_key), key()};
      case 3:
      case 4:
        return with_options({"SET", key(), value()},
                            {"NX", "XX", "GET", "KEEPTTL", "EX", "px", "EXAT", "PXAT", "bogus"});
      case 5:
        return with_options({"GETEX", key()}, {"PERSIST", "EX", "PX", "EXAT", "pxat", "NX"});
      case 6:
      case 7:
        return with_conditions();
      case 8:
        return {pick({"SETNX", "GETSET", "APPEND", "append"}), key(), value()};
      case 9:
        return {pick({"SETEX", "PSETEX"}), key(), duration(), value()};
      case 10:
        return {pick({"INCRBY", "DECRBY"}), key(), number()};
      case 11:
        return {"INCRBYFLOAT", key(), pick({"0.25", "-1.5", "3.0e3", "100", "x", "", " 1"})};
      case 12:
        return {"SETRANGE", key(), pick({"0", "3", "100", "-1", "x", "2000000", "70000"}),
                prng.one_in(4) ? "" : short_value()};
      case 13:
        return {pick({"GETRANGE", "SUBSTR"}), key(), index(), index()};
      case 14: {
        CommandWords words = {pick({"DEL", "UNLINK", "EXISTS", "TOUCH", "MGET"})};
        for (uint64_t n = 1 + prng.below(4); n > 0; --n) words.push_back(key());
        return words;
      }
      case 15: {
        CommandWords words = {pick({"MSET", "MSETNX"})};
        for (uint64_t n = 1 + prng.below(4); n > 0; --n) {
          words.push_back(key());
          words.push_back(value());
        }
        if (prng.one_in(20)) words.push_back("odd");
        return words;
      }
      case 16:
        return {pick({"RENAME", "RENAMENX"}), key(), key()};
      case 17:
        return with_options({"COPY", key(), key()}, {"REPLACE", "DB", "bogus"});
      case 18:
        return {"SELECT", std::to_string(prng.below(3))};
      case 19:
        return {pick({"DBSIZE", "RANDOMKEY"})};
      case 20:
        return {"KEYS", "*"};
      default:
        if (prng.one_in(10)) return {pick({"FLUSHDB", "FLUSHALL"})};
        return {"INCR", key()};
    }
  }

  sim::Prng prng;

 private:
  std::string pick(std::vector<std::string> choices) { return choices[prng.below(choices.size())]; }
  std::string key() {
    const uint64_t number = prng.below(14);
    if (number == 0)
      return "\xff"
             "dbkey";
    if (number == 1)
      return std::string(
          "\xff"
          "db\x01k",
          5);
    return fmt::format("key:{}", number);
  }
  std::string short_value() {
    return std::string(prng.below(10), static_cast<char>('a' + prng.below(26)));
  }
  std::string value() {
    const uint64_t kind = prng.below(300);
    if (kind == 0) return std::string(70'000 + prng.below(30'000), 'L');
    if (kind < 10) return std::string(prng.below(20'000), 'm');
    if (kind < 150) return number();
    return short_value();
  }
  std::string number() {
    return pick({"0", "1", "7", "-3", "100", "9223372036854775807", "-9223372036854775808", "1.5",
                 "x", "07", ""});
  }
  std::string index() { return pick({"0", "1", "-1", "3", "-3", "100", "-100", "70005", "x"}); }
  std::string duration() { return pick({"100", "1000", "100000", "100000000", "0", "-5", "soon"}); }
  std::string option_value(const std::string& option) {
    const std::string name = option;
    if (name == "DB") return pick({"0", "1", "2", "16", "-1", "x"});
    if (name == "EXAT" || name == "pxat" || name == "PXAT") {
      const uint64_t now_ms = Reactor::current().wall_ms();
      const uint64_t at_ms = now_ms + 1000 * (prng.below(2000)) - 500'000;
      return std::to_string(name == "EXAT" ? at_ms / 1000 : at_ms);
    }
    return duration();
  }
  CommandWords with_options(CommandWords words, const std::vector<std::string>& options) {
    for (uint64_t n = prng.below(3); n > 0; --n) {
      const std::string option = options[prng.below(options.size())];
      words.push_back(option);
      const bool takes_value = option == "EX" || option == "px" || option == "PX" ||
                               option == "EXAT" || option == "PXAT" || option == "pxat" ||
                               option == "DB";
      if (takes_value && !prng.one_in(20)) words.push_back(option_value(option));
    }
    return words;
  }
  CommandWords with_conditions() {
    const std::string name = pick({"EXPIRE", "PEXPIRE", "EXPIREAT", "PEXPIREAT"});
    const std::string time = name == "EXPIREAT"    ? option_value("EXAT")
                             : name == "PEXPIREAT" ? option_value("PXAT")
                                                   : duration();
    CommandWords words = {name, key(), prng.one_in(30) ? number() : time};
    for (uint64_t n = prng.one_in(2) ? prng.below(3) : 0; n > 0; --n) {
      words.push_back(pick({"NX", "XX", "GT", "LT", "gt", "AB"}));
    }
    return words;
  }
};

// --- a run ----------------------------------------------------------------------------------------

struct Run {
  explicit Run(uint64_t of) : seed(of), generator(of) {}
  uint64_t seed;
  Generator generator;
  CommandModel model;
  CommandWords last_select = {"SELECT", "0"};
  uint64_t commands = 0;
  uint64_t scans = 0;
  uint64_t counted[counters] = {};
  std::string error;

  void wrong(std::string what) {
    if (error.empty()) error = std::move(what);
  }
};

// A pipeline in random pieces, and its answers.
Task<void> converse(RespLine& line, Run& run) {
  sim::Prng& prng = run.generator.prng;
  std::vector<std::pair<CommandWords, ExpectedReply>> asked;
  std::string bytes;
  const uint64_t count = 1 + prng.below(prng.one_in(3) ? 40 : 6);
  while (asked.size() < count) {
    CommandWords words = run.generator.next();
    const auto expected = run.model.run(words, Reactor::current().wall_ms());
    if (!expected) continue;
    if (words[0] == "SELECT") run.last_select = words;
    if (words[0] == "FLUSHALL") std::fill_n(run.counted, counters, 0);
    bytes += encoded(words);
    asked.emplace_back(std::move(words), *expected);
  }
  while (!bytes.empty()) {
    const size_t piece =
        std::min<size_t>(bytes.size(), prng.one_in(2) ? 100'000 : 1 + prng.below(200));
    line.send(std::string_view(bytes).substr(0, piece));
    bytes.erase(0, piece);
    if (prng.one_in(10)) static_cast<void>(co_await sleep_for(microseconds(100)));
  }
  for (const auto& [words, expected] : asked) {
    const std::string reply = co_await line.reply();
    ++run.commands;
    if (fits(expected, reply)) continue;
    run.wrong(fmt::format(
        "{}: {}, not {}", shown(words), shown(reply),
        expected.kind == ExpectedReply::Kind::exact
            ? shown(expected.bytes)
            : fmt::format("{} or {} members", expected.number, expected.members.size())));
    co_return;
  }
}

Task<void> scan_all_keys(RespLine& line, Run& run) {
  sim::Prng& prng = run.generator.prng;
  // Nothing expires at this very moment.
  if (!run.model.run({"DBSIZE"}, Reactor::current().wall_ms())) co_return;
  const std::string pattern = prng.one_in(2) ? "*" : "key:1*";
  std::set<std::string> expected;
  for (const std::string& key : run.model.keys(Reactor::current().wall_ms())) {
    if (glob_match(pattern, key) == GlobMatch::yes) expected.insert(key);
  }
  std::set<std::string> found;
  std::string cursor = "0";
  for (unsigned calls = 0; calls == 0 || cursor != "0"; ++calls) {
    if (calls == 1000) co_return run.wrong("a scan without an end");
    CommandWords words = {"SCAN", cursor, "COUNT", std::to_string(1 + prng.below(5))};
    if (pattern != "*") words.insert(words.end(), {"MATCH", pattern});
    const std::string reply = co_await line.ask(std::move(words));
    resp::ReplyTree tree;
    if (!tree.parse(reply) || tree.root().size() != 2) co_return run.wrong("SCAN: " + shown(reply));
    cursor = tree.root()[0].text();
    for (const resp::Reply key : tree.root()[1]) found.emplace(key.text());
  }
  ++run.scans;
  if (found != expected) {
    run.wrong(fmt::format("a scan found {} keys, not {}", found.size(), expected.size()));
  }
}

// Increments of keys of database 15, many at a time on several connections.
Task<void> count_up(std::string host, uint64_t seed, Run& run) {
  auto fd = co_await dial(host);
  if (!fd) co_return run.wrong("no connection");
  RespLine line(std::move(*fd));
  sim::Prng prng(seed, "counting");
  static_cast<void>(co_await line.ask({"SELECT", "15"}));
  for (unsigned round = 0; round < 6 && run.error.empty(); ++round) {
    std::string bytes;
    const uint64_t count = 1 + prng.below(30);
    std::vector<uint64_t> which;
    for (uint64_t i = 0; i < count; ++i) {
      which.push_back(prng.below(counters));
      bytes += encoded({"INCR", fmt::format("count{}", which.back())});
    }
    line.send(bytes);
    for (const uint64_t counter : which) {
      const std::string reply = co_await line.reply();
      if (!reply.starts_with(':')) co_return run.wrong("INCR: " + shown(reply));
      ++run.counted[counter];
    }
    static_cast<void>(co_await sleep_for(milliseconds(static_cast<int64_t>(prng.below(30)))));
  }
  co_await line.close();
}

Task<void> check_counters(RespLine& line, Run& run) {
  static_cast<void>(co_await line.ask({"SELECT", "15"}));
  for (unsigned i = 0; i < counters; ++i) {
    const std::string value = std::to_string(run.counted[i]);
    const std::string reply = co_await line.ask({"GET", fmt::format("count{}", i)});
    const bool absent = run.counted[i] == 0 && reply == "$-1\r\n";
    if (!absent && reply != fmt::format("${}\r\n{}\r\n", value.size(), value)) {
      run.wrong(fmt::format("count{}: {}, not {}", i, shown(reply), value));
    }
  }
  static_cast<void>(co_await line.ask(run.last_select));
}

Task<void> client_life(std::string host, Run& run, unsigned rounds) {
  co_await await_ready();
  auto fd = co_await dial(host);
  if (!fd) co_return run.wrong("no connection");
  RespLine line(std::move(*fd));
  sim::Prng& prng = run.generator.prng;
  static_cast<void>(co_await line.ask(run.last_select));
  co_await check_counters(line, run);
  {
    Scope others;
    for (unsigned i = 0; i < 3; ++i) others.spawn(count_up(host, run.seed * 10 + i, run));
    co_await others.join();
  }
  for (unsigned round = 0; round < rounds && run.error.empty(); ++round) {
    co_await converse(line, run);
    if (run.error.empty() && prng.one_in(10)) co_await scan_all_keys(line, run);
    if (prng.one_in(15)) static_cast<void>(co_await sleep_for(seconds(30)));
  }
  co_await line.close();
}

ServeConfig fuzz_config(uint64_t seed) {
  Flags flags = {{"shards", seed % 2 == 0 ? "5" : "2"}};
  if (seed % 3 == 0) flags.emplace_back("memory", "64M");
  ServeConfig config = two_core_config(flags);
  config.resp = Address{"0.0.0.0", resp_port};
  return config;
}

std::string run_seed(uint64_t seed, uint64_t& commands, uint64_t& scans) {
  Run run(seed);
  sim::World world({.seed = seed});
  sim::Node& machine = world.add_node({.cores = 2});
  sim::Node& client_machine = world.add_node();
  for (unsigned life = 0; life < 3 && run.error.empty(); ++life) {
    live_node(fuzz_config(seed), world, machine, client_machine,
              client_life(machine.address(), run, 40), [&](Node&, sim::Life& node_life) {
                if (life == 0) {
                  machine.signal(SIGTERM);
                  REQUIRE(world.run_until([&] { return node_life.ended(); }, seconds(600)) ==
                          sim::Stop::satisfied);
                } else {
                  const bool ended =
                      life == 1 ? node_life.crash(sim::CrashMode::random) : node_life.kill();
                  REQUIRE(ended);
                }
              });
  }
  commands += run.commands;
  scans += run.scans;
  return run.error.empty() ? "" : fmt::format("seed {}: {}", seed, run.error);
}

}  // namespace

TEST_CASE(
    "random commands are answered as a Redis of strings would, through restarts and crashes") {
  const char* only = std::getenv("GYRE_TEST_SEED");
  const uint64_t first = only != nullptr ? std::strtoull(only, nullptr, 10) : 1;
  const uint64_t seeds = only != nullptr ? 1 : scaled(20, 4);
  uint64_t commands = 0;
  uint64_t scans = 0;
  unsigned failures = 0;
  for (uint64_t seed = first; seed < first + seeds && failures < 3; ++seed) {
    const std::string wrong = run_seed(seed, commands, scans);
    if (wrong.empty()) continue;
    ++failures;
    FAIL_CHECK(wrong << "\n  again: GYRE_TEST_SEED=" << seed << " node_resp_fuzz_test");
  }
  MESSAGE(fmt::format("commands: {} seeds, {} commands, {} scans", seeds, commands, scans));
  CHECK(commands > seeds * 300);
}
