// A server that says what a test tells it to, when it has heard what the test expects.
#pragma once

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include <gyre/socket.hpp>
#include <gyre/task.hpp>
#include <gyre/time.hpp>

namespace gyre::test {

struct Turn {
  std::string hear;  // waits until this was received, and forgets everything up to it
  std::string say;
  Nanos pause = 0;          // between the two
  bool say_slowly = false;  // a byte at a time
};

// What happens on one connection; then the server closes it.
using Script = std::vector<Turn>;

class ScriptedServer {
 public:
  static constexpr uint16_t port = 9000;

  Task<bool> open() {
    Result<void> opened = co_await listener_.open({.address = "127.0.0.1", .port = port});
    co_return opened.has_value();
  }
  // One connection after another, each by its script.
  Task<void> serve(std::vector<Script> scripts) {
    for (Script& script : scripts) {
      Result<Descriptor> fd = co_await listener_.accept();
      if (!fd) break;
      Socket socket(std::move(*fd));
      heard_.emplace_back();
      std::string unread;
      for (Turn& turn : script) {
        if (!co_await hear(socket, unread, turn.hear)) break;
        if (turn.pause > 0) static_cast<void>(co_await sleep_for(turn.pause));
        if (turn.say_slowly) {
          for (char c : turn.say) {
            socket.append({&c, 1});
            static_cast<void>(co_await sleep_for(microseconds(200)));
          }
        } else {
          socket.append(turn.say);
        }
      }
      static_cast<void>(co_await socket.drained(0));
      co_await socket.close();
    }
    co_await listener_.close();
  }
  // All bytes of the connections so far.
  const std::vector<std::string>& heard() const { return heard_; }

 private:
  Task<bool> hear(Socket& socket, std::string& unread, std::string wanted) {
    for (;;) {
      const size_t at = unread.find(wanted);
      if (at != std::string::npos) {
        unread.erase(0, at + wanted.size());
        co_return true;
      }
      Result<std::string_view> bytes = co_await socket.receive();
      if (!bytes || bytes->empty()) co_return false;
      unread.append(*bytes);
      heard_.back().append(*bytes);
      socket.release();
    }
  }

  Listener listener_;
  std::vector<std::string> heard_;
};

}  // namespace gyre::test
