#include "engine/gyre_session.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <future>
#include <thread>

#include <gyre/call.hpp>
#include <gyre/scope.hpp>
#include <gyre/time.hpp>

#include "engine/gyre_lane.hpp"
#include "runtime/uring/cores.hpp"

namespace gyre::engine {

namespace {

constexpr Nanos poll_interval = milliseconds(20);                // for the next job
constexpr Nanos start_delay = poll_interval + milliseconds(10);  // all lanes are there by then
constexpr std::array<uint8_t, 16> store_uuid = {'e', 'n', 'g', 'i', 'n', 'e', ' ', 'b',
                                                'e', 'n', 'c', 'h', 0,   0,   0,   1};

using CoreJob = std::function<Task<Result<void>>(unsigned core)>;

// A job for every core, and its answer.
struct Job {
  CoreJob work;
  std::promise<Result<void>> done;
};

// One load on one core.
struct CoreRun {
  Recorder operations;
  Recorder writes;
  uint64_t ticket = 0;        // of the open loop
  uint64_t write_ticket = 0;  // of the writes beside it
  Nanos last_end = 0;
  std::string problem;
};

struct Run {
  const Load& load;
  const Interruption& interrupted;
  const Settings& settings;
  std::vector<std::unique_ptr<CoreStore>>& stores;
  Nanos begin = 0;
  Nanos end = 0;  // 0: when the operations are done
  std::vector<std::unique_ptr<CoreRun>> cores;
};

// Takes part in the open loop, or nothing is left of it.
enum class Turn : uint8_t { go, late, over };

Task<Turn> take_turn(const Run* run, uint64_t* ticket, double rate, Nanos* due) {
  *due = Pace(run->begin, rate, run->load.burst).due(*ticket);
  *ticket += run->cores.size();
  if (*due >= run->end || run->interrupted()) co_return Turn::over;
  const Nanos now = Reactor::current().backend().now();
  if (now > run->end + open_loop_grace) co_return Turn::late;
  if (*due > now) static_cast<void>(co_await sleep_until(*due));
  co_return Turn::go;
}

// False: the engine has failed.
bool note(CoreRun& core, Recorder& recorder, Lane& lane, Nanos due, Nanos end, bool counts) {
  const Answer answer = lane.check();
  if (answer == Answer::failed) {
    ++recorder.failed;
    core.problem = lane.problem();
    return false;
  }
  if (answer == Answer::wrong) ++recorder.wrong;
  if (counts) recorder.record(due, end);
  core.last_end = std::max(core.last_end, end);
  return true;
}

Task<void> run_lane(Run* run, CoreRun* core, unsigned own, unsigned index, unsigned lanes) {
  const Load& load = run->load;
  Lane lane(own, run->stores, run->settings);
  Backend& backend = Reactor::current().backend();
  const auto cores = static_cast<unsigned>(run->cores.size());
  // With keys of all cores the lanes of all share them; otherwise each core goes through all of
  // them and leaves out those of others.
  const bool any = run->settings.any_core;
  const unsigned parts = any ? load.concurrency : lanes;
  KeySequence keys(load.order, run->settings.keys, load.seed, any ? index * cores + own : index,
                   parts);
  static_cast<void>(co_await sleep_until(run->begin));
  Nanos now = backend.now();
  for (uint64_t count = 1;; ++count) {
    Nanos due = now;
    if (load.rate > 0) {
      const Turn turn = co_await take_turn(run, &core->ticket, load.rate, &due);
      if (turn == Turn::over) break;
      if (turn == Turn::late) {
        ++core->operations.unfinished;
        continue;
      }
    } else if ((run->end != 0 && now >= run->end) || run->interrupted()) {
      break;
    }
    if (load.operations != 0 && count > load.operations / load.concurrency) break;
    uint64_t number = 0;
    bool more = keys.next(number);
    while (more && !any && load.operation != Operation::scan && !lane.is_own(number)) {
      more = keys.next(number);
    }
    if (!more) break;
    lane.start(load.operation, number, count * load.concurrency + index);
    co_await lane.ended();
    now = backend.now();
    const bool counts = load.rate > 0 || run->end == 0 || now <= run->end;
    if (!note(*core, core->operations, lane, due, now, counts)) break;
    // Lanes take turns, as connections do: whoever was answered at once goes behind the others.
    co_await yield();
  }
  core->operations.refused += lane.refusals();
}

// PUTs at a rate while the other lanes run; they count apart.
Task<void> run_writer(Run* run, CoreRun* core, unsigned own) {
  Lane lane(own, run->stores, run->settings);
  Backend& backend = Reactor::current().backend();
  KeySequence keys(KeyOrder::random, run->settings.keys, run->load.seed + 1, own, 1);
  static_cast<void>(co_await sleep_until(run->begin));
  for (;;) {
    Nanos due = 0;
    const Turn turn = co_await take_turn(run, &core->write_ticket, run->load.write_rate, &due);
    if (turn == Turn::over) break;
    if (turn == Turn::late) {
      ++core->writes.unfinished;
      continue;
    }
    uint64_t number = 0;
    keys.next(number);
    lane.start(Operation::put, number, core->write_ticket);
    co_await lane.ended();
    if (!note(*core, core->writes, lane, due, backend.now(), true)) break;
  }
  core->writes.refused += lane.refusals();
}

Task<Result<void>> run_on_core(Run* run, unsigned own) {
  const auto cores = static_cast<unsigned>(run->cores.size());
  CoreRun& core = *run->cores[own];
  Scope scope(nullptr, "lanes");
  // Lane i of all is on core i % cores.
  const Load& load = run->load;
  const unsigned lanes = (load.concurrency + cores - 1 - own) / cores;
  for (unsigned lane = 0; lane < lanes; ++lane) {
    scope.spawn(run_lane(run, &core, own, lane, lanes));
  }
  if (load.write_rate > 0) scope.spawn(run_writer(run, &core, own));
  co_await scope.join();
  core.operations.finish();
  core.writes.finish();
  co_return Result<void>{};
}

// --- the session --------------------------------------------------------------------------------

class GyreSession final : public Session {
 public:
  explicit GyreSession(const Settings& settings) : settings_(settings), fabric_(settings.cpus) {}
  ~GyreSession() override { static_cast<void>(close()); }

