#include <fmt/format.h>

#include <algorithm>
#include <string>

#include <gyre/reactor.hpp>
#include <gyre/scope.hpp>

#include "base/assert.hpp"
#include "runtime/receive_parking.hpp"

namespace gyre {

namespace {

thread_local Reactor* current_reactor = nullptr;

// Makes a reactor current while its tick runs; in the simulation many share one thread.
class CurrentGuard {
 public:
  explicit CurrentGuard(Reactor& reactor) : previous_(std::exchange(current_reactor, &reactor)) {}
  ~CurrentGuard() { current_reactor = previous_; }
  CurrentGuard(const CurrentGuard&) = delete;
  CurrentGuard& operator=(const CurrentGuard&) = delete;

 private:
  Reactor* previous_;
};

// So many pieces of work, or messages from one core, before messages move again. Sent once per
// tick, two cores that ask each other took turns: one served everything that was ready while the
// other slept (ARCHITECTURE, Measured).
constexpr size_t message_batch = 16;

void resume_task(Runnable& item) noexcept {
  item.task->self.resume();
}

}  // namespace

void PromiseBase::schedule() noexcept {
  resume_runnable.run = &resume_task;
  resume_runnable.task = this;
  Reactor::current().schedule(resume_runnable);
}

Timer::~Timer() {
  if (armed()) Reactor::current().disarm(*this);
}

TickHook::~TickHook() {
  if (queued) Reactor::current().cancel_hook(*this);
}

Reactor::Reactor(Backend& backend, ReactorOptions options, Fabric* fabric)
    : backend_(backend),
      options_(options),
      fabric_(fabric),
      receive_parking_(std::make_unique<ReceiveParking>()) {
  if (fabric_ != nullptr) outboxes_.resize(fabric_->cores());
  timers_.reserve(64);
  now_ = backend_.now();
}

Reactor::~Reactor() {
  CurrentGuard current(*this);
  main_scope_.reset();
  GYRE_ASSERT(foreground_.empty() && background_.empty());
  GYRE_ASSERT(scopes_ == nullptr);
}

Reactor& Reactor::current() noexcept {
  GYRE_ASSERT(current_reactor != nullptr);
  return *current_reactor;
}
Reactor* Reactor::current_or_null() noexcept {
  return current_reactor;
}

namespace {
Task<void> run_main(Task<void> main, bool& ended) {
  co_await std::move(main);
  ended = true;
}
}  // namespace

void Reactor::start(Task<void> main) {
  CurrentGuard current(*this);
  main_ended_ = false;
  main_scope_ = std::make_unique<Scope>(nullptr, "main");
  main_scope_->spawn(run_main(std::move(main), main_ended_));
}

void Reactor::run(Task<void> main) {
  start(std::move(main));
  while (tick()) {
  }
}

bool Reactor::tick() {
  if (main_scope_ == nullptr) return false;
  CurrentGuard current(*this);
  ++stats_.ticks;
  now_ = backend_.now();
  wall_us_ = 0;
  last_check_ = now_;
  deliver_messages();
  backend_.reap();
  fire_timers();
  check_stall("messages, completions, timers");
  run_foreground();
  const bool entered = run_background();
  run_hooks();
  check_stall("end of the tick");
  stats_.busy += last_check_ - now_;
  if (finished()) {
    main_scope_.reset();
    backend_.enter(0);
    return false;
  }
  // Whoever entered before has not looked at what that brought.
  backend_.enter(entered ? 0 : time_to_sleep());
  return true;
}

// One batch from each core; what it made leaves at once. Returns the size of the largest.
size_t Reactor::take_messages() {
  size_t largest = 0;
  for (unsigned from = 0; from < fabric_->cores(); ++from) {
    Message* batch[message_batch];
    const size_t count = fabric_->ring(from, options_.core).pop(batch);
    // Each lies in the other core's cache: let the misses overlap. A receiver writes its answer.
    for (size_t i = 0; i < count; ++i) {
      __builtin_prefetch(batch[i], 1);
      __builtin_prefetch(reinterpret_cast<const char*>(batch[i]) + 64, 1);
    }
    for (size_t i = 0; i < count; ++i) batch[i]->deliver(*batch[i], *this);
    stats_.messages_received += count;
    largest = std::max(largest, count);
  }
  return largest;
}

// Ends even if others send as fast as this core takes.
void Reactor::deliver_messages() {
  if (fabric_ == nullptr) return;
  for (size_t taken = 0; taken < MessageRing::capacity; taken += message_batch) {
    if (take_messages() < message_batch) return;
    flush_outboxes();
  }
}

// Nothing is left to do, also not for another core that waits for an answer.
bool Reactor::finished() const {
  if (!main_ended_ || main_scope_->size() != 0 || operations_in_flight() != 0) return false;
  if (!foreground_.empty() || !background_.empty()) return false;
  for (const Outbox& outbox : outboxes_) {
    if (!outbox.empty()) return false;
  }
  return fabric_ == nullptr || fabric_->inbox_empty(options_.core);
}

void Reactor::schedule(Runnable& item) noexcept {
  GYRE_ASSERT(!item.queued);
  item.queued = true;
  if (item.background && background_.empty() && !in_background_) {
    background_waits_since_ = std::max(now_, last_check_);
  }
  (item.background ? background_ : foreground_).push(item);
}

void Reactor::run_one(Runnable& item) {
  item.queued = false;
  ++stats_.runnables;
  // The frame may be gone after it ran: remember where it was resumed.
  const std::source_location where =
      item.task != nullptr ? item.task->where : std::source_location::current();
  item.run(item);
  const Nanos after = backend_.now();
  if (after - last_check_ > options_.stall_report) report_stall(after - last_check_, where);
  last_check_ = after;
}

void Reactor::check_stall(const char* part) {
  const Nanos after = backend_.now();
  if (after - last_check_ > options_.stall_report) report_stall(after - last_check_, part);
  last_check_ = after;
}

void Reactor::run_foreground() {
  slice_end_ = last_check_ + options_.foreground_slice;
  if (!background_.empty()) {
    slice_end_ = std::min(slice_end_, background_waits_since_ + background_patience());
  }
  in_background_ = false;
  for (unsigned pieces = 1; !foreground_.empty(); ++pieces) {
    run_one(foreground_.pop());
    if (last_check_ >= slice_end_) break;
    if (fabric_ == nullptr || pieces % message_batch != 0) continue;
    take_messages();
    flush_outboxes();
  }
}

// How long foreground work may go on without a background slice: as long as the slice takes up its
// share.
Nanos Reactor::background_patience() const {
  const unsigned permille = std::min(background_permille_, BackgroundShare::permille_max);
  if (permille == 0) return options_.background_wait_max;
  return std::min(options_.background_wait_max,
                  options_.background_slice_overdue * (1000 - permille) / permille);
}

// The completion of a synced write passes through kernel threads on the CPU that takes the disk's
// interrupt, which may be any core's. A core that is busy in user space starves them: measured, a
// commit beside background work on every core took 4 ms at the median, with slices of 50 us that
// end in a yield as long as on an idle machine (perf/log_latency; DESIGN D2). So every slice is
// short, whether or not this core has a log write in flight.
bool Reactor::run_background() {
  if (background_.empty()) return false;
  background_overdue_ = last_check_ - background_waits_since_ >= background_patience();
  if (!foreground_.empty() && !background_overdue_) return false;
  // Answers and commits that the foreground made must not wait for the slice.
  run_hooks();
  backend_.enter(0);
  check_stall("sends and commits");
  slice_end_ = last_check_ + (background_overdue_ ? options_.background_slice_overdue
                                                  : options_.background_slice);
  in_background_ = true;
  ++stats_.background_slices;
  do {
    run_one(background_.pop());
  } while (!background_.empty() && (foreground_.empty() || background_overdue_) &&
           last_check_ < slice_end_);
  in_background_ = false;
  background_overdue_ = false;
  background_waits_since_ = last_check_;
  if (foreground_.empty()) backend_.yield_cpu();
  return true;
}

bool Reactor::need_preempt() {
  // Overdue work has its slice to itself: on a busy core something else is always ready.
  if (in_background_ && background_overdue_) return backend_.now() >= slice_end_;
  if (backend_.completions_pending()) return true;
  if (in_background_ && !foreground_.empty()) return true;
  if (fabric_ != nullptr && !fabric_->inbox_empty(options_.core)) return true;
  return backend_.now() >= slice_end_;
}

void Reactor::run_hooks() {
  while (hooks_ != nullptr) {
    TickHook& hook = *hooks_;
    hooks_ = hook.next;
    hook.queued = false;
    hook.flush(hook);
  }
  flush_outboxes();
}

void Reactor::flush_outboxes() {
  for (unsigned to = 0; to < outboxes_.size(); ++to) {
    if (!outboxes_[to].empty() && outboxes_[to].flush(fabric_->ring(options_.core, to))) {
      backend_.wake(to);
    }
  }
}

void Reactor::at_tick_end(TickHook& hook) noexcept {
  if (hook.queued) return;
  hook.queued = true;
  hook.next = hooks_;
  hooks_ = &hook;
}

void Reactor::cancel_hook(TickHook& hook) noexcept {
  for (TickHook** link = &hooks_; *link != nullptr; link = &(*link)->next) {
    if (*link == &hook) {
      *link = hook.next;
      hook.queued = false;
      return;
    }
  }
}

void Reactor::send(unsigned core, Message& message) {
  GYRE_ASSERT(core < outboxes_.size());  // none without a fabric
  message.from = options_.core;
  outboxes_[core].push(message);
}

Nanos Reactor::time_to_sleep() const {
  if (!foreground_.empty() || !background_.empty() || hooks_ != nullptr) return 0;
  if (fabric_ != nullptr && !fabric_->inbox_empty(options_.core)) return 0;
  for (const Outbox& outbox : outboxes_) {
    if (!outbox.empty()) return 0;  // a full ring: look again as soon as the other core drained it
  }
  if (timers_.empty() || timers_.front().deadline == nanos_never) return nanos_never;
  return std::max<Nanos>(0, timers_.front().deadline - last_check_);
}

// --- timers: 4-ary heap ------------------------------------------------------------------------

void Reactor::arm(Timer& timer, Nanos deadline) {
  disarm(timer);
  timer.deadline = deadline;
  timers_.push_back({deadline, &timer});
  timer.heap_index = static_cast<uint32_t>(timers_.size() - 1);
  sift_up(timer.heap_index);
}

void Reactor::disarm(Timer& timer) noexcept {
  if (!timer.armed()) return;
  const uint32_t hole = timer.heap_index;
  timer.heap_index = Timer::unarmed;
  const HeapEntry last = timers_.back();
  timers_.pop_back();
  if (hole == timers_.size()) return;
  timers_[hole] = last;
  last.timer->heap_index = hole;
  sift_up(hole);
  sift_down(last.timer->heap_index);
}

void Reactor::fire_timers() {
  while (!timers_.empty() && timers_.front().deadline <= now_) {
    Timer& timer = *timers_.front().timer;
    disarm(timer);
    ++stats_.timers_fired;
    timer.fire(timer);
  }
}

void Reactor::sift_up(uint32_t index) {
  const HeapEntry moving = timers_[index];
  while (index > 0) {
    const uint32_t parent = (index - 1) / 4;
    if (timers_[parent].deadline <= moving.deadline) break;
    timers_[index] = timers_[parent];
    timers_[index].timer->heap_index = index;
    index = parent;
  }
  timers_[index] = moving;
  moving.timer->heap_index = index;
}

void Reactor::sift_down(uint32_t index) {
  const HeapEntry moving = timers_[index];
  const auto size = static_cast<uint32_t>(timers_.size());
  for (;;) {
    const uint32_t first = index * 4 + 1;
    if (first >= size) break;
    uint32_t least = first;
    for (uint32_t child = first + 1; child < std::min(first + 4, size); ++child) {
      if (timers_[child].deadline < timers_[least].deadline) least = child;
    }
    if (moving.deadline <= timers_[least].deadline) break;
    timers_[index] = timers_[least];
    timers_[index].timer->heap_index = index;
    index = least;
  }
  timers_[index] = moving;
  moving.timer->heap_index = index;
}

// --- diagnosis -----------------------------------------------------------------------------------

void Reactor::report_stall(Nanos took, const std::source_location& where) {
  if (!note_stall(took)) return;
  log("warn",
      fmt::format("stall_ms={:.1f} task=\"{}\" resumed_at={}:{}", static_cast<double>(took) / 1e6,
                  where.function_name(), where.file_name(), where.line()));
}

void Reactor::report_stall(Nanos took, const char* part) {
  if (!note_stall(took)) return;
  log("warn", fmt::format("stall_ms={:.1f} in=\"{}\"", static_cast<double>(took) / 1e6, part));
}

// True if it is to be logged. All are counted, but a machine that is overloaded as a whole stalls
// everywhere: a few lines a second say so.
bool Reactor::note_stall(Nanos took) {
  ++stats_.stalls;
  stats_.stall_longest = std::max(stats_.stall_longest, took);
  if (now_ >= stall_log_refill_) {
    stall_log_refill_ = now_ + seconds(1);
    stall_log_left_ = stall_logs_per_second_max;
  }
  if (stall_log_left_ == 0) return false;
  --stall_log_left_;
  return true;
}

void Reactor::log(std::string_view level, std::string_view text) {
  backend_.log(fmt::format("level={} core={} {}", level, options_.core, text));
}

std::string Reactor::dump_tasks() const {
  std::string out;
  for (const Scope* scope = scopes_; scope != nullptr; scope = scope->next_scope_) {
    out += fmt::format("scope {} ({} tasks)\n", scope->name_, scope->size_);
    for (const PromiseBase* root = scope->children_; root != nullptr; root = root->scope_next) {
      unsigned depth = 1;
      for (const PromiseBase* task = root; task != nullptr; task = task->awaiting, ++depth) {
        out += fmt::format("{:{}}{} at {}:{}{}\n", "", depth * 2, task->where.function_name(),
                           task->where.file_name(), task->where.line(),
                           task->resume_runnable.queued ? " (ready)" : "");
      }
    }
  }
  return out;
}

}  // namespace gyre
