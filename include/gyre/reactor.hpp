// The event loop of one core. Everything that runs on a core runs inside Reactor::tick:
//
//   1. deliver messages from other cores, then completions (they only make work ready)
//   2. fire due timers
//   3. run ready foreground work, for at most `foreground_slice`; messages to and from other cores
//      move between the pieces, so that cores which ask each other work at the same time
//   4. run background work (flush, compaction, scrub) for a short slice that ends in a yield of
//      the CPU, after what foreground work made has left; and only if no foreground work is ready,
//      or no background work had a turn for `background_wait_max`: a core that is never idle must
//      still flush its memtables (for less if somebody holds a BackgroundShare: that foreground
//      work will soon wait for it). Such overdue work gets a longer slice
//   5. tick hooks: coalesced sends, the group commit, messages to other cores
//   6. one enter: submit everything, and sleep until the next timer if nothing is ready
//
// Single-threaded: all members belong to the reactor's thread, except the mailboxes.
#pragma once

#include <cstdint>
#include <memory>
#include <source_location>
#include <string>
#include <vector>

#include <gyre/backend.hpp>
#include <gyre/mailbox.hpp>
#include <gyre/task.hpp>

namespace gyre {

// FIFO of Runnables, intrusive.
class RunQueue {
 public:
  bool empty() const { return head_ == nullptr; }
  void push(Runnable& item) {
    item.next = nullptr;
    if (tail_ != nullptr) {
      tail_->next = &item;
    } else {
      head_ = &item;
    }
    tail_ = &item;
  }
  Runnable& pop() {
    Runnable& item = *head_;
    head_ = item.next;
    if (head_ == nullptr) tail_ = nullptr;
    return item;
  }

 private:
  Runnable* head_ = nullptr;
  Runnable* tail_ = nullptr;
};

// Runs `fire` once at or after `deadline`. Intrusive; disarmed by its destructor.
struct Timer {
  using Fire = void (*)(Timer& self) noexcept;
  explicit Timer(Fire fire_handler) : fire(fire_handler) {}
  ~Timer();
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;
  bool armed() const { return heap_index != unarmed; }

  static constexpr uint32_t unarmed = UINT32_MAX;
  Fire fire;
  Nanos deadline = 0;
  uint32_t heap_index = unarmed;
};

// Work to do once at the end of the tick. Intrusive; queued at most once.
struct TickHook {
  using Flush = void (*)(TickHook& self) noexcept;
  explicit TickHook(Flush flush_handler) : flush(flush_handler) {}
  TickHook(const TickHook&) = delete;
  TickHook& operator=(const TickHook&) = delete;
  ~TickHook();

  Flush flush;
  TickHook* next = nullptr;
  bool queued = false;
};

struct ReactorOptions {
  unsigned core = 0;
  Nanos foreground_slice = microseconds(500);
  Nanos background_slice = microseconds(50);
  Nanos background_slice_overdue = microseconds(250);
  Nanos background_wait_max = milliseconds(10);
  Nanos stall_report = milliseconds(10);  // work that held the core longer is named in the log
};

struct ReactorStats {
  uint64_t ticks = 0;
  uint64_t runnables = 0;
  uint64_t background_slices = 0;
  uint64_t timers_fired = 0;
  uint64_t stalls = 0;
  Nanos stall_longest = 0;
  uint64_t messages_received = 0;
  Nanos busy = 0;  // inside ticks, without sleeping
};

class ReceiveParking;

class Reactor {
 public:
  Reactor(Backend& backend, ReactorOptions options, Fabric* fabric = nullptr);
  ~Reactor();
  Reactor(const Reactor&) = delete;
  Reactor& operator=(const Reactor&) = delete;

  // The reactor whose tick is running on this thread.
  static Reactor& current() noexcept;
  static Reactor* current_or_null() noexcept;

  // Runs ticks until `main` has ended. One call per reactor at a time.
  void run(Task<void> main);
  // Starts `main` without running it; `tick` then makes progress and returns false once main has
  // ended, every service task with it, and nothing is in flight. For the simulation, which
  // interleaves many reactors on one thread.
  void start(Task<void> main);
  bool tick();

  unsigned core() const { return options_.core; }
  Backend& backend() { return backend_; }
  const ReactorStats& stats() const { return stats_; }
  // Operations in flight; zero when everything has ended.
  uint64_t operations_in_flight() const {
    return backend_.stats().submitted - backend_.stats().completed;
  }

