// The stages of a thread's run, and what it does beside them (worker.hpp).
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include <gyre/time.hpp>

#include "load/machine.hpp"
#include "load/worker.hpp"

namespace gyre::load {

namespace {

constexpr Nanos chores_interval = milliseconds(20);
constexpr Nanos rate_interval = milliseconds(100);
constexpr Nanos hiccup_interval = milliseconds(1);
constexpr uint64_t count_slice = 1u << 20;
constexpr Nanos start_delay = milliseconds(20);  // until all threads know when the run starts
constexpr Nanos server_lost_after = seconds(1);
constexpr Nanos fill_patience = seconds(10);
constexpr Nanos fill_retry_interval = milliseconds(5);

}  // namespace

// --- the stages of a run -------------------------------------------------------------------------

Task<void> Worker::run() {
  backend_ = &Reactor::current().backend();
  Scope talking(nullptr, "connections");
  Scope chores(nullptr, "chores");
  bool going = co_await resolve_targets();
  if (going) {
    for (unsigned i = index_; i < options_.connections; i += options_.threads) {
      connections_.push_back(
          std::make_unique<Connection>(*this, i % options_.targets.size(), ledger_));
      talking.spawn(connections_.back()->run());
    }
    just_sent_.reserve(connections_.size());
    none_idle_since_ = now();
    chores.spawn(housekeep());
    going = co_await connect_all();
  }
  going = co_await wait_for_all(stage_connected) && going;
  if (going && options_.fill > 0) {
    going = co_await fill();
    going = co_await wait_for_all(stage_filled) && going;
  }
  if (going && options_.runs()) {
    chores.spawn(record_hiccups());
    co_await load();
    co_await drain();
  }
  phase_ = Phase::over;
  Reactor::current().disarm(pacer_);
  publish();
  chores.request_stop();
  talking.request_stop();
  co_await chores.join();
  co_await talking.join();
  co_await count_queued();
}

Task<bool> Worker::resolve_targets() {
  for (const Target& target : options_.targets) {
    Result<std::vector<std::string>> addresses = co_await resolve(target.endpoint.host);
    if (!addresses) {
      shared_.stop(Stop::failed,
                   fmt::format("the name {} can't be resolved ({}). Check the URL {}",
                               target.endpoint.host, addresses.error().message(), target.url));
      co_return false;
    }
    addresses_.push_back(addresses->front());
  }
  co_return true;
}

Task<bool> Worker::wait_for_all(Stage stage) {
  shared_.arrived[stage].fetch_add(1);
  while (shared_.arrived[stage].load() < options_.threads && !shared_.is_stopped()) {
    static_cast<void>(co_await sleep_for(milliseconds(1)));
  }
  co_return !shared_.is_stopped();
}

Task<bool> Worker::connect_all() {
  // Not all at the same time: a server may close those that are idle.
  while (once_connected_ < connections_.size() && !shared_.is_stopped()) {
    static_cast<void>(co_await sleep_for(milliseconds(1)));
  }
  phase_ = Phase::pause;
  co_return !shared_.is_stopped();
}

Task<bool> Worker::fill() {
  phase_ = Phase::fill;
  fill_next_ = index_;
  fill_left_ = options_.fill > index_ ? (options_.fill - index_ - 1) / options_.threads + 1 : 0;
  fill_progress_at_ = now();
  while (fill_left_ > 0 && !shared_.is_stopped()) {
    // What failed is tried again from here only: that is its pause.
    while (idle_first_ != nullptr) {
      Connection& connection = *idle_first_;
      remove_idle(connection);
      const bool gave = give_fill(connection, true);
      if (connection.has_room()) push_idle(connection);
      if (!gave) break;
    }
    if (now() - fill_progress_at_ > fill_patience) {
      shared_.stop(
          Stop::failed,
          fmt::format("filling made no progress for 10 s; {}. Look at the server's log, or fill "
                      "with fewer --connections",
                      fill_status_ != 0 ? fmt::format("the last answer was {}", fill_status_)
                                        : std::string("nothing was answered")));
    }
    static_cast<void>(co_await sleep_for(fill_retry_interval));
  }
  phase_ = Phase::pause;
  co_return !shared_.is_stopped();
}

Task<void> Worker::load() {
  if (index_ == 0) shared_.start_at.store(now() + start_delay);
  while (shared_.start_at.load() == 0) {
    if (shared_.is_stopped()) co_return;
    static_cast<void>(co_await sleep_for(milliseconds(1)));
  }
  const Nanos start_at = shared_.start_at.load();
  const Profile& profile = options_.profile;
  measure_from_ = start_at + profile.warmup;
  end_ = measure_from_ + profile.duration;
  second_ends_ = measure_from_ + seconds(1);
  schedule_ = std::make_unique<Schedule>(profile, start_at, index_, options_.threads);
  if (options_.closed) {
    static_cast<void>(co_await sleep_until(start_at));
    phase_ = Phase::load;
    while (idle_first_ != nullptr) {
      Connection& connection = *idle_first_;
      remove_idle(connection);
      has_room(connection, now());
    }
  } else {
    phase_ = Phase::load;
    Reactor::current().arm(pacer_, now());
  }
  const Nanos cpu_before = thread_cpu();
  const Nanos delay_before = thread_run_delay();
  const Nanos waited_before = waited_;
  while (now() < end_ && !shared_.is_stopped()) {
    static_cast<void>(co_await sleep_until(std::min(end_, now() + chores_interval)));
  }
  const Nanos ended = now();
  end_ = std::min(end_, ended);
  const auto elapsed = static_cast<double>(std::max<Nanos>(1, ended - start_at));
  const auto cpu = static_cast<double>(thread_cpu() - cpu_before);
  const auto waited = static_cast<double>(waited_ - waited_before);
  recorder_.cpu_share = cpu / elapsed;
  recorder_.busy_share_max = std::max(0.0, cpu - waited) / elapsed;
  recorder_.starved_share_max = static_cast<double>(thread_run_delay() - delay_before) / elapsed;
}

Task<void> Worker::drain() {
  phase_ = Phase::drain;
  if (schedule_ == nullptr) co_return;  // stopped before it began
  if (!options_.closed) {
    give_out(now());
  }
  const Nanos until = now() + options_.drain;
  while ((busy_ > 0 || is_due(end_)) && now() < until && !shared_.is_stopped()) {
    static_cast<void>(co_await sleep_for(milliseconds(1)));
  }
  count_unfinished();
  if (second_answers_ > 0) close_second();
}

bool Worker::count_unfinished(Nanos intended) {
  if (intended < measure_from_) return false;
  const Nanos age = std::max<Nanos>(0, counted_at_ - intended);
  recorder_.incomplete.record(static_cast<uint64_t>(age));
  recorder_.unfinished_oldest = std::max(recorder_.unfinished_oldest, age);
  return true;
}

void Worker::count_unfinished() {
  counted_at_ = now();
  for (const auto& connection : connections_) {
    for (size_t i = 0; i < connection->count_under_way(); ++i) {
      if (count_unfinished(connection->under_way(i).request.intended)) ++recorder_.unfinished_sent;
    }
  }
}

// What was due and never sent. In slices, as it may be many millions and somebody may lose patience.
Task<void> Worker::count_queued() {
  if (counted_at_ == 0) co_return;
  for (uint64_t i = 1; is_due(end_); ++i) {
    if (count_unfinished(schedule_->next())) ++recorder_.unfinished_queued;
    schedule_->advance();
    if (i % count_slice == 0 && !co_await sleep_for(1)) co_return;
  }
}

// --- chores --------------------------------------------------------------------------------------

Task<void> Worker::housekeep() {
  for (;;) {
    if (!co_await sleep_for(chores_interval)) co_return;
    const Nanos at = now();
    while (at >= second_ends_) close_second();
    sample_rate(at);
    look_for_timeouts(at);
    look_for_server(at);
    publish();
  }
}

uint64_t Worker::queued(Nanos at) const {
  if (schedule_ == nullptr || phase_ == Phase::over) return 0;
  return schedule_->due_by(std::min(at, end_ - 1));
}

void Worker::publish() {
  live_.answered.store(recorder_.answered, std::memory_order_relaxed);
  live_.errors.store(recorder_.errors.unanswered() + recorder_.errors.status +
                         recorder_.errors.wrong - recorder_.errors.not_found,
                     std::memory_order_relaxed);
  live_.in_flight.store(busy_, std::memory_order_relaxed);
  live_.queued.store(queued(now()), std::memory_order_relaxed);
  live_.connected.store(connected_, std::memory_order_relaxed);
}

void Worker::sample_rate(Nanos at) {
  if (at < measure_from_ || at > end_) return;
  if (sample_at_ == 0) {
    sample_at_ = at;
    sample_answered_ = recorder_.answered;
  } else if (at - sample_at_ >= rate_interval) {
    recorder_.rate_samples.push_back((recorder_.answered - sample_answered_) * 1'000'000'000 /
                                     static_cast<uint64_t>(at - sample_at_));
    sample_at_ = at;
    sample_answered_ = recorder_.answered;
  }
}

void Worker::close_second() {
  Second second{.answers = second_answers_,
                .errors = second_errors_,
                .service_max = std::exchange(second_service_max_, 0),
                .latencies = {}};
  second_.each(
      [&](uint64_t value, uint64_t count) { second.latencies.emplace_back(value, count); });
  glance_ = {second_.at_percentile(50), second_.at_percentile(99)};
  recorder_.seconds.push_back(std::move(second));
  second_.clear();
  second_answers_ = 0;
  second_errors_ = 0;
  second_ends_ += seconds(1);
}

void Worker::look_for_timeouts(Nanos at) {
  if (busy_ == 0) return;
  for (const auto& connection : connections_) {
    if (connection->count_under_way() == 0) continue;
    const Nanos sent_at = connection->under_way(0).sent_at;
    if (sent_at > 0 && at - sent_at > options_.timeout) connection->time_out();
  }
}

void Worker::look_for_server(Nanos at) {
  if (connected_ > 0 || phase_ == Phase::start || connect_error_.empty()) return;
  if (options_.keep_going && phase_ != Phase::fill) return;
  if (at - none_connected_since_ < server_lost_after) return;
  for (unsigned i = 0; i < options_.threads; ++i) {
    if (shared_.live[i].connected.load(std::memory_order_relaxed) > 0) return;
  }
  const double ran = static_cast<double>(none_connected_since_ - measure_from_) / 1e9;
  shared_.stop(
      Stop::server_lost,
      fmt::format(
          "the server went away{}: {}. See why it ended; --keep-going goes on and connects "
          "again",
          phase_ == Phase::load && ran > 0 ? fmt::format(" {:.1f} s into the run", ran) : "",
          connect_error_));
}

// The noise of the machine and of this thread: how much later than asked a sleep ends.
Task<void> Worker::record_hiccups() {
  for (;;) {
    const Nanos until = now() + hiccup_interval;
    if (!co_await sleep_until(until)) co_return;
    const Nanos after = now();
    if (after >= measure_from_ && phase_ == Phase::load) {
      recorder_.hiccups.record(static_cast<uint64_t>(std::max<Nanos>(0, after - until)));
    }
  }
}

}  // namespace gyre::load
