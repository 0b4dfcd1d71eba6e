// One connection of the generator: connects, sends the request it is given, reads its answer, and
// connects again when the connection broke. Up to --pipeline requests at a time, answered in order.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

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
  struct UnderWay {
    Request request;
    Nanos sent_at = 0;  // handed to the kernel; 0 while it still waits for that
  };

  Connection(Worker& worker, size_t target, Ledger* ledger);

  // Until the task is stopped.
  Task<void> run();
  // Only with room. The bytes leave at the end of the tick.
  void send(const Request& request);
  // The answer is not worth waiting for any more.
  void time_out();

  bool has_room() const { return up_ && count_ < ring_.size(); }
  // What isn't answered yet, oldest first; after a loss, what was lost.
  size_t count_under_way() const { return count_; }
  UnderWay& under_way(size_t index) { return ring_[(first_ + index) % ring_.size()]; }
  // What was sent since the last call was handed over now.
  void stamp_sent(Nanos at);
  size_t target() const { return target_; }

  // The worker's.
  bool was_connected = false;
  bool to_stamp = false;
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
  void expect_answer();

  Worker& worker_;
  size_t target_;
  std::unique_ptr<Socket> socket_;
  http::ResponseParser parser_;
  resp::ReplyScanner scanner_;  // of a Redis server
  std::string reply_;           // as far as it has come
  std::unique_ptr<Checker> checker_;
  std::vector<UnderWay> ring_;
  size_t first_ = 0;
  size_t count_ = 0;
  bool up_ = false;  // takes requests
  bool timed_out_ = false;
  bool malformed_ = false;
  bool useful_ = false;  // something was answered since it was made
  uint64_t bytes_ = 0;   // of the present answer
};

}  // namespace gyre::load
