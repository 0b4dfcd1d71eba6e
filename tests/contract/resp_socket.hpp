// A blocking client of the Redis protocol that shows the bytes of replies, and a node that serves it.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "http_client.hpp"
#include "node_process.hpp"
#include "resp/reply_parser.hpp"

namespace gyre::test {

// What the ready line says about --resp.
inline uint16_t resp_port_of(const NodeProcess& node) {
  const std::string line = node.ready_line();
  const size_t at = line.find(" resp=");
  if (at == std::string::npos) return 0;
  const size_t end = line.find(' ', at + 1);
  const std::string address = line.substr(at + 6, end - at - 6);
  return static_cast<uint16_t>(std::stoi(address.substr(address.rfind(':') + 1)));
}

inline std::string command_bytes(const std::vector<std::string>& words) {
  std::string bytes = "*" + std::to_string(words.size()) + "\r\n";
  for (const std::string& word : words) {
    bytes += "$" + std::to_string(word.size()) + "\r\n" + word + "\r\n";
  }
  return bytes;
}

inline std::string bulk(std::string_view bytes) {
  return "$" + std::to_string(bytes.size()) + "\r\n" + std::string(bytes) + "\r\n";
}

class RespSocket {
 public:
  explicit RespSocket(uint16_t port) : socket_(port) {}
  explicit RespSocket(const NodeProcess& node) : RespSocket(resp_port_of(node)) {}

  // One reply, as its bytes; "" at the end of the connection.
  std::string ask(const std::vector<std::string>& words) {
    say(command_bytes(words));
    return hear();
  }
  void say(std::string_view bytes) { socket_.send(bytes); }
  std::string hear() {
    std::string reply;
    for (;;) {
      const resp::ReplyScanner::Step step = scanner_.feed(std::string_view(unread_).substr(at_));
      reply += unread_.substr(at_, step.consumed);
      at_ += step.consumed;
      if (step.event == resp::ReplyScanner::Event::reply) return reply;
      if (step.event == resp::ReplyScanner::Event::error) {
        throw std::runtime_error("not a reply: " + unread_.substr(at_));
      }
      unread_ = socket_.read_some();
      at_ = 0;
      if (unread_.empty()) return reply;
    }
  }
  // Everything up to the end of the connection.
  std::string hear_the_end() {
    const std::string rest = std::exchange(unread_, {}).substr(std::exchange(at_, 0));
    return rest + socket_.read_to_end();
  }
  HttpClient& raw() { return socket_; }

 private:
  HttpClient socket_;
  resp::ReplyScanner scanner_;
  std::string unread_;
  size_t at_ = 0;
};

}  // namespace gyre::test