  Result<void> open();
  Result<LoadResult> run(const Load& load, const Interruption& interrupted) override;
  Result<void> settle() override;
  Result<void> compact() override;
  uint64_t table_bytes() override;
  Result<void> close() override;

 private:
  ShardOptions shard_options(unsigned core) const;
  Result<void> on_every_core(CoreJob work);
  EngineCounters counters();
  void run_cores();
  Task<void> run_core(unsigned core);
  Task<void> take_jobs();
  Task<Result<void>> do_job(const CoreJob* work);
  static Task<void> do_on_core(const CoreJob* work, unsigned core, Result<void>* result);

  Settings settings_;
  Fabric fabric_;
  std::vector<std::unique_ptr<CoreStore>> stores_;
  std::atomic<Job*> job_{nullptr};
  std::atomic<bool> ending_{false};
  std::string problem_;  // of the thread; read after it has ended
  std::atomic<bool> dead_{false};
  std::thread thread_;
};

ShardOptions GyreSession::shard_options(unsigned core) const {
  ShardOptions options;
  options.directory = fmt::format("{}/shard-{:03}", settings_.directory, core);
  options.identity = {.uuid = store_uuid, .index = core, .count = settings_.cpus};
  options.log_salt = 1 + core;
  options.durability = settings_.sync ? Durability::group : Durability::none;
  // As a node divides it: one active and up to two immutable memtables.
  options.memtable_bytes_max = settings_.write_buffer_bytes / settings_.cpus / 4;
  options.cache_bytes = settings_.cache_bytes / settings_.cpus;
  options.compaction.base_bytes_min = std::max<uint64_t>(options.memtable_bytes_max * 2, 16u << 20);
  options.separate_value_bytes_min =
      settings_.separate_bytes_min == 0 ? no_value_separation : settings_.separate_bytes_min;
  options.table.block_bytes_target = settings_.block_bytes;
  options.table.bloom_bits_per_key = settings_.bloom_bits;
  options.table.bloom_bits_per_key_upper = settings_.bloom_bits;  // RocksDB has one for all levels
  options.table.codec = settings_.compress ? Codec::lz4 : Codec::none;
  return options;
}

Result<void> GyreSession::open() {
  for (unsigned core = 0; core < settings_.cpus; ++core) {
    stores_.push_back(
        std::make_unique<CoreStore>(core, settings_.write_buffer_bytes / settings_.cpus));
  }
  thread_ = std::thread([this] { run_cores(); });
  return on_every_core([this](unsigned core) -> Task<Result<void>> {
    return [](GyreSession* self, unsigned own) -> Task<Result<void>> {
      CoreStore& store = *self->stores_[own];
      Result<std::unique_ptr<Shard>> opened =
          co_await Shard::open(self->shard_options(own), {.write_memory = store.memory,
                                                          .clock = store.clock,
                                                          .flush_credit = &store.flush_credit});
      if (!opened) co_return fail(opened.error());
      store.shard = std::move(*opened);
      co_return Result<void>{};
    }(this, core);
  });
}

void GyreSession::run_cores() {
  problem_ = uring::run_cores(
      {.cores = settings_.cpus, .pin = true}, [this](unsigned core, Backend& backend) {
        // A lane that holds its core is the measurement.
        Reactor reactor(backend, {.core = core, .stall_report = nanos_never}, &fabric_);
        reactor.run(run_core(core));
      });
  dead_ = true;
}

Task<void> GyreSession::run_core(unsigned core) {
  if (core == 0) {
    co_await take_jobs();
    ending_ = true;
    co_return;
  }
  while (!ending_) static_cast<void>(co_await sleep_for(poll_interval));
}

Task<void> GyreSession::take_jobs() {
  for (;;) {
    Job* job = job_.exchange(nullptr);
    if (job == nullptr) {
      if (ending_) co_return;
      static_cast<void>(co_await sleep_for(poll_interval));
      continue;
    }
    job->done.set_value(co_await do_job(&job->work));
  }
}

Task<Result<void>> GyreSession::do_job(const CoreJob* work) {
  std::vector<Result<void>> results(settings_.cpus);
  Scope scope(nullptr, "job");
  for (unsigned core = 0; core < settings_.cpus; ++core) {
    scope.spawn(do_on_core(work, core, &results[core]));
  }
  co_await scope.join();
  for (Result<void>& result : results) {
    if (!result) co_return fail(result.error());
  }
  co_return Result<void>{};
}

Task<void> GyreSession::do_on_core(const CoreJob* work, unsigned core, Result<void>* result) {
  if (core == 0) {
    *result = co_await (*work)(core);
  } else {
    *result = co_await spawn_on(core, [work, core] { return (*work)(core); });
  }
}

Result<void> GyreSession::on_every_core(CoreJob work) {
  Job job{.work = std::move(work), .done = {}};
  std::future<Result<void>> done = job.done.get_future();
  job_ = &job;
  while (done.wait_for(std::chrono::milliseconds(200)) != std::future_status::ready) {
    if (!dead_) continue;
    job_ = nullptr;
    return fail(Errc::io, problem_.empty() ? "the cores have ended" : problem_);
  }
  return done.get();
}

Result<LoadResult> GyreSession::run(const Load& load, const Interruption& interrupted) {
  const EngineCounters before = counters();
  Run run{.load = load, .interrupted = interrupted, .settings = settings_, .stores = stores_};
  run.begin = monotonic_now() + start_delay;
  run.end = load.duration > 0 ? run.begin + load.duration : 0;
  for (unsigned core = 0; core < settings_.cpus; ++core) {
    auto made = std::make_unique<CoreRun>();
    made->operations = Recorder(run.begin);
    made->writes = Recorder(run.begin);
    made->ticket = made->write_ticket = core;
    run.cores.push_back(std::move(made));
  }
  Result<void> done = on_every_core([&run](unsigned core) { return run_on_core(&run, core); });
  if (!done) return fail(done.error());
  LoadResult result;
  Nanos last_end = run.begin;
  for (const auto& core : run.cores) {
    result.operations.merge(core->operations);
    result.writes.merge(core->writes);
    last_end = std::max(last_end, core->last_end);
    if (result.problem.empty()) result.problem = core->problem;
  }
  result.elapsed = run.end != 0 && !interrupted() ? load.duration : last_end - run.begin;
  result.counters = counters() - before;
  return result;
}

EngineCounters GyreSession::counters() {
  std::vector<EngineCounters> each(settings_.cpus);
  static_cast<void>(on_every_core([&](unsigned core) -> Task<Result<void>> {
    return [](const Shard* shard, EngineCounters* out) -> Task<Result<void>> {
      out->user_bytes = shard->log_stats().record_bytes;
      out->log_bytes = shard->log_stats().written_bytes;
      out->flushed_bytes = shard->stats().flushed_bytes;
      out->compacted_bytes = shard->stats().compacted_bytes_written;
      co_return Result<void>{};
    }(stores_[core]->shard.get(), &each[core]);
  }));
  EngineCounters sum;
  for (const EngineCounters& one : each) sum = sum + one;
  return sum;
}

Result<void> GyreSession::settle() {
  return on_every_core([this](unsigned core) -> Task<Result<void>> {
    return [](Shard* shard) -> Task<Result<void>> {
      Result<void> done = co_await shard->flush();
      if (done) done = co_await shard->settle();
      co_return done;
    }(stores_[core]->shard.get());
  });
}

Result<void> GyreSession::compact() {
  return on_every_core([this](unsigned core) { return stores_[core]->shard->compact(); });
}

uint64_t GyreSession::table_bytes() {
  std::atomic<uint64_t> sum{0};
  static_cast<void>(on_every_core([&](unsigned core) -> Task<Result<void>> {
    return [](const Shard* shard, std::atomic<uint64_t>* out) -> Task<Result<void>> {
      *out += shard->stored_bytes();
      co_return Result<void>{};
    }(stores_[core]->shard.get(), &sum);
  }));
  return sum;
}

Result<void> GyreSession::close() {
  if (!thread_.joinable()) return {};
  Result<void> done{};
  if (!dead_) {
    done = on_every_core([this](unsigned core) -> Task<Result<void>> {
      return [](CoreStore* store) -> Task<Result<void>> {
        if (!store->shard) co_return Result<void>{};
        Result<void> closed = co_await store->shard->close(true);
        store->shard.reset();
        co_return closed;
      }(stores_[core].get());
    });
  }
  ending_ = true;
  thread_.join();
  return done;
}

}  // namespace

Result<std::unique_ptr<Session>> open_gyre(const Settings& settings) {
  auto session = std::make_unique<GyreSession>(settings);
  if (Result<void> opened = session->open(); !opened) return fail(opened.error());
  return std::unique_ptr<Session>(std::move(session));
}

}  // namespace gyre::engine
