#include "front_sim.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include <gyre/scope.hpp>
#include <gyre/socket.hpp>
#include <gyre/time.hpp>

#include "proxy/origin.hpp"
#include "proxy/proxy.hpp"
#include "proxy/resp_front.hpp"
#include "redis_model.hpp"
#include "resp/number_text.hpp"
#include "resp/reply_parser.hpp"
#include "sim/life.hpp"

namespace gyre::test {

namespace {

using Words = std::vector<std::string>;

constexpr uint16_t http_port = 8000;
constexpr uint16_t resp_port = 6380;
constexpr unsigned cores = 2;
constexpr unsigned clients = 5;
constexpr unsigned actions = 100;  // of each client
// What the network may hold up an invalidation for, and the loss of a link; with room.
constexpr Nanos staleness_max = milliseconds(120);
constexpr Nanos patience = seconds(60);  // no answer takes longer
constexpr unsigned keys = 8;
constexpr const char* channel = "news";
constexpr const char* list = "list";

unsigned ports_asked = 0;
std::string ready_line;

// Each core asks for its HTTP port first, then for that of RESP.
const proxy::Proxy::Environment environment{
    .port_of = [](int) { return ports_asked++ % 2 == 0 ? http_port : resp_port; },
    .print = [](std::string_view line) { ready_line = line; },
    .exit_now = [](int) {},
};

// "OK", "-error", ":1", "$text", "nil", "*[…]", ">[…]".
std::string shown(const resp::Reply& reply) {
  switch (reply.type()) {
    case resp::ReplyType::simple:
      return std::string(reply.text());
    case resp::ReplyType::error:
      return "-" + std::string(reply.text());
    case resp::ReplyType::integer:
      return ":" + std::string(reply.text());
    case resp::ReplyType::null:
      return "nil";
    case resp::ReplyType::bulk:
      return "$" + std::string(reply.text());
    default: {
      std::string text = reply.type() == resp::ReplyType::push ? ">[" : "*[";
      for (const resp::Reply part : reply) text += shown(part) + ",";
      if (text.back() == ',') text.pop_back();
      return text + "]";
    }
  }
}

bool is_failure(const std::string& reply) {
  return reply.starts_with("-ERR gyre proxy: ") || reply.starts_with("-EXECABORT");
}

class Line {
 public:
  Task<bool> open(std::string host, bool resp3) {
    Result<Descriptor> fd = co_await connect_to(host, resp_port);
    if (!fd) co_return false;
    socket_ = std::make_unique<Socket>(std::move(*fd));
    if (!resp3) co_return true;
    say({"HELLO", "3"});
    co_return (co_await hear()).has_value();
  }
  void say(const Words& words) {
    std::string bytes = fmt::format("*{}\r\n", words.size());
    for (const std::string& word : words) bytes += fmt::format("${}\r\n{}\r\n", word.size(), word);
    socket_->append(bytes);
  }
  // None: the connection has ended.
  Task<std::optional<std::string>> hear() {
    std::string whole;
    for (;;) {
      const resp::ReplyScanner::Step step = scanner_.feed(unread_);
      whole += unread_.substr(0, step.consumed);
      unread_.erase(0, step.consumed);
      if (step.event == resp::ReplyScanner::Event::error) co_return "-nonsense";
      if (step.event == resp::ReplyScanner::Event::reply) {
        resp::ReplyTree tree;
        if (!tree.parse(whole)) co_return "-nonsense";
        co_return shown(tree.root());
      }
      const Result<std::string_view> more = co_await receive_for(socket_.get(), patience);
      timed_out_ = !more && more.error().code == Errc::timed_out;
      if (!more || more->empty()) co_return std::nullopt;
      unread_.assign(*more);
      socket_->release();
    }
  }
  // Nothing came, not even the end.
  bool timed_out() const { return timed_out_; }
  Task<std::string> ask(Words words) {
    say(words);
    co_return (co_await hear()).value_or("-ended");
  }
  Task<void> close() {
    if (socket_) co_await socket_->close();
    socket_.reset();
    scanner_ = resp::ReplyScanner();
    unread_.clear();
  }

