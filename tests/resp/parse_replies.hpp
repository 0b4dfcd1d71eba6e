// Runs the reply scanner over a stream that is cut into pieces, and says what came out in a form
// that can be compared.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "resp/reply_parser.hpp"

namespace gyre::test {

struct ScannedReplies {
  std::vector<std::string> replies;  // their bytes
  std::vector<resp::ReplyType> types;
  std::string error;
  bool idle = true;

  friend bool operator==(const ScannedReplies&, const ScannedReplies&) = default;
};

// Each piece is fed as a copy of exactly its size, which is gone when the next one is fed.
inline ScannedReplies scan_replies(std::string_view bytes, size_t piece_bytes,
                                   const resp::ReplyLimits& limits = {}) {
  using Event = resp::ReplyScanner::Event;
  resp::ReplyScanner scanner(limits);
  ScannedReplies out;
  std::string reply;
  while (out.error.empty() && !bytes.empty()) {
    const size_t size_bytes = std::min(piece_bytes, bytes.size());
    const auto exact = std::make_unique<char[]>(size_bytes);
    std::copy_n(bytes.data(), size_bytes, exact.get());
    std::string_view piece(exact.get(), size_bytes);
    bytes.remove_prefix(size_bytes);
    for (bool more = true; more;) {
      const resp::ReplyScanner::Step step = scanner.feed(piece);
      reply.append(piece.substr(0, step.consumed));
      piece.remove_prefix(step.consumed);
      switch (step.event) {
        case Event::need_more:
          if (!piece.empty()) out.error = "broken: wants more, but left bytes";
          more = false;
          break;
        case Event::reply:
          if (scanner.reply_bytes() != reply.size()) out.error = "broken: counts wrong";
          out.replies.push_back(std::move(reply));
          out.types.push_back(scanner.type());
          reply.clear();
          break;
        case Event::error:
          out.error = scanner.error();
          if (scanner.feed("+OK\r\n").event != Event::error) out.error = "broken: went on";
          more = false;
          break;
      }
    }
  }
  out.idle = scanner.idle();
  return out;
}

}  // namespace gyre::test
