#include "redis_model.hpp"

#include <algorithm>
#include <string_view>
#include <utility>

#include <gyre/time.hpp>

#include "base/assert.hpp"
#include "resp/command_parser.hpp"
#include "resp/number_text.hpp"

namespace gyre::test {

namespace {

size_t words_of(std::string_view name) {
  if (name == "SET" || name == "RPUSH" || name == "PUBLISH") return 3;
  for (const std::string_view alone : {"PING", "EXEC", "DISCARD", "MULTI", "FLUSHALL", "UNWATCH"}) {
    if (name == alone) return 1;
  }
  return 2;
}

}  // namespace

Task<Result<std::string_view>> receive_for(Socket* socket, Nanos limit) {
  struct Limit : Timer {
    explicit Limit(Socket& of)
        : Timer([](Timer& self) noexcept { static_cast<Limit&>(self).socket.interrupt_receive(); }),
          socket(of) {}
    Socket& socket;
  } timer(*socket);
  Reactor& reactor = Reactor::current();
  reactor.arm(timer, reactor.after(limit));
  Result<std::string_view> bytes = co_await socket->receive();
  reactor.disarm(timer);
  co_return bytes;
}

const std::vector<RedisModel::State>& RedisModel::history(const std::string& key) {
  std::vector<State>& states = data_[key];
  if (states.empty()) states.push_back({});
  return states;
}

void RedisModel::changed(const std::string& key, std::optional<std::string> value) {
  static_cast<void>(history(key));
  data_[key].push_back({std::move(value), Reactor::current().now()});
  if (!in_transaction_ && only_in_transactions.contains(key)) alone.push_back(key);
  for (Connection* connection : open_) {
    if (connection->watched.contains(key)) connection->outdated = true;
    if (connection->tracked.erase(key) == 0) continue;
    connection->socket.append(">2\r\n$10\r\ninvalidate\r\n*1\r\n$" + std::to_string(key.size()) +
                              "\r\n" + key + "\r\n");
  }
}

void RedisModel::set(const std::string& key, std::optional<std::string> value) {
  changed(key, std::move(value));
}

void RedisModel::flush(const std::string& prefix) {
  for (auto& [key, states] : data_) {
    if (key.starts_with(prefix) && states.back().value) {
      states.push_back({std::nullopt, Reactor::current().now()});
    }
  }
  for (Connection* connection : open_) {
    if (connection->tracking) connection->socket.append(">2\r\n$10\r\ninvalidate\r\n_\r\n");
    connection->tracked.clear();
    if (!connection->watched.empty()) connection->outdated = true;
  }
}

int64_t RedisModel::publish(const std::string& channel, const std::string& message) {
  int64_t heard = 0;
  for (Connection* connection : open_) {
    if (!connection->channels.contains(channel)) continue;
    ++heard;
    resp::ReplyWriter to(connection->socket, connection->protocol);
    to.push(3);
    to.bulk("message");
    to.bulk(channel);
    to.bulk(message);
  }
  return heard;
}

void RedisModel::cut() {
  for (Connection* connection : open_) connection->socket.abort();
}

Task<void> RedisModel::main(uint64_t seed) {
  random_.emplace(seed, "redis");
  Scope scope(nullptr, "redis model");
  Listener listener;
  Result<void> opened = co_await listener.open({.address = "0.0.0.0", .port = port});
  GYRE_ASSERT(opened.has_value());
  Scope accepting(nullptr, "redis model accept");
  accepting.spawn(accept(&listener, &scope));
  static_cast<void>(co_await stopped_.wait());
  accepting.request_stop();
  co_await accepting.join();
  co_await listener.close();
  scope.request_stop();
  cut();
  co_await scope.join();
}

Task<void> RedisModel::accept(Listener* listener, Scope* scope) {
  for (;;) {
    Result<Descriptor> fd = co_await listener->accept();
    if (!fd) break;
    if (!refuses) scope->spawn(serve(std::move(*fd)));
  }
}

Task<void> RedisModel::serve(Descriptor fd) {
  Connection connection(std::move(fd));
  open_.push_back(&connection);
  resp::CommandParser parser;
  bool go_on = true;
  while (go_on) {
    Result<std::string_view> received = co_await connection.socket.receive();
    if (!received || received->empty()) break;
    const std::string bytes(*received);
    connection.socket.release();
    std::string_view rest = bytes;
    while (go_on) {
      const resp::CommandParser::Step step = parser.feed(rest);
      rest.remove_prefix(step.consumed);
      if (step.event == resp::CommandParser::Event::need_more) break;
      go_on = step.event == resp::CommandParser::Event::command;
      if (!go_on) break;
      Words words(parser.command().begin(), parser.command().end());
      go_on = co_await answer(&connection, std::move(words));
    }
  }
  std::erase(open_, &connection);
  connection.socket.abort();
  co_await connection.socket.close();
}

Task<bool> RedisModel::answer(Connection* connection, Words words) {
  for (char& c : words[0]) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  ++commands;
  connection->last = words[0];
  if (silent) co_return true;
  if (delay_min + delay_max > 0) {
    const auto delay =
        delay_min + static_cast<Nanos>(random_->below(static_cast<uint64_t>(delay_max) + 1));
    if (!co_await sleep_for(delay)) co_return false;
  }
  if (connection->socket.broken()) co_return false;
  const std::string& name = words[0];
  if (name == "HELLO") {
    connection->protocol = resp::Protocol::resp3;
    resp::ReplyWriter reply(connection->socket, connection->protocol);
    reply.map(1);
    reply.bulk("version");
    reply.bulk("7.0.15");
    co_return true;
  }
  const bool answers = name != "PING" && (name != "CLIENT" || words[1] == "CACHING");
  if (instead && answers) {
    connection->socket.append(std::exchange(*instead, ""));
    co_return true;
  }
  resp::ReplyWriter reply(connection->socket, connection->protocol);
  if (words.size() < words_of(name)) {
    reply.error("ERR wrong number of arguments for '" + name + "' command");
    co_return true;
  }
  if (name == "EXEC") {
    transaction(*connection, reply);
  } else if (name == "DISCARD") {
    connection->in_multi ? reply.ok() : reply.error("ERR DISCARD without MULTI");
    connection->in_multi = connection->outdated = false;
    connection->watched.clear();
    connection->queued.clear();
  } else if (name == "MULTI") {
    connection->in_multi ? reply.error("ERR MULTI calls can not be nested") : reply.ok();
    connection->in_multi = true;
  } else if (connection->in_multi) {
    connection->queued.push_back(std::move(words));
    reply.simple("QUEUED");
  } else if (name == "BLPOP") {
    co_return co_await pop(connection, words[1]);
  } else if (name == "SUBSCRIBE" || name == "UNSUBSCRIBE") {
    subscribe(*connection, words);
  } else {
    execute(*connection, words, reply);
  }
  co_return true;
}

// Waits until there is something, or its client has gone.
Task<bool> RedisModel::pop(Connection* connection, std::string list) {
  while (lists_[list].empty()) {
    const Result<std::string_view> end =
        co_await receive_for(&connection->socket, microseconds(200));
    if (end || end.error().code != Errc::timed_out) co_return false;
  }
  resp::ReplyWriter reply(connection->socket, connection->protocol);
  reply.array(2);
  reply.bulk(list);
  reply.bulk(lists_[list].front());
  lists_[list].pop_front();
  co_return true;
}

void RedisModel::subscribe(Connection& connection, const Words& words) {
  const bool begins = words[0] == "SUBSCRIBE";
  for (size_t i = 1; i < words.size(); ++i) {
    if (begins) {
      connection.channels.insert(words[i]);
    } else {
      connection.channels.erase(words[i]);
    }
    resp::ReplyWriter to(connection.socket, connection.protocol);
    to.push(3);
    to.bulk(begins ? "subscribe" : "unsubscribe");
    to.bulk(words[i]);
    to.integer(static_cast<int64_t>(connection.channels.size()));
  }
}

void RedisModel::transaction(Connection& connection, resp::ReplyWriter reply) {
  if (!std::exchange(connection.in_multi, false)) return reply.error("ERR EXEC without MULTI");
  const std::vector<Words> queued = std::exchange(connection.queued, {});
  connection.watched.clear();
  if (std::exchange(connection.outdated, false)) return reply.null_array();
  ++executed;
  reply.array(queued.size());
  in_transaction_ = true;
  for (const Words& words : queued) execute(connection, words, reply);
  in_transaction_ = false;
}

void RedisModel::execute(Connection& connection, const Words& words, resp::ReplyWriter reply) {
  const std::string& name = words[0];
  const auto value_of = [&](const std::string& key) {
    const auto value = get(key);
    if (value) {
      reply.bulk(*value);
    } else {
      reply.null();
    }
  };
  const bool caching = std::exchange(connection.caching, false);
  if (name == "CLIENT" && words[1] == "TRACKING") {
    connection.tracking = true;
    reply.ok();
  } else if (name == "CLIENT" && words[1] == "CACHING") {
    connection.caching = true;
    reply.ok();
  } else if (name == "CLIENT" || name == "SELECT") {
    reply.ok();
  } else if (name == "PING") {
    reply.simple("PONG");
  } else if (name == "GET") {
    if (caching) connection.tracked.insert(words[1]);
    value_of(words[1]);
  } else if (name == "MGET") {
    reply.array(words.size() - 1);
    for (size_t i = 1; i < words.size(); ++i) value_of(words[i]);
  } else if (name == "STRLEN") {
    reply.integer(static_cast<int64_t>(get(words[1]).value_or("").size()));
  } else if (name == "PTTL") {
    reply.integer(get(words[1]) ? -1 : -2);
  } else if (name == "EXISTS") {
    reply.integer(get(words[1]) ? 1 : 0);
  } else if (name == "SET") {
    changed(words[1], words[2]);
    reply.ok();
  } else if (name == "DEL") {
    const bool there = get(words[1]).has_value();
    if (there) changed(words[1], std::nullopt);
    reply.integer(there ? 1 : 0);
  } else if (name == "INCR") {
    const int64_t next = resp::parse_integer(get(words[1]).value_or("0")).value_or(0) + 1;
    changed(words[1], std::to_string(next));
    reply.integer(next);
  } else if (name == "RPUSH") {
    push(words[1], words[2]);
    reply.integer(static_cast<int64_t>(lists_[words[1]].size()));
  } else if (name == "PUBLISH") {
    reply.integer(publish(words[1], words[2]));
  } else if (name == "FLUSHALL") {
    flush("k");
    reply.ok();
  } else if (name == "WATCH") {
    connection.watched.insert(words.begin() + 1, words.end());
    reply.ok();
  } else if (name == "UNWATCH") {
    connection.watched.clear();
    connection.outdated = false;
    reply.ok();
  } else {
    reply.error("ERR unknown command '" + name + "'");
  }
}

}  // namespace gyre::test
