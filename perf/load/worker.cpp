#include "load/worker.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include <gyre/time.hpp>

#include "load/machine.hpp"

namespace gyre::load {

namespace {

// A timed sleep in the kernel ends 50 to 70 us late: from here on the pacer watches the clock.
constexpr Nanos watch_before = microseconds(150);
// A tick of watching that takes longer was somebody else's time on this CPU.
constexpr Nanos watch_tick_max = microseconds(5);

// recorder.hpp
bool is_good(const Request& request, unsigned status, unsigned expected) {
  return status < 400 || status == expected ||
         (status == 404 && request.operation == Operation::get);
}

// By the contract what 503 or 4xx answers was not done; what 500 answers may have been.
Ledger::End end_of_write(unsigned status) {
  if (status < 300) return Ledger::End::acknowledged;
  const bool refused = status == 503 || status / 100 == 4;
  return refused ? Ledger::End::refused : Ledger::End::unknown;
}

}  // namespace

Worker::Pacer::Pacer(Worker& of)
    : Timer([](Timer& self) noexcept { static_cast<Pacer&>(self).worker.pace(); }), worker(of) {}

Worker::SentHook::SentHook(Worker& of)
    : TickHook([](TickHook& self) noexcept { static_cast<SentHook&>(self).worker.stamp_sent(); }),
      worker(of) {}

Worker::Worker(Shared& shared, unsigned index)
    : shared_(shared),
      options_(shared.options),
      index_(index),
      live_(shared.live[index]),
      workload_(shared.options, index, shared.newest),
      ledger_(shared.ledger ? &*shared.ledger : nullptr) {
  const Options& options = shared.options;
  unsigned operations = 0;
  for (uint32_t weight : options.weights) operations += weight > 0 ? 1 : 0;
  for (size_t i = 0; i < operation_count && operations > 1; ++i) {
    if (options.weights[i] > 0) {
      recorder_.by_operation[i] = std::make_unique<Histogram>(largest_ns);
    }
  }
  recorder_.rate_samples.reserve(1024);
}

Worker::~Worker() = default;

// --- when requests start -----------------------------------------------------------------------

void Worker::pace() noexcept {
  if (phase_ != Phase::load) return;
  Reactor& reactor = Reactor::current();
  const Nanos at = now();
  if (watching_since_ != 0) {
    waited_ += std::min(at - std::exchange(watching_since_, 0), watch_tick_max);
  }
  give_out(at);
  if (idle_ == 0) return;  // armed again by the next connection that is free
  const Nanos next = schedule_->next();
  if (next >= end_) return;
  if (just_sent_.empty() && next - at > watch_before) {
    reactor.arm(pacer_, next - watch_before);
    return;
  }
  // The next look is in the next tick, which hands over what there is and fetches what has come.
  reactor.arm(pacer_, at + 1);
  if (!just_sent_.empty()) return;
  backend_->yield_cpu();
  watching_since_ = at;
}

void Worker::give_out(Nanos at) {
  looked_at_ = at;
  while (is_due(at) && idle_first_ != nullptr) {
    Connection& connection = *idle_first_;
    remove_idle(connection);
    has_room(connection, at);
  }
}

// It isn't listed as idle.
void Worker::has_room(Connection& connection, Nanos at) {
  if (!connection.has_room()) return;
  if (phase_ == Phase::fill) {
    while (connection.has_room() && give_fill(connection, false)) {
    }
  } else if (options_.closed) {
    while (phase_ == Phase::load && at < end_ && connection.has_room()) {
      Request request;
      request.intended = at;
      workload_.choose(request);
      start(connection, request);
    }
  } else if (phase_ == Phase::load || phase_ == Phase::drain) {
    looked_at_ = at;
    if (is_due(at)) {
      Request request;
      request.intended = schedule_->next();
      schedule_->advance();
      // It was late by our fault until there was no idle connection any more.
      const Nanos lag = std::max<Nanos>(0, std::min(at, none_idle_since_) - request.intended);
      request.queue_wait = at - request.intended - lag;
      workload_.choose(request);
      start(connection, request);
    }
    const bool goes_on = connection.has_room() && phase_ == Phase::load;
    if (goes_on && !pacer_.armed()) Reactor::current().arm(pacer_, at + 1);
  }
  if (connection.has_room()) push_idle(connection);
}

bool Worker::give_fill(Connection& connection, bool again) {
  Request request;
  if (again && !fill_again_.empty()) {
    workload_.choose_fill(request, fill_again_.back());
    fill_again_.pop_back();
  } else if (fill_next_ < options_.fill) {
    workload_.choose_fill(request, fill_next_);
    fill_next_ += options_.threads;
  } else {
    return false;
  }
  request.intended = now();
  start(connection, request);
  return true;
}

void Worker::start(Connection& connection, Request& request) {
  request.measured = !request.filling && request.intended >= measure_from_;
  if (request.measured) ++recorder_.sent;
  if (ledger_ != nullptr) {
    if (request.operation == Operation::put || request.operation == Operation::remove) {
      request.sent = ledger_->write_sent(request.key, request.operation == Operation::remove);
    } else if (request.operation == Operation::get) {
      request.barrier = ledger_->barrier(request.key);
    }
  }
  ++busy_;
  // Before the socket's own hook, so that it runs after it: as late as a look at the clock can be.
  if (just_sent_.empty()) Reactor::current().at_tick_end(sent_hook_);
  if (!std::exchange(connection.to_stamp, true)) just_sent_.push_back(&connection);
  connection.send(request);
}

void Worker::stamp_sent() noexcept {
  const Nanos at = now();
  for (Connection* connection : just_sent_) connection->stamp_sent(at);
  just_sent_.clear();
}

// --- what becomes of them ------------------------------------------------------------------------

void Worker::answered(Connection& connection, const Request& request, Nanos sent_at,
                      unsigned status, uint64_t bytes, const Finding& finding) {
  if (phase_ == Phase::over) return;  // it counts as unfinished
  const Nanos at = now();
  watching_since_ = 0;  // this tick was work
  --busy_;
  end_write(request, end_of_write(status));
  if (request.filling) {
    answered_fill(request, status);
  } else {
    if (request.measured) {
      recorder_.bytes_read += bytes;
      ++recorder_.statuses[std::min<size_t>(status, recorder_.statuses.size() - 1)];
      if (status > 399 && status != options_.expected) ++recorder_.errors.status;
      if (status == 404 && request.operation == Operation::get) ++recorder_.errors.not_found;
      if (!is_good(request, status, options_.expected)) ++second_errors_;
    }
    if (finding.checked) ++recorder_.verified;
    if (!finding.wrong.empty()) {
      ++recorder_.errors.wrong;
      ++second_errors_;
      if (recorder_.examples.size() < examples_max) recorder_.examples.push_back(finding.wrong);
    }
    record(request, status, sent_at, at);
  }
  if (connection.has_room() && !connection.listed_idle) has_room(connection, at);
}

void Worker::record(const Request& request, unsigned status, Nanos sent_at, Nanos at) {
  const auto nanos = [](Nanos span) { return static_cast<uint64_t>(std::max<Nanos>(0, span)); };
  const uint64_t latency = nanos(at - request.intended);
  if (!request.measured) return recorder_.warmup.record(latency);
  ++recorder_.answered;
  recorder_.last_answer = at;
  while (at >= second_ends_) close_second();
  ++second_answers_;
  if (!is_good(request, status, options_.expected)) {
    recorder_.failed.record(latency);
    recorder_.failed_service.record(nanos(at - sent_at));
    return;
  }
  const uint64_t service = nanos(at - sent_at);
  recorder_.latency.record(latency);
  recorder_.service.record(service);
  recorder_.queue_wait.record(nanos(request.queue_wait));
  recorder_.send_lag.record(nanos(sent_at - request.intended - request.queue_wait));
  const auto& own = recorder_.by_operation[static_cast<size_t>(request.operation)];
  if (own != nullptr) own->record(latency);
  second_.record(latency);
  second_service_max_ = std::max(second_service_max_, service);
}

void Worker::end_write(const Request& request, Ledger::End end) {
  if (ledger_ == nullptr) return;
  if (request.operation != Operation::put && request.operation != Operation::remove) return;
  ledger_->write_ended(request.key, request.sent, end);
}

void Worker::answered_fill(const Request& request, unsigned status) {
  if (status < 300) {
    --fill_left_;
    fill_progress_at_ = now();
    shared_.filled.fetch_add(1, std::memory_order_relaxed);
  } else if (status == 429 || status / 100 == 5) {
    fill_status_ = status;
    fill_again_.push_back(request.key);
  } else {
    shared_.stop(
        Stop::failed,
        fmt::format("filling failed: PUT of key {} was answered {}. Does the URL lead to a "
                    "key-value service that takes such values?",
                    request.key, status));
  }
}

void Worker::connected(Connection& connection) {
  ++connected_;
  if (!std::exchange(connection.was_connected, true)) ++once_connected_;
  has_room(connection, now());
}

void Worker::connect_failed(Connection& connection, const Error& error) {
  const Target& target = options_.targets[connection.target()];
  connect_error_ = fmt::format("no connection to {} ({})", target.url, error.message());
  if (none_connected_since_ == 0) none_connected_since_ = now();
  if (phase_ == Phase::load) ++recorder_.errors.connect;
  if (phase_ == Phase::start) {
    shared_.stop(Stop::failed,
                 connect_error_ + ". Is the server running, and is this its address and port?");
  }
}

void Worker::disconnected(Connection& connection, Loss loss) {
  --connected_;
  if (connected_ == 0) none_connected_since_ = now();
  if (connection.listed_idle) remove_idle(connection);
  if (phase_ == Phase::over) return;
  if (phase_ == Phase::load) ++recorder_.reconnects;
  for (size_t i = 0; i < connection.count_under_way(); ++i) {
    lost(connection.under_way(i).request, loss);
  }
}

void Worker::lost(const Request& request, Loss loss) {
  --busy_;
  end_write(request, Ledger::End::unknown);
  if (request.filling) {
    fill_again_.push_back(request.key);
    return;
  }
  if (!request.measured) return;
  recorder_.incomplete.record(static_cast<uint64_t>(std::max<Nanos>(0, now() - request.intended)));
  ++second_errors_;
  Errors& errors = recorder_.errors;
  ++(loss == Loss::timeout     ? errors.timeout
     : loss == Loss::malformed ? errors.malformed
     : loss == Loss::write     ? errors.write
                               : errors.read);
}

// --- idle connections, the one that has been idle longest first ----------------------------------

void Worker::push_idle(Connection& connection) {
  connection.listed_idle = true;
  connection.next_idle = nullptr;
  connection.previous_idle = idle_last_;
  (idle_last_ != nullptr ? idle_last_->next_idle : idle_first_) = &connection;
  idle_last_ = &connection;
  ++idle_;
  none_idle_since_ = nanos_never;
}

void Worker::remove_idle(Connection& connection) {
  connection.listed_idle = false;
  (connection.previous_idle != nullptr ? connection.previous_idle->next_idle : idle_first_) =
      connection.next_idle;
  (connection.next_idle != nullptr ? connection.next_idle->previous_idle : idle_last_) =
      connection.previous_idle;
  if (--idle_ == 0) none_idle_since_ = looked_at_;
}

}  // namespace gyre::load
