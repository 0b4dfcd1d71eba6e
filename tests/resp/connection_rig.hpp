// A server whose commands take as long as a test says, and a client that says what it likes, on one
// simulated machine.
#pragma once

#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <gyre/scope.hpp>
#include <gyre/socket.hpp>
#include <gyre/time.hpp>

#include "../store/sim_rig.hpp"
#include "base/hash.hpp"
#include "resp/connection.hpp"
#include "resp/number_text.hpp"
#include "resp/reply_parser.hpp"

namespace gyre::test {

inline constexpr uint16_t resp_port = 6390;

// PING; BIG n (n bytes at once); AUTH; QUIT; PROTO n; MODE on|off|skip; and what takes ms:
// READ key ms, WRITE key ms, RENAME a b ms (reads and writes both), ALL ms, HOLD ms, STREAM n ms.
// EVER 0 ends with the reading, or when the test says so; it touches everything.
class SlowHandler final : public resp::Handler {
 public:
  class Slow final : public resp::Exchange {
   public:
    Slow(resp::Connection& connection, SlowHandler& handler, resp::Command command)
        : Exchange(connection), handler_(handler) {
      for (const std::string_view word : command)
        name_ += (name_.empty() ? "" : " ") + std::string(word);
      ms_ = resp::parse_integer(command.back()).value_or(0);
      for (size_t i = 1; i + 1 < command.size(); ++i) hashes_.push_back(hash64(command[i]));
      const bool renames = command[0] == "RENAME";
      if (command[0] == "READ") touches(hashes_, true, false);
      if (command[0] == "WRITE") touches(hashes_, false, true);
      if (renames) touches(hashes_, true, true);
      if (command[0] == "ALL") touches_everything();
      if (command[0] == "HOLD") holds_what_follows();
      if (command[0] == "EVER") {
        touches_everything();
        may_wait_for_ever();
      }
      if (command[0] == "STREAM") {
        is_stream = true;
        bytes_ = static_cast<uint64_t>(*resp::parse_integer(command[1]));
      }
    }
    void begin() override {
      handler_.log.push_back("begin " + name_);
      connection().scope().spawn(work());
    }
    void detach() override { handler_.log.push_back("detach " + name_); }
    void respond(resp::ReplyWriter& to) override {
      if (is_stream) return to.begin_bulk(bytes_);
      if (name_.starts_with("READ none")) return to.null();
      to.bulk(name_);
    }
    Task<bool> stream(resp::Connection& to) override {
      const std::string piece(1000, 's');
      for (uint64_t left = bytes_; left != 0;) {
        const size_t size = static_cast<size_t>(std::min<uint64_t>(left, piece.size()));
        to.socket().append(std::string_view(piece).substr(0, size));
        left -= size;
        if (!co_await to.socket().drained(4000)) co_return false;
      }
      to.socket().append("\r\n");
      co_return true;
    }

   private:
    Task<void> work() {
      if (ms_ > 0) static_cast<void>(co_await sleep_for(milliseconds(ms_)));
      if (name_ == "EVER 0") static_cast<void>(co_await handler_.ever.wait());
      handler_.log.push_back("end " + name_);
      connection().finished(*this);
    }
    SlowHandler& handler_;
    std::string name_;
    std::vector<uint64_t> hashes_;
    int64_t ms_ = 0;
    uint64_t bytes_ = 0;
  };

  resp::Exchange* start(resp::Connection& connection, resp::Command command) override {
    const std::string_view name = command[0];
    if (!connection.authenticated() && name != "AUTH") {
      connection.out().error("NOAUTH Authentication required.");
      return nullptr;
    }
    if (name == "PING") {
      connection.out().simple("PONG");
    } else if (name == "AUTH") {
      connection.set_authenticated(true);
      connection.out().ok();
    } else if (name == "BIG") {
      connection.out().bulk(
          std::string(static_cast<size_t>(*resp::parse_integer(command[1])), 'b'));
    } else if (name == "QUIT") {
      connection.out().ok();
      connection.close_after_answer();
    } else if (name == "PROTO") {
      connection.set_protocol(command[1] == "3" ? resp::Protocol::resp3 : resp::Protocol::resp2);
      connection.out().null();
    } else if (name == "MODE") {
      connection.set_reply_mode(command[1] == "off"  ? resp::ReplyMode::off
                                : command[1] == "on" ? resp::ReplyMode::on
                                                     : resp::ReplyMode::skip_next);
      connection.out().ok();
    } else if (name == "READ" && command.back() == "0" && connection.may_read(hash64(command[1]))) {
      connection.out().bulk("at once");
    } else {
      return new Slow(connection, *this, command);
    }
    return nullptr;
  }
  void batch_ended(resp::Connection&) noexcept override { log.push_back("batch"); }
  void keys_expected(resp::Connection&, std::span<const std::string_view> keys) noexcept override {
    keys_expected_at_once.emplace_back(keys.begin(), keys.end());
  }
  void foreigner_cut_off(resp::Connection&, std::string_view what) noexcept override {
    foreigners.emplace_back(what);
  }
  void connection_closed(resp::Connection& connection) noexcept override {
    std::erase(connections, &connection);
    ++closed;
  }
  bool unparsed_bytes_changed(size_t before, size_t after) noexcept override {
    if (after > before && unparsed_bytes + after - before > unparsed_bytes_max) return false;
    unparsed_bytes += after - before;
    unparsed_bytes_most = std::max(unparsed_bytes_most, unparsed_bytes);
    return true;
  }
  Task<bool> unparsed_bytes_wanted(size_t) override {
    static_cast<void>(co_await sleep_for(seconds(1)));
    co_return true;
  }

