// What Redis means by its commands, for the simulated proxy: strings, counters, lists that are
// waited for, transactions, channels and CLIENT TRACKING, with the history of every key, and
// trouble on demand. It serves on the core where main() runs; each connection at its own pace.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <gyre/scope.hpp>
#include <gyre/socket.hpp>
#include <gyre/sync.hpp>
#include <gyre/task.hpp>

#include "resp/reply_writer.hpp"
#include "sim/prng.hpp"

namespace gyre::test {

// Errc::timed_out if nothing comes within `limit`.
Task<Result<std::string_view>> receive_for(Socket* socket, Nanos limit);

class RedisModel {
 public:
  static constexpr uint16_t port = 6379;
  using Words = std::vector<std::string>;

  // What a key held, from `at` on.
  struct State {
    std::optional<std::string> value;
    Nanos at = 0;
  };
  const std::vector<State>& history(const std::string& key);
  std::optional<std::string> get(const std::string& key) { return history(key).back().value; }
  const std::map<std::string, std::vector<State>>& all() const { return data_; }

  // --- trouble, at any time
  Nanos delay_min = 0;   // before a command is carried out
  Nanos delay_max = 0;   // as much more, at random
  bool silent = false;   // takes commands, and neither carries them out nor answers
  bool refuses = false;  // closes connections at once
  void cut();            // every connection
  std::optional<std::string>
      instead;  // all that is answered, to the next command, unless in a handshake

  // --- as another client would
  void set(const std::string& key, std::optional<std::string> value);
  // All keys that begin with `prefix`; clients hear that any key may have changed.
  void flush(const std::string& prefix);
  int64_t publish(const std::string& channel, const std::string& message);
  void push(const std::string& list, const std::string& value) { lists_[list].push_back(value); }

  uint64_t commands = 0;
  uint64_t executed = 0;  // transactions
  std::string describe() const {
    std::string text;
    for (Connection* c : open_) text += c->last + (c->socket.broken() ? "(broken)" : "") + ", ";
    return text;
  }
  size_t open_connections() const { return open_.size(); }
  // Writes of these keys belong in transactions; those that came alone.
  std::set<std::string> only_in_transactions;
  std::vector<std::string> alone;

  Task<void> main(uint64_t seed);  // until stop()
  void stop() { stopped_.set(); }

 private:
  struct Connection {
    explicit Connection(Descriptor fd) : socket(std::move(fd)) {}
    Socket socket;
    resp::Protocol protocol = resp::Protocol::resp2;
    bool tracking = false;
    bool caching = false;
    std::set<std::string> tracked;
    std::set<std::string> channels;
    std::string last;  // what was asked last
    bool in_multi = false;
    std::vector<Words> queued;
    std::set<std::string> watched;
    bool outdated = false;  // one of these has changed
  };

  Task<void> accept(Listener* listener, Scope* scope);
  Task<void> serve(Descriptor fd);
  Task<bool> answer(Connection* connection, Words words);
  Task<bool> pop(Connection* connection, std::string list);
  void execute(Connection& connection, const Words& words, resp::ReplyWriter reply);
  void transaction(Connection& connection, resp::ReplyWriter reply);
  void subscribe(Connection& connection, const Words& words);
  void changed(const std::string& key, std::optional<std::string> value);

  std::map<std::string, std::vector<State>> data_;
  std::map<std::string, std::deque<std::string>> lists_;
  std::vector<Connection*> open_;
  std::optional<sim::Prng> random_;
  bool in_transaction_ = false;
  Event stopped_;
};

}  // namespace gyre::test