 private:
  std::unique_ptr<Socket> socket_;
  bool timed_out_ = false;
  resp::ReplyScanner scanner_;
  std::string unread_;
};

struct Stage {
  explicit Stage(uint64_t of)
      : seed(of),
        world({.seed = of,
               .network = {.between_nodes = {microseconds(50), milliseconds(6)},
                           .spike_ppm = 20'000,
                           .spike = {milliseconds(2), milliseconds(30)}}}),
        proxy_machine(world.add_node({.cores = cores})),
        machine(world.add_node()) {
    options.listen = {"0.0.0.0", http_port};
    options.resp = proxy::ListenAddress{"0.0.0.0", resp_port};
    options.cores = cores;
    options.redis_host = machine.address();
    options.others.ttl_max = seconds(3600);
    options.others.negative_ttl = seconds(3600);
    redis.only_in_transactions = {"pair:a", "pair:b", "watched"};
  }

  void wrong(const std::string& what) {
    if (run.wrong.empty()) {
      run.wrong = fmt::format("at {} ms: {}", Reactor::current().now() / milliseconds(1), what);
    }
  }
  bool resp_idle() const {
    for (unsigned core = 0; core < cores; ++core) {
      const proxy::RespFrontStats& stats = std::as_const(*proxy->resp_front(core)).stats();
      if (stats.connections_open != 0 || stats.subscribers != 0) return false;
    }
    return true;
  }

  uint64_t seed;
  sim::World world;
  sim::Node& proxy_machine;
  sim::Node& machine;
  proxy::Options options;
  proxy::Proxy* proxy = nullptr;
  RedisModel redis;
  FrontRun run;
  bool quiet = false;  // nobody writes, nothing breaks
  uint64_t published = 0;
  std::set<std::string> given_once;  // numbers of counters, elements of lists
};

// --- one client -----------------------------------------------------------------------------------

class SimClient {
 public:
  SimClient(Stage& stage, unsigned id)
      : stage_(stage), id_(id), random_(stage.seed, fmt::format("client {}", id)) {}

  Task<void> main() {
    for (unsigned i = 0; i < actions && stage_.run.wrong.empty(); ++i) {
      if (!open_ && !co_await dial()) break;
      const uint64_t failures_before = failures_;
      co_await act();
      if (failures_ != failures_before) static_cast<void>(co_await sleep_for(milliseconds(50)));
      if (random_.one_in(3)) {
        const auto pause = static_cast<Nanos>(random_.below(milliseconds(10)));
        static_cast<void>(co_await sleep_for(pause));
      }
    }
    co_await line_.close();
  }

 private:
  struct Asked {
    Words words;
    Nanos sent_at = 0;
  };

  Task<bool> dial() {
    co_await line_.close();
    open_ = co_await line_.open(stage_.proxy_machine.address(), random_.one_in(2));
    if (!open_) stage_.wrong("the proxy can't be reached");
    co_return open_;
  }

  Task<void> act() {
    switch (random_.below(20)) {
      case 0:
      case 1:
      case 2:
        return transaction();
      case 3:
      case 4:
        return read_pair();
      case 5:
      case 6:
        return increment();
      case 7:
        return pop();
      case 8:
      case 9:
        return subscribe();
      case 10:
        return leave();
      case 11:
      case 12:
        return write_and_read();
      default:
        return pipeline();
    }
  }

  static std::string shown_ms(Nanos at) {
    return fmt::format("{:.1f}", static_cast<double>(at) / static_cast<double>(milliseconds(1)));
  }
  void note(const Words& words, const std::string& reply) {
    said_ += fmt::format("\n    {} -> {} at {}", fmt::join(words, " "), reply,
                         shown_ms(Reactor::current().now()));
  }
  void failed(const std::string& reply, const Words& words) {
    if (is_failure(reply)) {
      ++stage_.run.failures;
      ++failures_;
    } else {
      stage_.wrong(fmt::format("client {}: {} was answered {}", id_, fmt::join(words, " "), reply));
    }
  }

  std::string key() { return fmt::format("k{}", random_.below(keys)); }
  std::string unique() {
    return fmt::format("{}.{}.{}", id_, ++values_, std::string(random_.below(40), 'v'));
  }