  std::vector<std::string> log;
  std::vector<std::vector<std::string>> keys_expected_at_once;
  Event ever;
  std::vector<std::string> foreigners;
  std::vector<resp::Connection*> connections;
  int closed = 0;
  size_t unparsed_bytes = 0;
  size_t unparsed_bytes_most = 0;
  size_t unparsed_bytes_max = 64u << 20;
};

class RespServer {
 public:
  class Served final : public resp::Connection {
   public:
    Served(int fd, SlowHandler& handler, const resp::ConnectionLimits& limits, bool authenticated)
        : Connection(fd, handler, limits, authenticated), handler_(handler) {}
    void reading_ended() noexcept override { handler_.ever.set(); }

   private:
    SlowHandler& handler_;
  };

  Task<bool> open() {
    co_return (co_await listener_.open({.address = "127.0.0.1", .port = resp_port})).has_value();
  }
  Task<void> serve(bool authenticated) {
    Scope scope(nullptr, "connections");
    for (;;) {
      Result<Descriptor> fd = co_await listener_.accept();
      if (!fd) break;
      auto connection = std::make_unique<Served>(fd->release(), handler, limits, authenticated);
      handler.connections.push_back(connection.get());
      scope.spawn(serve_one(std::move(connection)));
    }
    co_await scope.join();
  }
  Task<void> close() { co_await listener_.close(); }

  SlowHandler handler;
  resp::ConnectionLimits limits;

 private:
  static Task<void> serve_one(std::unique_ptr<Served> connection) { co_await connection->run(); }
  Listener listener_;
};

class RespTalker {
 public:
  Task<bool> connect() {
    Result<Descriptor> fd = co_await connect_to("127.0.0.1", resp_port);
    if (!fd) co_return false;
    socket_ = std::make_unique<Socket>(std::move(*fd));
    co_return true;
  }
  void say(std::string_view bytes) { socket_->append(bytes); }
  // A byte at a time.
  Task<void> say_slowly(std::string bytes, Nanos pause) {
    for (const char c : bytes) {
      say({&c, 1});
      static_cast<void>(co_await sleep_for(pause));
    }
  }
  // The next so many replies, as their bytes; "" once the connection has ended.
  Task<std::string> hear(int replies = 1) {
    std::string out;
    while (replies > 0) {
      const resp::ReplyScanner::Step step = scanner_.feed(unread_);
      out += unread_.substr(0, step.consumed);
      unread_.erase(0, step.consumed);
      if (step.event == resp::ReplyScanner::Event::reply) {
        --replies;
        continue;
      }
      Result<std::string_view> bytes = co_await socket_->receive();
      if (!bytes || bytes->empty()) co_return out;
      unread_.append(*bytes);
      socket_->release();
    }
    co_return out;
  }
  // Until the connection ends; what came before that.
  Task<std::string> hear_the_end() {
    std::string out = std::exchange(unread_, {});
    for (;;) {
      Result<std::string_view> bytes = co_await socket_->receive();
      if (!bytes || bytes->empty()) co_return out;
      out.append(*bytes);
      socket_->release();
    }
  }
  Task<void> close() { co_await socket_->close(); }
  Socket& socket() { return *socket_; }

 private:
  std::unique_ptr<Socket> socket_;
  resp::ReplyScanner scanner_;
  std::string unread_;
};

// Runs `talk` against a server, in several schedules.
inline void with_resp_server(Task<void> (*talk)(RespServer&, RespTalker&),
                             void (*configure)(RespServer&) = nullptr, bool authenticated = true) {
  struct Play {
    static Task<void> run(Task<void> (*talk)(RespServer&, RespTalker&),
                          void (*configure)(RespServer&), bool authenticated) {
      RespServer server;
      if (configure != nullptr) configure(server);
      REQUIRE_OR_RETURN(co_await server.open());
      Scope scope(nullptr, "server");
      scope.spawn(server.serve(authenticated));
      {
        RespTalker talker;
        REQUIRE_OR_RETURN(co_await talker.connect());
        co_await talk(server, talker);
        co_await talker.close();
      }
      for (resp::Connection* connection : server.handler.connections) connection->drain();
      co_await server.close();
      co_await scope.join();
      CHECK(server.handler.unparsed_bytes == 0);
      CHECK(server.limits.exchanges_under_way == 0);
      CHECK(server.handler.connections.empty());
    }
  };
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    CAPTURE(seed);
    SimRig rig(seed);
    rig.run(Play::run(talk, configure, authenticated));
  }
}

}  // namespace gyre::test
