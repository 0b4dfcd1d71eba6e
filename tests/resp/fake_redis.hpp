// A small Redis for tests in the simulation: strings with a time to live, HELLO, AUTH, SELECT,
// CLIENT TRACKING (OPTIN), and trouble of every kind, on demand. It serves on the core where main()
// runs.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gyre/scope.hpp>
#include <gyre/socket.hpp>
#include <gyre/sync.hpp>
#include <gyre/task.hpp>
#include <gyre/time.hpp>

#include "resp/command_parser.hpp"
#include "resp/reply_writer.hpp"
#include "tls/stream.hpp"

namespace gyre::test {

class FakeRedis {
 public:
  static constexpr uint16_t port = 6379;

  // --- what it holds
  struct Value {
    std::string bytes;
    Nanos expires_at = nanos_never;
  };
  std::map<std::string, Value> data;

  // --- how it behaves; may be changed at any time
  std::string address = "0.0.0.0";
  uint16_t listens_on = port;
  // Asked first, as to what a node of a cluster would say; "": it carries the command out.
  // `asking`: ASKING came just before.
  std::function<std::string(const std::vector<std::string>& words, bool asking)> gate;
  bool knows_hello = true;  // as Redis 5 does not
  bool knows_tracking = true;
  std::string password;
  Nanos delay = 0;       // before each reply
  bool silent = false;   // takes commands and says nothing
  bool deaf = false;     // does not even read
  bool drips = false;    // a byte at a time
  std::string instead;   // of the next reply, once
  std::string error;     // of every GET
  bool refuses = false;  // closes connections at once
  // What it says to who tracks keys stays on its way until it is let go.
  bool holds_tracked = false;
  void let_go(size_t most = SIZE_MAX) {
    for (Connection* connection : open_) {
      for (; most > 0 && !connection->held.empty(); --most) {
        connection->stream.append(connection->held.front());
        connection->held.pop_front();
      }
    }
  }
  size_t held() const {
    size_t sum = 0;
    for (const Connection* connection : open_) sum += connection->held.size();
    return sum;
  }
  const tls::Context* tls = nullptr;

  // --- what it saw
  std::vector<std::vector<std::string>> commands;
  uint64_t connections = 0;
  size_t open_connections() const { return open_.size(); }
  uint64_t count(std::string_view name) const {
    uint64_t n = 0;
    for (const auto& command : commands) n += command[0] == name;
    return n;
  }

  // As another client would: whoever tracks the key is told.
  void set(const std::string& key, std::string bytes, Nanos ttl = nanos_never) {
    data[key] = {std::move(bytes), Reactor::current().after(ttl)};
    changed(key);
  }
  void erase(const std::string& key) {
    data.erase(key);
    changed(key);
  }
  void flush_all() {
    data.clear();
    for (Connection* connection : open_) {
      if (connection->tracking) connection->say(">2\r\n$10\r\ninvalidate\r\n_\r\n");
      connection->tracked.clear();
    }
  }
  // To whoever is subscribed; how many they are.
  int64_t publish(const std::string& channel, const std::string& message) {
    int64_t heard = 0;
    for (Connection* connection : open_) {
      if (!connection->channels.contains(channel)) continue;
      ++heard;
      tell(*connection, {"message", channel, message});
    }
    return heard;
  }
  // Cuts every connection.
  void cut() {
    for (Connection* connection : open_) connection->stream.socket().abort();
  }

  Event listening;

  // Until stop() is called.
  Task<void> main() {
    Scope scope(nullptr, "fake redis");
    Listener listener;
    Result<void> opened = co_await listener.open({.address = address, .port = listens_on});
    CHECK(opened);
    if (!opened) co_return;
    Scope accepting(nullptr, "fake redis accept");
    accepting.spawn(accept(&listener, &scope));
    listening.set();
    static_cast<void>(co_await stopped_.wait());
    accepting.request_stop();
    co_await accepting.join();
    co_await listener.close();
    listening.reset();
    scope.request_stop();
    cut();
    co_await scope.join();
    stopped_.reset();
  }
  void stop() { stopped_.set(); }

