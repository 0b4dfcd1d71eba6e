// One connection of the generator: connects, sends the request it is given, reads its answer, and
// connects again when the connection broke. One request at a time.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include <gyre/socket.hpp>
#include <gyre/task.hpp>

#include "http/response_parser.hpp"
#include "load/checker.hpp"
#include "load/workload.hpp"
#include "resp/reply_parser.hpp"

namespace gyre::load {

class Worker;

class Connection {
 public:
  enum class State : uint8_t { down, idle, busy };

  Connection(Worker& worker, size_t target, Ledger* ledger);

  // Until the task is stopped.
  Task<void> run();
  // Only when idle. The bytes leave at the end of the tick.
  void send(const Request& request);
  // The answer is not worth waiting for any more.
  void time_out();

  State state() const { return state_; }
  const Request& request() const { return request_; }
  size_t target() const { return target_; }

  // The worker's: when the request was handed to the kernel, 0 while it still waits for that.
  Nanos sent_at = 0;
  bool was_connected = false;
  // The worker's list of idle connections.
  Connection* next_idle = nullptr;
  Connection* previous_idle = nullptr;
  bool listed_idle = false;

 private:
  Task<Result<Descriptor>> connect();
  Task<void> talk();
  // False when the connection is of no more use.
  bool take(std::string_view bytes);
  bool take_reply(std::string_view bytes);
  void answered(unsigned status, bool keep_alive);

  Worker& worker_;
  size_t target_;
  std::unique_ptr<Socket> socket_;
  http::ResponseParser parser_;
  resp::ReplyScanner scanner_;  // of a Redis server
  std::string reply_;           // as far as it has come
  std::unique_ptr<Checker> checker_;
  Request request_;
  State state_ = State::down;
  bool timed_out_ = false;
  bool malformed_ = false;
  bool useful_ = false;  // something was answered since it was made
  uint64_t bytes_ = 0;   // of the present answer
};

}  // namespace gyre::load