  Words ordinary() {
    switch (random_.below(16)) {
      case 0:
      case 1:
        return {"SET", key(), unique()};
      case 2:
        return {"GET", "pair:a"};
      case 3:
        return {"DEL", key()};
      case 4:
        return {"INCR", fmt::format("c{}", random_.below(2))};
      case 5:
        return {"MGET", key(), key(), key()};
      case 6:
        return {"STRLEN", key()};
      case 7:
        return {"ECHO", unique()};
      case 8:
        return {"PING", unique()};
      case 9:
        return {"GET", fmt::format("c{}", random_.below(2))};
      case 10:
        if (random_.one_in(10)) return {"FLUSHALL"};
        return {"RPUSH", list, unique()};
      default:
        return {"GET", key()};
    }
  }

  Task<void> pipeline() {
    said_.clear();
    std::vector<Asked> asked;
    const uint64_t count = 1 + random_.below(random_.one_in(2) ? 3 : 16);
    for (uint64_t i = 0; i < count; ++i) {
      asked.push_back({ordinary(), Reactor::current().now()});
      line_.say(asked.back().words);
      if (random_.one_in(12)) static_cast<void>(co_await sleep_for(microseconds(300)));
    }
    for (const Asked& one : asked) {
      const auto reply = co_await line_.hear();
      if (!reply) {
        stage_.wrong(fmt::format("client {}: cut off in a pipeline", id_));
        open_ = false;
        co_return;
      }
      note(one.words, *reply);
      check(one, *reply);
    }
  }

  void check(const Asked& asked, const std::string& reply) {
    const Words& words = asked.words;
    const std::string& name = words[0];
    if (reply.starts_with('-')) return failed(reply, words);
    ++stage_.run.answers;
    const auto unexpected = [&] { failed(reply, words); };
    if (name == "ECHO" || name == "PING") {
      if (reply != "$" + words[1]) unexpected();
    } else if (name == "GET") {
      check_value(words[1], reply, asked.sent_at);
    } else if (name == "MGET") {
      std::string rest = reply;
      if (!rest.starts_with("*[") || std::ranges::count(rest, ',') != 2) return unexpected();
      rest = rest.substr(2, rest.size() - 3);
      for (size_t i = 1; i < words.size(); ++i) {
        const size_t end = std::min(rest.find(','), rest.size());
        check_value(words[i], rest.substr(0, end), asked.sent_at);
        rest.erase(0, end + 1);
      }
    } else if (name == "STRLEN") {
      const bool possible = find(words[1], asked.sent_at, [&](const auto& state) {
                              return fmt::format(":{}", state.value.value_or("").size()) == reply;
                            }).has_value();
      if (!possible) unexpected();
    } else if (name == "SET") {
      if (reply != "OK") return unexpected();
      wrote(words[1], words[2]);
    } else if (name == "INCR") {
      if (!stage_.given_once.insert(words[1] + reply).second) {
        stage_.wrong(fmt::format("{} was given twice: {}", words[1], reply));
      }
      wrote(words[1], reply.substr(1));
    } else if (name == "DEL") {
      if (reply == ":1") deleted(words[1], asked.sent_at);
    }
  }

  // The first state of a key that may be seen, of those that `fits`.
  template <class Fits>
  std::optional<size_t> find(const std::string& key, Nanos sent_at, Fits fits) {
    const std::vector<RedisModel::State>& states = stage_.redis.history(key);
    for (size_t i = seen_[key]; i < states.size(); ++i) {
      const bool recent = i + 1 == states.size() || states[i + 1].at >= sent_at - staleness_max;
      if (recent && fits(states[i])) return i;
    }
    return std::nullopt;
  }

  void check_value(const std::string& key, const std::string& reply, Nanos sent_at) {
    const auto at = find(key, sent_at, [&](const RedisModel::State& state) {
      return (state.value ? "$" + *state.value : "nil") == reply;
    });
    if (!at) {
      std::string states;
      for (const RedisModel::State& state : stage_.redis.history(key)) {
        states += fmt::format(" {}:{}", shown_ms(state.at), state.value.value_or("nil"));
      }
      if (states.size() > 600) states.erase(0, states.size() - 600);
      stage_.wrong(fmt::format(
          "client {}: GET {} sent at {} was answered {}, and it has seen state {} of {}: …{}{}",
          id_, key, shown_ms(sent_at), reply, seen_[key], stage_.redis.history(key).size(), states,
          said_));
      return;
    }
    seen_[key] = *at;
  }

