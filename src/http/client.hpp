// A connection to an HTTP/1.1 server, for the command line and for tests: requests go out as they
// are written, answers are read in the same order, and both sides may stream at the same time.
//
//   http::Client client({"127.0.0.1", 8080}, seconds(10));
//   if (auto connected = co_await client.connect(); !connected) …
//   client.send_request("PUT", "/v0/entity?id=k", "value");   // as often as wanted: pipelining
//   if (auto answer = co_await client.answer(); !answer) …    // client.status(), client.field()
//   for (;;) { auto piece = co_await client.body(); if (!piece || piece->ends) break; … }
//   co_await client.close();                                  // always, before it is destroyed
//
// Views that `body` hands out are valid until the next call; a caller that waits for anything else
// in between calls release() first, so that the core's receive buffers come back.
//
// The timeout counts time without progress: connecting, waiting for bytes of an answer, waiting
// for the server to take bytes. It does not run while a streamed body is still being written,
// since then the server may be waiting for us. A client that timed out is of no use any more:
// every call answers Errc::timed_out until it is closed and connected again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <gyre/reactor.hpp>
#include <gyre/result.hpp>
#include <gyre/socket.hpp>
#include <gyre/task.hpp>

#include "http/response_parser.hpp"

namespace gyre::http {

struct Endpoint {
  std::string host;  // a name or a numeric address, without brackets
  uint16_t port = 80;

  // "127.0.0.1:8080", "[::1]:8080": what the Host field says.
  std::string authority() const;
};
// "http://HOST[:PORT]" with an optional slash behind it.
Result<Endpoint> parse_endpoint(std::string_view url);

// For a value in a query: everything but unreserved characters becomes %XX.
std::string percent_encode(std::string_view text);

class Client {
 public:
  Client(Endpoint endpoint, Nanos timeout);
  ~Client();  // asserts that it was closed
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // Tries every address of the host in turn. A closed client may connect again.
  Task<Result<void>> connect();
  Task<void> close();
  bool connected() const { return socket_ != nullptr; }

  // --- requests: appended to the output queue, which drained() bounds ----------------------------
  // A field that every request from now on carries: "Name: value".
  void set_field(std::string_view line);
  // A request whose body, if it has one, is all there. The target is encoded already.
  void send_request(std::string_view method, std::string_view target,
                    std::optional<std::string_view> body = {});
  // A request with a chunked body; then send_chunk as often as wanted, then end_body.
  void begin_request(std::string_view method, std::string_view target);
  void send_chunk(std::string_view bytes);
  void end_body();
  // Gives the connection up: whatever waits for it ends, and a body begun stays unfinished.
  void abandon();
  // Waits until at most `bytes` of what was written have not been sent.
  Task<Result<void>> drained(size_t bytes);
  size_t output_bytes() const { return socket_ == nullptr ? 0 : socket_->output_bytes(); }

  // --- answers -----------------------------------------------------------------------------------
  // How many requests have no complete answer yet.
  size_t outstanding() const { return answers_head_.size(); }
  // The head of the next final answer. The rest of the one before must have been read.
  Task<Result<void>> answer();
  uint16_t status() const { return parser_.status(); }
  std::string_view reason() const { return parser_.reason(); }
  std::string_view field(std::string_view lower_name) const { return parser_.field(lower_name); }

  struct Piece {
    std::string_view bytes;
    bool chunk_ends = false;  // the last piece of its chunk
    bool ends = false;        // the body is complete; no bytes come with it
  };
  Task<Result<Piece>> body();
  // The whole body, of which at most `size_bytes_max` are kept.
  Task<Result<std::string>> text(size_t size_bytes_max);
  // True if `answer` or `body` probably need not wait.
  bool readable() const { return !rest_.empty() || (socket_ && socket_->receive_ready()); }
  void release();
  // After a complete answer: the connection can take another request.
  bool reusable() const { return socket_ && !timed_out_ && parser_.keep_alive(); }

 private:
  // Runs while something waits for the server; progress in either direction starts it anew.
  struct Patience : Timer {
    explicit Patience(Client& of);
    Client& client;
    uint64_t progress_seen = 0;
  };

  static Task<Result<Descriptor>> connect_any(Endpoint endpoint);
  void write_head(std::string_view method, std::string_view target, std::string_view framing);
  Task<Result<void>> fill();
  Result<void> take_end();
  void watch();
  uint64_t progress() const { return socket_->bytes_sent() + socket_->bytes_received(); }
  Error broken(std::string detail) const;

  Endpoint endpoint_;
  std::string authority_;
  std::string fields_;  // that every request has, each behind a line end
  Nanos timeout_;
  std::unique_ptr<Socket> socket_;
  ResponseParser parser_;
  std::string_view rest_;  // received and not parsed yet: in the socket's buffer, or in kept_
  std::string kept_;
  std::deque<bool> answers_head_;  // per outstanding request: is it a HEAD
  Patience patience_{*this};
  bool timed_out_ = false;
  bool writing_body_ = false;
  bool receiving_ = false;
  bool draining_ = false;
  bool head_read_ = false;
  bool ends_ = false;  // the stream ended, and the body with it
};

}  // namespace gyre::http
