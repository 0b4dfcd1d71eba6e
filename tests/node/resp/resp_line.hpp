// A Redis client in the simulation, command by command.
#pragma once

#include <fmt/format.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <gyre/socket.hpp>
#include <gyre/time.hpp>

#include "resp/reply_parser.hpp"

namespace gyre::test {

inline constexpr uint16_t resp_port = 6379;

using CommandWords = std::vector<std::string>;

inline std::string encoded(const CommandWords& words) {
  std::string bytes = fmt::format("*{}\r\n", words.size());
  for (const std::string& word : words) bytes += fmt::format("${}\r\n{}\r\n", word.size(), word);
  return bytes;
}

class RespLine {
 public:
  explicit RespLine(Descriptor fd) : socket_(std::move(fd)) {}
  void send(std::string_view bytes) { socket_.append(bytes); }
  // One whole reply; empty: the connection has ended, or what came was none.
  Task<std::string> reply() {
    std::string whole;
    for (;;) {
      const resp::ReplyScanner::Step step = scanner_.feed(unread_);
      whole += unread_.substr(0, step.consumed);
      unread_.erase(0, step.consumed);
      if (step.event == resp::ReplyScanner::Event::reply) co_return whole;
      if (step.event == resp::ReplyScanner::Event::error) co_return std::string();
      const Result<std::string_view> more = co_await socket_.receive();
      if (!more || more->empty()) co_return std::string();
      unread_.assign(*more);
      socket_.release();
    }
  }
  Task<std::string> ask(CommandWords words) {
    send(encoded(words));
    co_return co_await reply();
  }
  Task<void> close() { co_await socket_.close(); }

 private:
  Socket socket_;
  resp::ReplyScanner scanner_;
  std::string unread_;
};

inline Task<std::optional<Descriptor>> dial(std::string host) {
  for (unsigned tries = 0; tries < 1000; ++tries) {
    Result<Descriptor> fd = co_await connect_to(host, resp_port);
    if (fd) co_return std::move(*fd);
    static_cast<void>(co_await sleep_for(milliseconds(10)));
  }
  co_return std::nullopt;
}

}  // namespace gyre::test
