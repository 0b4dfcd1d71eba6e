// One thread of the generator: a reactor, a part of the connections, and the part of the schedule
// that belongs to them.
//
// The pacer is a timer that wakes a little before the next intended start and then watches the
// clock, because a sleep alone ends 50 to 70 microseconds late. It looks once per tick and then
// gives the CPU away: a tick with nothing to do takes about a microsecond, and answers that come
// meanwhile are dealt with as ever.
//
// A request that is due goes to the connection that has had room longest (with --pipeline a connection
// has room for that many). If none has it queues, and the next connection that is answered takes it. The queue has no memory: it is the
// part of the schedule between the next request to send and the present. What a request is (its
// operation, key, value) is drawn when it is sent. The pacer doesn't watch the clock while all
// connections are busy.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <gyre/reactor.hpp>
#include <gyre/scope.hpp>
#include <gyre/sync.hpp>

#include "load/connection.hpp"
#include "load/ledger.hpp"
#include "load/recorder.hpp"
#include "load/schedule.hpp"
#include "load/shared.hpp"
#include "load/workload.hpp"

namespace gyre::load {

class Worker {
 public:
  Worker(Shared& shared, unsigned index);
  ~Worker();

  // The whole life of the thread: connect, fill, run, wait for the last answers.
  Task<void> run();

  // --- for connections ---------------------------------------------------------------------------
  enum class Loss : uint8_t { read, write, timeout, malformed };
  void connected(Connection& connection);
  void connect_failed(Connection& connection, const Error& error);
  // The request is no longer under way.
  void answered(Connection& connection, const Request& request, Nanos sent_at, unsigned status,
                uint64_t bytes, const Finding& finding);
  // The connection is down, what it has under way is lost.
  void disconnected(Connection& connection, Loss loss);

  const Options& options() const { return options_; }
  Workload& workload() { return workload_; }
  const std::string& address(size_t target) const { return addresses_[target]; }
  bool ending() const { return phase_ == Phase::over; }

  // --- for the progress line ---------------------------------------------------------------------
  struct Glance {
    uint64_t p50_ns = 0;
    uint64_t p99_ns = 0;
  };
  const Glance& last_second() const { return glance_; }

  Recorder& recorder() { return recorder_; }

 private:
  enum class Phase : uint8_t { start, fill, pause, load, drain, over };
  enum Stage : unsigned { stage_connected, stage_filled, stage_count };
  struct Pacer : Timer {
    explicit Pacer(Worker& of);
    Worker& worker;
  };
  struct SentHook : TickHook {
    explicit SentHook(Worker& of);
    Worker& worker;
  };

  // stages
  Task<bool> resolve_targets();
  Task<bool> wait_for_all(Stage stage);
  Task<bool> connect_all();
  Task<bool> fill();
  Task<void> load();
  Task<void> drain();
  Task<void> housekeep();
  Task<void> record_hiccups();
  void count_unfinished();
  Task<void> count_queued();
  bool count_unfinished(Nanos intended);
  void lost(const Request& request, Loss loss);
  void close_second();
  void sample_rate(Nanos now);
  void look_for_timeouts(Nanos now);
  void look_for_server(Nanos now);

  // requests
  void pace() noexcept;
  bool is_due(Nanos at) const { return schedule_->next() <= at && schedule_->next() < end_; }
  uint64_t queued(Nanos at) const;
  void give_out(Nanos now);
  void start(Connection& connection, Request& request);
  void stamp_sent() noexcept;
  void has_room(Connection& connection, Nanos now);
  bool give_fill(Connection& connection, bool again);
  void record(const Request& request, unsigned status, Nanos sent_at, Nanos now);
  void end_write(const Request& request, Ledger::End end);
  void answered_fill(const Request& request, unsigned status);
  void push_idle(Connection& connection);
  void remove_idle(Connection& connection);
  void publish();
  Nanos now() { return backend_->now(); }

  Shared& shared_;
  const Options& options_;
  const unsigned index_;
  Backend* backend_ = nullptr;
  Shared::Live& live_;
  Recorder recorder_;
  Workload workload_;
  Ledger* ledger_;  // of all threads; null without --verify
  std::vector<std::string> addresses_;
  std::vector<std::unique_ptr<Connection>> connections_;
  std::vector<Connection*> just_sent_;
  Connection* idle_first_ = nullptr;
  Connection* idle_last_ = nullptr;
  size_t idle_ = 0;
  size_t connected_ = 0;
  size_t once_connected_ = 0;
  size_t busy_ = 0;
  Nanos none_idle_since_ = 0;  // nanos_never while a connection is idle
  Nanos looked_at_ = 0;        // what was due by then is sent, or all connections were busy
  Nanos none_connected_since_ = 0;
  std::string connect_error_;

  Phase phase_ = Phase::start;
  std::unique_ptr<Schedule> schedule_;  // next(): the next request to send
  Nanos counted_at_ = 0;                // what was unfinished then is
  Pacer pacer_{*this};
  SentHook sent_hook_{*this};

  uint64_t fill_next_ = 0;
  uint64_t fill_left_ = 0;
  std::vector<uint64_t> fill_again_;
  Nanos fill_progress_at_ = 0;
  unsigned fill_status_ = 0;

  Nanos measure_from_ = nanos_never;
  Nanos end_ = nanos_never;
  Nanos waited_ = 0;              // spent watching the clock
  Nanos watching_since_ = 0;      // the pacer had nothing to do in this tick
  Histogram second_{largest_ns};  // of good answers
  uint64_t second_answers_ = 0;
  uint64_t second_errors_ = 0;
  uint64_t second_service_max_ = 0;
  Nanos second_ends_ = nanos_never;
  Nanos sample_at_ = 0;
  uint64_t sample_answered_ = 0;
  Glance glance_;
};

}  // namespace gyre::load