  // Time of this tick: taken once per tick, good enough for deadlines.
  Nanos now() const { return now_; }
  // `duration` from now; nanos_never stays never.
  Nanos after(Nanos duration) const {
    return duration < nanos_never - now_ ? now_ + duration : nanos_never;
  }
  // Microseconds since 1970, of this tick as well; may step in either direction.
  uint64_t wall_us() {
    if (wall_us_ == 0) wall_us_ = backend_.wall_us();
    return wall_us_;
  }
  uint64_t wall_ms() { return wall_us() / 1000; }
  uint64_t random() { return backend_.random(); }

  void schedule(Runnable& item) noexcept;
  void submit(Op& op) { backend_.submit(op); }
  void cancel(Op& op) {
    if (op.in_flight && !op.cancel_requested) {
      op.cancel_requested = true;
      backend_.cancel(op);
    }
  }
  void arm(Timer& timer, Nanos deadline);
  void disarm(Timer& timer) noexcept;
  void at_tick_end(TickHook& hook) noexcept;
  void cancel_hook(TickHook& hook) noexcept;

  // True when long work should give the core back (co_await maybe_yield() asks it).
  bool need_preempt();

  // Background work is running at this moment.
  bool in_background() const { return in_background_; }

  // Messages leave after the running piece of work: a few pieces later, or at the end of the tick.
  // Delivery order per pair is kept.
  void send(unsigned core, Message& message);

  // Writes "LEVEL core=N text"; bounded, never blocks.
  void log(std::string_view level, std::string_view text);

  // A text picture of every root task and what it waits for.
  std::string dump_tasks() const;

  // Tasks started by other cores' messages live here; joined before the reactor ends.
  Scope& service_scope() { return *main_scope_; }

  // Where this core's sockets wait for provided buffers.
  ReceiveParking& receive_parking() { return *receive_parking_; }

  // Descriptors held by File and Socket objects of this core.
  int64_t descriptors_open = 0;

 private:
  friend class BackgroundShare;
  friend class Scope;
  friend struct PromiseBase;
  friend std::coroutine_handle<> detail::finish_root(PromiseBase&) noexcept;

  size_t take_messages();
  void deliver_messages();
  void flush_outboxes();
  bool finished() const;
  void run_one(Runnable& item);
  void run_foreground();
  bool run_background();
  Nanos background_patience() const;
  void fire_timers();
  void run_hooks();
  void check_stall(const char* part);
  void report_stall(Nanos took, const std::source_location& where);
  void report_stall(Nanos took, const char* part);
  bool note_stall(Nanos took);
  Nanos time_to_sleep() const;
  void sift_up(uint32_t index);
  void sift_down(uint32_t index);

  struct HeapEntry {
    Nanos deadline;
    Timer* timer;
  };

  Backend& backend_;
  ReactorOptions options_;
  Fabric* fabric_;
  std::vector<Outbox> outboxes_;
  RunQueue foreground_;
  RunQueue background_;
  std::vector<HeapEntry> timers_;  // 4-ary heap
  TickHook* hooks_ = nullptr;
  Nanos now_ = 0;
  uint64_t wall_us_ = 0;  // of this tick; 0: nobody has asked yet
  Nanos slice_end_ = 0;
  Nanos last_check_ = 0;
  bool in_background_ = false;
  bool background_overdue_ = false;
  Nanos background_waits_since_ = 0;
  unsigned background_permille_ = 0;  // the sum of all BackgroundShares
  static constexpr unsigned stall_logs_per_second_max = 3;
  Nanos stall_log_refill_ = 0;
  unsigned stall_log_left_ = 0;
  Scope* scopes_ = nullptr;
  std::unique_ptr<Scope> main_scope_;
  bool main_ended_ = false;
  std::unique_ptr<ReceiveParking> receive_parking_;
  ReactorStats stats_;
};

// A claim of background work on a core that is never idle, in thousandths of its time; it is held
// as long as the object lives, and claims add up. What nobody claims is one slice in
// `background_wait_max`, about 2 %; more than `permille_max` in all is never given.
class BackgroundShare {
 public:
  static constexpr unsigned permille_max = 750;

  explicit BackgroundShare(Reactor& reactor) : reactor_(reactor) {}
  ~BackgroundShare() { set(0); }
  BackgroundShare(const BackgroundShare&) = delete;
  BackgroundShare& operator=(const BackgroundShare&) = delete;

  void set(unsigned permille) {
    reactor_.background_permille_ += permille - permille_;
    permille_ = permille;
  }
  unsigned permille() const { return permille_; }

 private:
  Reactor& reactor_;
  unsigned permille_ = 0;
};

}  // namespace gyre