  // It was answered, so it has happened, and is seen from now on.
  void wrote(const std::string& key, const std::string& value) {
    const std::vector<RedisModel::State>& states = stage_.redis.history(key);
    for (size_t i = states.size(); i-- > 0;) {
      if (states[i].value != value) continue;
      seen_[key] = std::max(seen_[key], i);
      return;
    }
    stage_.wrong(
        fmt::format("client {}: {} of {} was answered and not carried out", id_, value, key));
  }
  void deleted(const std::string& key, Nanos sent_at) {
    const std::vector<RedisModel::State>& states = stage_.redis.history(key);
    for (size_t i = seen_[key]; i < states.size(); ++i) {
      if (states[i].value || states[i].at < sent_at) continue;
      seen_[key] = i;
      return;
    }
    stage_.wrong(fmt::format("client {}: DEL {} was answered and not carried out", id_, key));
  }

  // What everybody else reads at that time.
  Task<void> write_and_read() {
    said_.clear();
    const std::string name = fmt::format("k{}", random_.below(2));
    Asked asked{{"SET", name, unique()}, Reactor::current().now()};
    for (uint64_t left = 6; left > 0; --left) {
      const std::string reply = co_await ask_once(asked.words);
      note(asked.words, reply);
      check(asked, reply);
      if (random_.one_in(2))
        static_cast<void>(co_await sleep_for(microseconds(random_.below(900))));
      asked = {{"GET", name}, Reactor::current().now()};
    }
  }

  // Two keys that only ever change together.
  Task<void> transaction() {
    const std::string value = unique();
    const std::string other = key();
    const std::vector<Words> all = {{"MULTI"},
                                    {"SET", "pair:a", value},
                                    {"SET", other, value + "x"},
                                    {"SET", "pair:b", value},
                                    {random_.one_in(8) ? "DISCARD" : "EXEC"}};
    const bool one_by_one = random_.one_in(2);
    if (!one_by_one) {
      for (const Words& words : all) line_.say(words);
    }
    bool begun = false;
    for (const Words& words : all) {
      if (one_by_one) {
        if (random_.one_in(3)) static_cast<void>(co_await sleep_for(milliseconds(3)));
        line_.say(words);
      }
      const auto reply = co_await line_.hear();
      if (!reply || (words[0] != "MULTI" && !begun)) {
        // What may not be a transaction ends the connection.
        if (begun || reply) stage_.wrong("a transaction that did not begin goes on, or one is cut");
        open_ = false;
        co_return;
      }
      if (reply->starts_with('-')) {
        failed(*reply, words);
        if (words[0] == "MULTI") continue;
      } else if (words[0] == "MULTI") {
        begun = *reply == "OK";
      } else if (words[0] == "SET" && *reply != "QUEUED") {
        failed(*reply, words);
      } else if (words[0] == "EXEC") {
        ++stage_.run.transactions;
        if (*reply != "*[OK,OK,OK]") failed(*reply, words);
        wrote("pair:a", value);
        wrote("pair:b", value);
        wrote(other, value + "x");
      }
    }
  }

  Task<void> read_pair() {
    const Nanos sent_at = Reactor::current().now();
    const std::vector<Words> all = {{"MULTI"}, {"GET", "pair:a"}, {"GET", "pair:b"}, {"EXEC"}};
    for (const Words& words : all) line_.say(words);
    std::optional<std::string> reply;
    for (const Words& words : all) {
      reply = co_await line_.hear();
      if (!reply) {
        if (words[0] == "MULTI") stage_.wrong("cut off without an answer");
        open_ = false;
        co_return;
      }
      if (reply->starts_with('-')) failed(*reply, words);
    }
    if (reply->starts_with('-')) co_return;
    const size_t comma = reply->find(',');
    const std::string a = reply->substr(2, comma - 2);
    const std::string b = reply->substr(comma + 1, reply->size() - comma - 2);
    if (a != b) stage_.wrong("half a transaction is seen: " + *reply);
    check_value("pair:a", a, sent_at);
    // As it is answered from memory.
    const Asked again{{"GET", "pair:a"}, Reactor::current().now()};
    const std::string said = co_await ask_once(again.words);
    check(again, said);
  }

  Task<std::string> ask_once(Words words) {
    const std::string reply = co_await line_.ask(std::move(words));
    if (reply == "-ended") {
      open_ = false;
      co_return "-ERR gyre proxy: ended";
    }
    co_return reply;
  }