 private:
  struct Connection {
    Connection(Descriptor fd, const bool& holding) : stream(std::move(fd)), holds(holding) {}
    void say(std::string_view bytes) {
      if (tracking && (holds || !held.empty())) {
        held.emplace_back(bytes);
      } else {
        stream.append(bytes);
      }
    }
    tls::Stream stream;
    const bool& holds;
    std::deque<std::string> held;
    bool tracking = false;
    bool caching = false;  // CLIENT CACHING YES came just before
    bool authenticated = false;
    bool asking = false;
    std::set<std::string> tracked;
    std::set<std::string> channels;
    resp::Protocol protocol = resp::Protocol::resp2;
  };

  static void tell(Connection& connection, const std::vector<std::string>& words,
                   std::optional<size_t> count = std::nullopt) {
    std::string out;
    resp::ReplyWriter to(out, connection.protocol);
    to.push(words.size() + (count ? 1 : 0));
    for (const std::string& word : words) to.bulk(word);
    if (count) to.integer(static_cast<int64_t>(*count));
    connection.say(out);
  }

  void changed(const std::string& key) {
    for (Connection* connection : open_) {
      if (connection->tracked.erase(key) == 0) continue;
      connection->say(">2\r\n$10\r\ninvalidate\r\n*1\r\n$" + std::to_string(key.size()) + "\r\n" +
                      key + "\r\n");
    }
  }

  Task<void> accept(Listener* listener, Scope* scope) {
    for (;;) {
      Result<Descriptor> fd = co_await listener->accept();
      if (!fd) break;
      ++connections;
      if (refuses) continue;
      scope->spawn(serve(std::move(*fd)));
    }
  }

  Task<void> serve(Descriptor fd) {
    Connection connection(std::move(fd), holds_tracked);
    open_.push_back(&connection);
    resp::CommandParser parser;
    bool go_on = true;
    if (tls != nullptr) {
      go_on = (co_await connection.stream.secure(*tls, "", Reactor::current().after(seconds(60))))
                  .has_value();
    }
    while (go_on) {
      while (deaf && co_await sleep_for(milliseconds(1))) {
      }
      Result<std::string_view> received = std::string_view();
      if (connection.stream.is_secure()) {
        received = co_await connection.stream.receive();
      } else {
        received = co_await connection.stream.socket().receive();
      }
      if (!received || received->empty()) break;
      std::string bytes(*received);
      connection.stream.release();
      std::string_view rest = bytes;
      for (bool more = true; more && go_on;) {
        const resp::CommandParser::Step step = parser.feed(rest);
        rest.remove_prefix(step.consumed);
        switch (step.event) {
          case resp::CommandParser::Event::need_more:
            more = false;
            break;
          case resp::CommandParser::Event::error:
            go_on = false;
            break;
          case resp::CommandParser::Event::command: {
            std::vector<std::string> words(parser.command().begin(), parser.command().end());
            go_on = co_await answer(&connection, std::move(words));
            break;
          }
        }
      }
    }
    std::erase(open_, &connection);
    connection.stream.socket().abort();
    co_await connection.stream.close();
  }

  Task<bool> answer(Connection* connection, std::vector<std::string> words) {
    for (char& c : words[0]) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
    commands.push_back(words);
    if (silent) co_return true;
    if (delay > 0 && !co_await sleep_for(delay)) co_return false;
    std::string reply;
    if (!instead.empty()) {
      reply = std::exchange(instead, "");
    } else {
      reply = execute(*connection, words);
    }
    if (!drips) {
      if (!reply.empty()) connection->say(reply);
      co_return true;
    }
    for (const char c : reply) {
      connection->say({&c, 1});
      if (!co_await sleep_for(microseconds(300))) co_return false;
    }
    co_return true;
  }

