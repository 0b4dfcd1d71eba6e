// One HTTP/1.1 connection: its selector reads and parses, workers execute and write.
//
// Requests of a connection are executed one after the other, each handed over by the task queue:
// when one is answered and there is a next one, the worker puts the connection into the queue
// again. So answers are in order, and a pipelined read sees the write before it.
//
// Who touches what
//   - The parser and what it has not parsed belong to the selector's thread.
//   - Everything from waiting_ on is shared, under mutex_.
//   - in_pool_: the connection lies in the queue or a worker has it. Only then may a worker touch
//     it, and then it is not destroyed; only the selector destroys, when it is not in the pool.
//
// The socket is edge-triggered for both directions, added once: no system call arms anything on the
// usual path. rearm() makes epoll report the present state again, for a worker that has something
// to say to the selector (there is room for more requests; the connection has ended).
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "executor.hpp"
#include "http/request_parser.hpp"

namespace gyre::threadpool {

class Connection;
class Pool;

using Milliseconds = uint64_t;
Milliseconds now_ms();

struct ConnectionTimes {
  Milliseconds head = 0;
  Milliseconds body = 0;
  Milliseconds idle = 0;
  Milliseconds send = 0;
};

class Connection {
 public:
  Connection(int fd, int epoll, Pool& pool, const Options& options);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // --- the selector's side: false means that the connection is over and is to be destroyed -------
  // Reads what is there, through `buffer`. `more`: there is more than one turn's worth.
  bool on_event(uint32_t events, std::span<char> buffer, bool& more);
  bool on_sweep(Milliseconds now, const ConnectionTimes& times, bool draining);
  void abort();

  // --- the workers' side --------------------------------------------------------------------------
  void work();

  int fd() const { return fd_; }

  // Of the selector's list.
  Connection* next = nullptr;
  Connection* previous = nullptr;
  bool has_more = false;  // it is to be read again before the selector sleeps

 private:
  enum class Next : uint8_t { none, task, internal_task, continuation };
  enum class Caller : uint8_t { selector, worker };
  enum class Phase : uint8_t { idle, head, body };

  void feed(std::string_view bytes);
  void begin_body(const http::RequestHead& head);
  void take_body(std::string_view piece);
  bool enqueue(std::unique_ptr<Request> request);
  void refuse(uint16_t status, std::string_view reason, uint32_t retry_after_s = 0);
  std::unique_ptr<Request> new_request();
  void note_phase();
  bool read_socket(uint32_t events, std::span<char> buffer, bool& more);

  std::unique_ptr<Request> take_first();
  void keep_for_reuse(std::unique_ptr<Request> request);
  void retire(std::unique_ptr<Request> request);
  Next advance();
  Next choose();
  void submit(Next next, Caller caller);
  Next refuse_for_overflow();
  void go_on_writing();
  void send(std::string_view bytes, std::string_view tail);
  void drop_output();
  void break_off();
  void linger();
  void rearm();
  size_t unsent() const { return output_.size() - sent_; }
  bool is_over() const;

  const int fd_;
  const int epoll_;
  Pool& pool_;

  // The selector's.
  http::RequestParser parser_;
  std::string unparsed_;                // bytes that came while too many requests waited
  std::unique_ptr<Request> receiving_;  // whose body is being read
  bool keeps_body_ = false;
  bool ended_ = false;  // what still comes is dropped
  bool eof_ = false;
  Phase phase_ = Phase::idle;
  Milliseconds phase_since_ = 0;
  uint64_t requests_seen_ = 0;
  uint64_t requests_at_phase_ = 0;

  std::mutex mutex_;
  std::vector<std::unique_ptr<Request>> waiting_;
  std::unique_ptr<Request> spare_;
  std::unique_ptr<RangeStream> stream_;
  std::string output_;
  size_t sent_ = 0;
  bool in_pool_ = false;
  bool paused_ = false;     // the selector reads no further
  bool closing_ = false;    // nothing is answered behind the output
  bool lingering_ = false;  // everything is sent; the peer may still be sending
  bool broken_ = false;
  bool no_more_input_ = false;  // eof_, for the workers
  bool continue_owed_ = false;
  Milliseconds lingering_since_ = 0;
  Milliseconds progress_at_ = 0;  // the peer took something
  Milliseconds answered_at_ = 0;
};

}  // namespace gyre::threadpool