  // As an optimistic update does it.
  Task<void> increment() {
    Words next = {"WATCH", "watched"};
    int64_t number = 0;
    for (const char* name : {"WATCH", "GET", "MULTI", "SET", "EXEC"}) {
      const std::string step = name;
      if (step == "GET") next = {"GET", "watched"};
      if (step == "MULTI") next = {"MULTI"};
      if (step == "SET") next = {"SET", "watched", std::to_string(number + 1)};
      if (step == "EXEC") next = {"EXEC"};
      const std::string reply = co_await ask_once(next);
      if (reply.starts_with('-')) {
        failed(reply, next);
        open_ = false;  // whatever state it is in
        co_return;
      }
      if (step == "GET")
        number = reply == "nil" ? 0 : resp::parse_integer(reply.substr(1)).value_or(0);
      if (step == "EXEC" && reply == "*[OK]") {
        ++stage_.run.transactions;
        if (!stage_.given_once.insert("watched" + std::to_string(number + 1)).second) {
          stage_.wrong(fmt::format("WATCH let an update be lost: {}", number + 1));
        }
        wrote("watched", std::to_string(number + 1));
      } else if (step == "EXEC" && reply != "nil") {
        failed(reply, next);
      }
      if (random_.one_in(3)) static_cast<void>(co_await sleep_for(milliseconds(2)));
    }
  }

  Task<void> pop() {
    line_.say({"BLPOP", list, "0"});
    line_.say({"ECHO", "behind"});
    const auto reply = co_await line_.hear();
    const auto behind = co_await line_.hear();
    if (!reply || behind != "$behind") {
      stage_.wrong("BLPOP, and what is behind it");
      open_ = false;
    } else if (reply->starts_with('-')) {
      failed(*reply, {"BLPOP"});
    } else if (!reply->starts_with("*[$list,$") || !stage_.given_once.insert(*reply).second) {
      stage_.wrong("popped twice, or not popped: " + *reply);
    } else {
      ++stage_.run.answers;
    }
  }

  // On a connection of its own, which may be cut when Redis is lost.
  Task<void> subscribe() {
    Line line;
    const bool resp3 = random_.one_in(2);
    if (!co_await line.open(stage_.proxy_machine.address(), resp3)) co_return;
    line.say({"SUBSCRIBE", channel, "other"});
    line.say({"PING", "one"});
    const char kind = resp3 ? '>' : '*';
    const std::string one = resp3 ? "$one" : "*[$pong,$one]";
    std::vector<std::string> expected = {kind + std::string("[$subscribe,$news,:1]"),
                                         kind + std::string("[$subscribe,$other,:2]"), one};
    const std::string ends[] = {kind + std::string("[$unsubscribe,$other,:1]"),
                                kind + std::string("[$unsubscribe,$news,:0]"), "$two"};
    const std::string message = kind + std::string("[$message,$news,$");
    const uint64_t wanted = random_.below(40);
    uint64_t heard = 0;
    uint64_t confirmed_at = 0;  // what had been published then
    uint64_t number_before = 0;
    size_t said = 0;
    bool ending = false;
    while (said < expected.size() || !ending) {
      if (said == expected.size() && heard >= wanted) {
        ending = true;
        expected.insert(expected.end(), std::begin(ends), std::end(ends));
        line.say({"UNSUBSCRIBE", "other", channel});
        line.say({"ECHO", "two"});
      }
      const auto frame = co_await line.hear();
      if (!frame && line.timed_out()) stage_.wrong("a subscriber hears nothing any more");
      if (!frame) break;
      // The end of a subscription may be confirmed, and then its end is lost.
      if ((said == 0 || ending) && is_failure(*frame)) {
        ++stage_.run.failures;
        break;
      }
      if (frame->starts_with(message)) {
        ++heard;
        ++stage_.run.messages;
        const uint64_t number = std::stoull(frame->substr(message.size()));
        const bool next = number_before == 0 ? said > 0 && number <= confirmed_at + 1
                                             : number == number_before + 1;
        if (!next) stage_.wrong(fmt::format("message {} after {}", number, number_before));
        number_before = number;
      } else if (said < expected.size() && *frame == expected[said]) {
        if (said++ == 0) confirmed_at = stage_.published;
      } else {
        stage_.wrong("a subscriber got " + *frame);
        break;
      }
    }
    co_await line.close();
  }

