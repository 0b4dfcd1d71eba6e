#include "load/session.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <vector>

#include <gyre/io.hpp>
#include <gyre/reactor.hpp>
#include <gyre/scope.hpp>
#include <gyre/signals.hpp>
#include <gyre/time.hpp>

#include "load/worker.hpp"
#include "runtime/uring/cores.hpp"
#include "runtime/uring/node.hpp"
#include "runtime/uring/probe.hpp"
#include "runtime/uring/terminal.hpp"

namespace gyre::load {

namespace {

constexpr int error_fd = 2;
constexpr uint64_t no_position = UINT64_MAX;
constexpr Nanos progress_interval = milliseconds(250);
constexpr uint64_t descriptors_beside = 64;  // rings, files, terminals

// The first signal ends the run with a report, the second one at once.
Task<void> heed_signals(Signals* signals, Shared* shared) {
  const Result<int> first = co_await signals->next();
  if (!first) {
    if (first.error().code != Errc::cancelled) shared->stop(Stop::failed, first.error().message());
    co_return;
  }
  shared->stop(*first == SIGINT ? Stop::sigint : Stop::sigterm,
               "interrupted; the figures are about the part that ran");
  if (const Result<int> second = co_await signals->next()) uring::exit_now(128 + *second);
}

Task<void> write_error(std::string text) {
  static_cast<void>(co_await IoCount({.code = OpCode::write,
                                      .fd = error_fd,
                                      .len = static_cast<uint32_t>(text.size()),
                                      .offset = no_position,
                                      .data = text.data()}));
}

std::string progress_line(const Shared& shared, const Worker& first, Nanos at, uint64_t rate) {
  const Options& options = shared.options;
  const Nanos start = shared.start_at.load();
  if (start == 0) {
    const uint64_t filled = shared.filled.load();
    if (filled == 0) return "connecting";
    return fmt::format("filling {} of {} keys ({:.0f} %)", filled, options.fill,
                       100 * static_cast<double>(filled) / static_cast<double>(options.fill));
  }
  uint64_t errors = 0;
  uint64_t in_flight = 0;
  uint64_t queued = 0;
  for (unsigned i = 0; i < options.threads; ++i) {
    errors += shared.live[i].errors.load(std::memory_order_relaxed);
    in_flight += shared.live[i].in_flight.load(std::memory_order_relaxed);
    queued += shared.live[i].queued.load(std::memory_order_relaxed);
  }
  const auto ran = static_cast<double>(at - start - options.profile.warmup) / 1e9;
  const auto whole = static_cast<double>(options.profile.duration) / 1e9;
  if (ran < 0) return fmt::format("warming up, {:.1f} s left", -ran);
  return fmt::format(
      "{:.1f} of {:g} s  {}/s  p50 {:.3f} ms  p99 {:.3f} ms  in flight {}  queued {}  errors {}",
      std::min(ran, whole), whole, rate, static_cast<double>(first.last_second().p50_ns) / 1e6,
      static_cast<double>(first.last_second().p99_ns) / 1e6, in_flight, queued, errors);
}

Task<void> show_progress(Shared* shared, Worker* first) {
  uint64_t before = 0;
  Backend& backend = Reactor::current().backend();
  Nanos before_at = backend.now();
  for (;;) {
    if (!co_await sleep_for(progress_interval)) co_return;
    const size_t columns = uring::terminal_columns(error_fd);
    if (columns == 0) continue;
    uint64_t answered = 0;
    for (unsigned i = 0; i < shared->options.threads; ++i) {
      answered += shared->live[i].answered.load(std::memory_order_relaxed);
    }
    const Nanos at = backend.now();
    const auto rate = static_cast<uint64_t>(static_cast<double>(answered - before) * 1e9 /
                                            static_cast<double>(at - before_at));
    before = answered;
    before_at = at;
    std::string line = progress_line(*shared, *first, at, rate);
    if (line.size() >= columns) line.resize(columns - 1);
    co_await write_error("\r\x1b[K" + line);
  }
}

Task<void> run_thread(Shared* shared, Worker* worker, unsigned index) {
  if (index != 0) {
    co_await worker->run();
    co_return;
  }
  Signals signals;
  Scope heeding(nullptr, "signals");
  heeding.spawn(heed_signals(&signals, shared));
  Scope progress(nullptr, "progress");
  const bool shows = !shared->options.quiet && uring::terminal_columns(error_fd) > 0;
  if (shows) progress.spawn(show_progress(shared, worker));
  co_await worker->run();
  progress.request_stop();
  co_await progress.join();
  if (shows) co_await write_error("\r\x1b[K");
  heeding.request_stop();
  co_await heeding.join();
  co_await signals.close();
}

// An empty text, or why the run can't begin.
std::string why_impossible(const Options& options) {
  const uint64_t descriptors = raise_descriptor_limit();
  if (descriptors < options.connections + descriptors_beside) {
    return fmt::format(
        "{} connections need more than the {} descriptors that this process may have: raise the "
        "limit with ulimit -n, or give fewer --connections",
        options.connections, descriptors);
  }
  Result<uring::ProbeReport> probed = uring::probe_system();
  return probed ? std::string() : probed.error().detail;
}

}  // namespace

Outcome run_session(const Options& options) {
  Outcome outcome;
  outcome.started = utc_now();
  outcome.machine = describe_machine();
  if (std::string why = why_impossible(options); !why.empty()) {
    outcome.stopped = Stop::failed;
    outcome.stop_text = std::move(why);
    return outcome;
  }
  uring::block_signals();
  Shared shared(options);
  std::vector<std::unique_ptr<Worker>> workers(options.threads);
  Nanos ended_at = 0;
  const std::string problem =
      uring::run_cores({.cores = options.threads}, [&](unsigned core, Backend& backend) {
        // Made here, so that its memory is near. Holding this core is nothing to report.
        workers[core] = std::make_unique<Worker>(shared, core);
        Reactor reactor(backend, {.core = core, .stall_report = nanos_never});
        reactor.run(run_thread(&shared, workers[core].get(), core));
        if (core == 0) ended_at = backend.now();
      });
  if (!problem.empty()) shared.stop(Stop::failed, problem);
  for (const auto& worker : workers) {
    if (worker != nullptr) outcome.recorder.merge(worker->recorder());
  }
  outcome.stopped = shared.stopped.load();
  outcome.stop_text = shared.stop_text;
  outcome.filled = shared.filled.load();
  const Nanos start = shared.start_at.load();
  const Nanos measured = start + options.profile.warmup;
  if (start > 0) {
    outcome.loaded = true;
    outcome.measured_from = measured;
    const Nanos planned = measured + options.profile.duration;
    const Nanos end = outcome.stopped == Stop::none ? planned : std::min(planned, ended_at);
    outcome.elapsed = std::max<Nanos>(1, std::max(end, outcome.recorder.last_answer) - measured);
  }
  return outcome;
}

}  // namespace gyre::load