  std::string execute(Connection& connection, const std::vector<std::string>& words) {
    std::string out;
    const std::string& name = words[0];
    if (name == "HELLO") return hello(connection, words);
    resp::ReplyWriter reply(out, connection.protocol);
    const auto word = [&](size_t i) { return i < words.size() ? words[i] : std::string(); };
    const bool cached = std::exchange(connection.caching, false);
    const bool asking = std::exchange(connection.asking, false);
    if (gate && name == "ASKING") {
      connection.asking = true;
      return "+OK\r\n";
    }
    if (gate) {
      if (std::string said = gate(words, asking); !said.empty()) return said;
    }
    if (name == "AUTH") {
      connection.authenticated = words.back() == password;
      connection.authenticated ? reply.ok() : reply.error("WRONGPASS invalid password");
    } else if (!password.empty() && !connection.authenticated) {
      reply.error("NOAUTH Authentication required.");
    } else if (name == "PING") {
      reply.simple("PONG");
    } else if (name == "SELECT") {
      reply.ok();
    } else if (name == "CLIENT" && word(1) == "TRACKING") {
      connection.tracking = knows_tracking && connection.protocol == resp::Protocol::resp3;
      connection.tracking ? reply.ok() : reply.error("ERR unknown subcommand 'TRACKING'");
    } else if (name == "CLIENT" && word(1) == "CACHING") {
      connection.caching = connection.tracking;
      connection.tracking
          ? reply.ok()
          : reply.error("ERR CLIENT CACHING can be called only when the client is tracking");
    } else if (name == "CLIENT") {
      reply.ok();
    } else if (name == "GET") {
      if (cached) connection.tracked.insert(word(1));
      const Value* value = find(word(1));
      if (!error.empty()) {
        reply.error(error);
      } else if (value == nullptr) {
        reply.null();
      } else {
        reply.bulk(value->bytes);
      }
    } else if (name == "PTTL") {
      const Value* value = find(word(1));
      reply.integer(value == nullptr ? -2
                    : value->expires_at == nanos_never
                        ? -1
                        : (value->expires_at - Reactor::current().now()) / milliseconds(1));
    } else if (name == "SET") {
      set(word(1), word(2));
      reply.ok();
    } else if (name == "PUBLISH") {
      reply.integer(publish(word(1), word(2)));
    } else if (name == "SUBSCRIBE" && word(1) == "forbidden") {
      reply.error("NOPERM No permissions to access a channel");
    } else if (name == "SUBSCRIBE" || name == "UNSUBSCRIBE") {
      for (size_t i = 1; i < words.size(); ++i) {
        if (name == "SUBSCRIBE") {
          connection.channels.insert(words[i]);
        } else {
          connection.channels.erase(words[i]);
        }
        tell(connection, {name == "SUBSCRIBE" ? "subscribe" : "unsubscribe", words[i]},
             connection.channels.size());
      }
    } else {
      reply.error("ERR unknown command '" + name + "'");
    }
    return out;
  }

  std::string hello(Connection& connection, const std::vector<std::string>& words) {
    std::string out;
    const auto auth = std::ranges::find(words, "AUTH");
    if (!knows_hello) return "-ERR unknown command 'HELLO'\r\n";
    if (!password.empty()) {
      if (auth == words.end())
        return "-NOAUTH HELLO must be called with the client authenticated\r\n";
      if (*(auth + 2) != password) return "-WRONGPASS invalid username-password pair\r\n";
      connection.authenticated = true;
    }
    connection.protocol = resp::Protocol::resp3;
    resp::ReplyWriter reply(out, connection.protocol);
    reply.map(2);
    reply.bulk("server");
    reply.bulk("redis");
    reply.bulk("version");
    reply.bulk("7.0.15");
    return out;
  }

  const Value* find(const std::string& key) {
    const auto found = data.find(key);
    if (found == data.end()) return nullptr;
    if (found->second.expires_at > Reactor::current().now()) return &found->second;
    return nullptr;
  }

  std::vector<Connection*> open_;
  Event stopped_;
};

}  // namespace gyre::test