  // In the middle of things.
  Task<void> leave() {
    const std::vector<Words> all = {{"SET", key(), unique()},
                                    {"GET", key()},
                                    {"SUBSCRIBE", "other"},
                                    {"MULTI"},
                                    {"SET", key(), unique()},
                                    {"BLPOP", "nothing", "0"},
                                    {"GET", key()}};
    for (const Words& words : all) {
      if (!random_.one_in(3)) line_.say(words);
    }
    if (random_.one_in(2)) static_cast<void>(co_await sleep_for(milliseconds(2)));
    open_ = false;
  }

  Stage& stage_;
  unsigned id_;
  sim::Prng random_;
  Line line_;
  bool open_ = false;
  uint64_t values_ = 0;
  uint64_t failures_ = 0;
  std::string said_;                    // of the last pipeline
  std::map<std::string, size_t> seen_;  // the state of each key that was seen last
};

// --- what goes on beside them -----------------------------------------------------------------------

Task<void> write_directly(Stage* stage) {
  sim::Prng random(stage->seed, "writer");
  uint64_t number = 0;
  while (!stage->quiet) {
    const std::string key = fmt::format("k{}", random.below(keys));
    if (random.one_in(40)) {
      stage->redis.flush("k");
    } else if (random.one_in(6)) {
      stage->redis.set(key, std::nullopt);
    } else {
      stage->redis.set(key, fmt::format("w.{}", ++number));
    }
    stage->redis.push(list, fmt::format("w.{}", ++number));
    stage->redis.publish(channel, std::to_string(++stage->published));
    const auto pause = static_cast<Nanos>(random.below(milliseconds(random.one_in(20) ? 60 : 4)));
    static_cast<void>(co_await sleep_for(pause));
  }
}

Task<void> make_trouble(Stage* stage) {
  sim::Prng random(stage->seed, "trouble");
  RedisModel& redis = stage->redis;
  while (!stage->quiet) {
    static_cast<void>(co_await sleep_for(milliseconds(random.between(50, 500))));
    switch (random.below(16)) {
      case 0:
      case 1:
        redis.cut();
        break;
      case 2:
        redis.refuses = true;
        redis.cut();
        static_cast<void>(co_await sleep_for(milliseconds(random.between(20, 400))));
        redis.refuses = false;
        break;
      case 3:
        if (random.one_in(3)) {
          redis.silent = true;
          static_cast<void>(co_await sleep_for(milliseconds(random.between(50, 1500))));
          redis.silent = false;
          redis.cut();  // it has forgotten what it did not answer
        }
        break;
      default:
        redis.delay_max = random.one_in(2) ? 0 : milliseconds(random.between(0, 4));
    }
  }
  redis.silent = redis.refuses = false;
  redis.delay_max = 0;
}

Task<bool> eventually(std::function<bool()> holds, Nanos limit = seconds(100)) {
  const Nanos end = Reactor::current().after(limit);
  while (!holds() && Reactor::current().now() < end) {
    static_cast<void>(co_await sleep_for(milliseconds(1)));
  }
  co_return holds();
}

// Nobody writes any more: what is answered is what Redis has, for good.
Task<void> check_at_rest(Stage* stage) {
  static_cast<void>(co_await sleep_for(seconds(5)));
  Line line;
  if (!co_await line.open(stage->proxy_machine.address(), false)) co_return;
  for (int round = 0; round < 2; ++round) {
    for (const auto& [key, states] : stage->redis.all()) {
      const auto& value = states.back().value;
      const std::string reply = co_await line.ask({"GET", key});
      if (reply != (value ? "$" + *value : "nil")) {
        stage->wrong(fmt::format("at rest {} is {}, not {}", key, value.value_or("nil"), reply));
      }
    }
  }
  co_await line.close();
  if (stage->redis.get("pair:a") != stage->redis.get("pair:b")) stage->wrong("half a transaction");
  if (!stage->redis.alone.empty()) {
    stage->wrong("a command of a transaction was carried out by itself: " + stage->redis.alone[0]);
  }
}

// Runs of chance come to it once in hundreds: a fetch that Redis' invalidation has overtaken arrives,
// with what is new at that time, while somebody waits for a later fetch. Who asks behind him must
// not be answered with less than he will be.
Task<void> fill_beside_fetch(Stage* stage) {
  RedisModel& redis = stage->redis;
  Line first;
  Line second;
  const bool open = co_await first.open(stage->proxy_machine.address(), false) &&
                    co_await second.open(stage->proxy_machine.address(), false);
  if (!open) stage->wrong("the proxy can't be reached");
  redis.set("k", "0");
  static_cast<void>(co_await first.ask({"GET", "k"}));  // Redis tells of changes from here on
  static_cast<void>(co_await sleep_for(seconds(2)));    // and it has been forgotten
  redis.delay_min = milliseconds(100);
  first.say({"GET", "k"});
  static_cast<void>(co_await sleep_for(milliseconds(50)));
  redis.set("k", "1");
  static_cast<void>(co_await sleep_for(milliseconds(50)));
  second.say({"GET", "k"});
  static_cast<void>(co_await sleep_for(milliseconds(250)));  // the first one is answered
  second.say({"GET", "k"});
  static_cast<void>(co_await sleep_for(milliseconds(100)));
  redis.set("k", "2");
  const auto earlier = co_await second.hear();
  const auto later = co_await second.hear();
  if (earlier == "$2" && later != "$2") {
    stage->wrong("a pipeline of reads goes back, to " + later.value_or("its end"));
  }
  redis.delay_min = 0;
  co_await first.close();
  co_await second.close();
}

Task<void> play(Stage* stage, bool directed) {
  Scope redis(nullptr, "redis");
  redis.spawn(stage->redis.main(stage->seed));
  while (ready_line.empty()) static_cast<void>(co_await sleep_for(milliseconds(1)));
  if (directed) {
    co_await fill_beside_fetch(stage);
  } else {
    Scope trouble(nullptr, "trouble");
    trouble.spawn(make_trouble(stage));
    trouble.spawn(write_directly(stage));
    std::vector<std::unique_ptr<SimClient>> all;
    Scope running(nullptr, "clients");
    for (unsigned i = 0; i < clients; ++i) {
      all.push_back(std::make_unique<SimClient>(*stage, i));
      running.spawn(all.back()->main());
    }
    co_await running.join();
    stage->quiet = true;
    co_await trouble.join();
  }
  co_await check_at_rest(stage);
  if (!co_await eventually([&] { return stage->resp_idle(); })) {
    stage->wrong("connections are left over");
  }
  for (unsigned core = 0; core < cores; ++core) {
    stage->run.hits += stage->proxy->origin(core).cache().stats().hits;
  }
  stage->proxy_machine.signal(SIGTERM);
  if (!co_await eventually([&] { return stage->redis.open_connections() == 0; })) {
    stage->wrong("connections to Redis are left over: " + stage->redis.describe());
  }
  stage->redis.stop();
  co_await redis.join();
}

}  // namespace

FrontRun run_front(uint64_t seed, bool directed) {
  ready_line.clear();
  ports_asked = 0;
  const int64_t frames_before = frames_live();
  FrontRun run;
  {
    Stage stage(seed);
    if (directed) stage.options.others.ttl_max = seconds(1);
    proxy::Proxy proxy(stage.options, environment);
    stage.proxy = &proxy;
    sim::Life proxy_life(stage.world, stage.proxy_machine);
    sim::Life client_life(stage.world, stage.machine);
    for (unsigned core = 0; core < cores; ++core) proxy_life.start(core, proxy.run(core));
    client_life.start(0, play(&stage, directed));
    const bool ended = stage.world.run_until([&] { return client_life.ended(); }, seconds(3600)) ==
                           sim::Stop::satisfied &&
                       proxy_life.run(seconds(60)) == sim::Stop::satisfied;
    run = stage.run;
    const std::string left = ended ? stage.world.check_quiescent(stage.proxy_machine) : "";
    if (run.wrong.empty() && !ended) run.wrong = "it does not come to an end";
    if (run.wrong.empty() && proxy.exit_code() != 0) run.wrong = "the proxy's exit code";
    if (run.wrong.empty()) run.wrong = left;
  }
  if (run.wrong.empty() && frames_live() != frames_before) run.wrong = "tasks are left over";
  return run;
}

}  // namespace gyre::test
