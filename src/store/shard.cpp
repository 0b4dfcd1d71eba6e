#include "store/shard.hpp"

#include <fmt/format.h>

#include <algorithm>

#include <gyre/time.hpp>

#include "base/assert.hpp"
#include "base/limits.hpp"
#include "store/await_write.hpp"
#include "store/bloom.hpp"
#include "store/file_names.hpp"

namespace gyre {

namespace {

constexpr Nanos pressure_interval = milliseconds(1);

WriteControllerOptions controller_options(const ShardOptions& shard) {
  const double trigger = shard.compaction.l0_trigger;
  const double stop = std::max(shard.compaction.l0_stop, 1u);
  return {.level0_soft = std::min({2 * trigger, (trigger + stop) / 2, stop - 0.5}),
          .level0_hard = stop,
          .level0_run_bytes = static_cast<double>(shard.memtable_bytes_max)};
}

}  // namespace

Shard::DelayTimer::DelayTimer(Shard& of)
    : Timer([](Timer& self) noexcept { static_cast<DelayTimer&>(self).shard.release_delayed(); }),
      shard(of) {}

Shard::ReleaseHook::ReleaseHook(Shard& of)
    : TickHook(
          [](TickHook& self) noexcept { static_cast<ReleaseHook&>(self).shard.append_released(); }),
      shard(of) {}

Shard::Shard(ShardOptions options, ShardContext context)
    : options_(std::move(options)),
      context_(context),
      cache_(std::make_unique<BlockCache>(options_.cache_bytes)),
      host_(std::make_unique<TableHost>(options_.directory, *cache_, &Shard::file_dropped, this)),
      levels_(std::make_shared<TableLevels>()),
      active_(std::make_shared<Mem>(context_)),
      controller_(controller_options(options_)),
      background_share_(Reactor::current()),
      scope_(nullptr, "shard") {
  if (options_.log_bytes_max == 0) options_.log_bytes_max = limits::log_bytes_before_flush_max;
}

Shard::~Shard() {
  GYRE_ASSERT(scope_.size() == 0);
}

Task<Result<std::unique_ptr<Shard>>> Shard::open(ShardOptions options, ShardContext context) {
  std::unique_ptr<Shard> shard(new Shard(std::move(options), context));
  Result<void> opened = co_await shard->recover();
  if (!opened) {
    shard->closing_ = true;
    shard->background_share_.set(0);
    shard->scope_.request_stop();
    co_await shard->scope_.join();
    if (shard->log_) static_cast<void>(co_await shard->log_->close());
    if (shard->manifest_) static_cast<void>(co_await shard->manifest_->close());
    co_await shard->drop_tables();
    co_return fail(opened.error());
  }
  shard->update_pressure();
  shard->scope_.spawn_background(shard->flush_loop());
  shard->scope_.spawn_background(shard->merge_loop(shard->level0_lane_));
  shard->scope_.spawn_background(shard->merge_loop(shard->deeper_lane_));
  if (shard->options_.scrub_period > 0) shard->scope_.spawn_background(shard->scrub_loop());
  co_return shard;
}

Task<Result<void>> Shard::close(bool flush) {
  Result<void> result{};
  if (flush && !read_only_) result = co_await this->flush();
  // The reason is in the log, and so is everything acknowledged.
  if (read_only_ || (!result && result.error().code == Errc::no_space)) result = {};
  closing_ = true;
  end_delays();
  background_share_.set(0);
  scope_.request_stop();
  flush_wanted_.set();
  compaction_wanted_.set();
  merge_may_go_on_.set();
  visible_moved_.set();
  stop_memory_waits();
  co_await scope_.join();
  flushed_.set();
  compacted_.set();
  append_released();
  Result<void> log_closed = co_await log_->close();
  GYRE_ASSERT(holders_.empty() && released_.empty() && left_.empty());
  if (log_closed && !read_only_) co_await promise_log_end();
  while (calls_ != 0) {
    no_calls_.reset();
    co_await detail::Uninterrupted{no_calls_};
  }
  Result<void> manifest_closed = co_await manifest_->close();
  immutable_.clear();
  active_.reset();
  co_await drop_tables();
  if (result && !log_closed && !read_only_) result = log_closed;
  if (result && !manifest_closed && !read_only_) result = manifest_closed;
  co_return result;
}

// So that a log that loses its end later does not pass for one with a torn tail. Best effort: it
// may be that the disk has no room.
Task<void> Shard::promise_log_end() {
  if (log_->synced_position() <= manifest_->state().log_promised_position()) co_return;
  VersionEdit edit;
  edit.log_promised_position = log_->synced_position();
  edit.hlc_max = context_.clock.last();
  static_cast<void>(co_await manifest_->append(std::move(edit)));
}

// Files of obsolete tables are removed in the background once nobody reads them any more.
Task<void> Shard::drop_tables() {
  levels_ = std::make_shared<TableLevels>();
  co_await host_->drain();
  remover_.hurry();
  co_await scope_.join();
}

size_t Shard::memtable_bytes() const {
  size_t bytes = active_->table.allocated_bytes();
  for (const MemRef& mem : immutable_) bytes += mem->table.allocated_bytes();
  return bytes;
}

// --- writing ------------------------------------------------------------------------------------

Errc Shard::write(StoreWrite& write) {
  if (read_only_) return Errc::read_only;
  if (closing_) return Errc::closed;
  if (log_->waits_for_space()) {
    ++stats_.writes_refused;
    return Errc::overloaded;
  }
  const Nanos now = Reactor::current().now();
  if (now - pressure_updated_ >= pressure_interval) update_pressure();
  const size_t bytes = write.size_bytes();
  if (delayed_.empty() && controller_.ready(now)) {
    ++stats_.writes;
    controller_.take(bytes, now);
    append(write);
    return Errc::ok;
  }
  if (controller_.expected_wait(delayed_bytes_, now) > write.patience) {
    ++stats_.writes_refused;
    return Errc::overloaded;
  }
  ++stats_.writes;
  ++stats_.writes_delayed;
  keep_bytes(write);
  write.asked_at = now;
  if (delayed_.empty()) Reactor::current().arm(delay_timer_, controller_.next_ready(now));
  delayed_.push(write);
  delayed_bytes_ += bytes;
  return Errc::ok;
}

// A write that waits outlives the buffers it came in.
void Shard::keep_bytes(StoreWrite& write) {
  if (write.key_storage.empty()) {
    write.key_storage.assign(write.record.key);
    write.record.key = write.key_storage;
  }
  if (write.record.value_buffer == nullptr && !write.record.value.empty()) {
    write.buffer.append(write.record.value);
    write.record.value = {};
    write.record.value_buffer = &write.buffer;
  }
}

void Shard::append(StoreWrite& write) {
  if (!released_.empty()) append_released();
  if (!holders_.empty() && is_held(write)) return;
  append_now(write);
}

void Shard::append_now(StoreWrite& write) {
  if (write.record.deferred) return append_modify(static_cast<StoreModify&>(write));
  if (!write.record.version) {
    write.record.version = context_.clock.next(Reactor::current().wall_us());
  } else {
    context_.clock.observe(write.record.version.hlc);
  }
  if (write.hash == 0) write.hash = hash64(write.record.key);
  active_->table.prefetch_entry(write.hash);  // meanwhile the log takes it
  if (log_->try_append(write)) return;
  // No room in the open frame: the bytes must live until there is.
  keep_bytes(write);
  log_->enqueue(write);
}

StoreWrite& Shard::pop_delayed() {
  auto& write = static_cast<StoreWrite&>(delayed_.pop());
  delayed_bytes_ -= write.size_bytes();
  return write;
}

void Shard::take_delayed(Nanos now) {
  StoreWrite& write = pop_delayed();
  stats_.write_delay_total += now - write.asked_at;
  stats_.write_delay_longest = std::max(stats_.write_delay_longest, now - write.asked_at);
  if (read_only_) return completed(write, Errc::read_only);
  if (!closing_) controller_.take(write.size_bytes(), now);
  append(write);
}

// Those whose turn it is.
void Shard::release_delayed() {
  const Nanos now = Reactor::current().now();
  if (now - pressure_updated_ >= pressure_interval) update_pressure();
  while (!delayed_.empty() && controller_.ready(now)) take_delayed(now);
  // The pressure grew instead of easing off: what was expected when they came no longer holds.
  while (!delayed_.empty()) {
    const auto& first = static_cast<const StoreWrite&>(*delayed_.head);
    if (now - first.asked_at <= 2 * first.patience) break;
    ++stats_.writes_refused;
    completed(pop_delayed(), Errc::overloaded);
  }
  if (!delayed_.empty()) Reactor::current().arm(delay_timer_, controller_.next_ready(now));
}

// Nobody's turn comes any more.
void Shard::end_delays() {
  Reactor& reactor = Reactor::current();
  reactor.disarm(delay_timer_);
  while (!delayed_.empty()) take_delayed(reactor.now());
}

void Shard::logged(LogWrite& log_write) noexcept {
  auto& write = static_cast<StoreWrite&>(log_write);
  const WriteRecord& record = write.record;
  if (!holders_.empty()) let_others_go(write);
  active_->charged_bytes += std::exchange(write.charged_bytes, 0);
  if (record.value_buffer != nullptr) {
    active_->table.add(write.seq, record.kind, record.version, record.expire_at_ms, record.key,
                       std::move(write.buffer), write.hash);
    write.record.value_buffer = nullptr;
  } else {
    active_->table.add(write.seq, record.kind, record.version, record.expire_at_ms, record.key,
                       record.value, write.hash);
  }
  rotate_if_full();
}

void Shard::committed(uint64_t seq) noexcept {
  visible_seq_ = seq;
  visible_moved_.set();
  release_left(seq);
}

void Shard::completed(LogWrite& log_write, Errc status) noexcept {
  auto& write = static_cast<StoreWrite&>(log_write);
  if (!holders_.empty()) let_others_go(write);
  if (write.charged_bytes != 0)
    context_.write_memory.release(std::exchange(write.charged_bytes, 0));
  write.done(write, status);
}

void Shard::log_failed(const Error& error) noexcept {
  become_read_only(error);
  while (!left_.empty()) completed(left_.pop(), Errc::read_only);
}

void Shard::become_read_only(const Error& error) {
  if (read_only_) return;
  read_only_ = true;
  background_share_.set(0);
  read_only_reason_ = error.message();
  Reactor::current().log(
      "error",
      fmt::format("shard={} event=read_only reason=\"{}\" advice=\"reads go on; writes get "
                  "503; check the disk, then restart\"",
                  options_.identity.index, read_only_reason_));
  flushed_.set();
  visible_moved_.set();
  compacted_.set();
  merge_may_go_on_.set();
  stop_memory_waits();
  end_delays();
}

// What a call answers that the end of the shard interrupted.
Error Shard::ended_error() const {
  if (read_only_) return Error::of(Errc::read_only, read_only_reason_);
  return Error::of(closing_ ? Errc::closed : Errc::cancelled);
}

void Shard::rotate_if_full() {
  if (immutable_.empty() && context_.write_memory.has_waiters()) {
    rotate();  // somebody waits for what this memtable holds
    return;
  }
  if (active_->table.used_bytes() < options_.memtable_bytes_max &&
      log_->position() - active_->log_start < options_.log_bytes_max) {
    return;
  }
  if (immutable_.size() >= 2) return;  // the flush is behind; write_memory bounds the growth
  rotate();
}

void Shard::rotate() {
  if (active_->table.empty()) return;
  immutable_.push_back(std::move(active_));
  active_ = std::make_shared<Mem>(context_, immutable_.back()->table.rank_prefix());
  active_->log_start = log_->position_floor();
  flush_wanted_.set();
  update_pressure();
}

// What is behind, as the controller wants to know it: what running work has done counts as done.
void Shard::update_pressure() {
  pressure_updated_ = Reactor::current().now();
  const Semaphore& memory = context_.write_memory;
  double unflushed = static_cast<double>(memory.capacity() - memory.available());
  if (flushing_) {
    unflushed -= static_cast<double>(immutable_.front()->charged_bytes - flush_left_bytes_);
  }
  double runs = static_cast<double>(level0_runs(*levels_));
  double debt = static_cast<double>(need_.debt_bytes);
  for (const MergeLane* lane : {&level0_lane_, &deeper_lane_}) {
    if (lane->job == nullptr) continue;
    const double done = 1 - lane->part_left();
    if (lane->job->level == 0) runs -= done * static_cast<double>(lane->job->inputs.size());
    debt -= done * static_cast<double>(lane->job->input_bytes());
  }
  controller_.update({.memory_used = unflushed / static_cast<double>(memory.capacity()),
                      .level0_runs = runs,
                      .debt = debt / debt_soft_bytes_},
                     pressure_updated_);
  const bool idle = closing_ || read_only_;
  background_share_.set(idle ? 0 : controller_.background_permille());
}

void Shard::memory_wanted() {
  if (immutable_.empty() && !read_only_ && !closing_) rotate();
  update_pressure();
}

namespace {

Task<bool> acquire(Semaphore& memory, size_t size_bytes) {
  co_return co_await memory.acquire(size_bytes);
}

}  // namespace

// Waits for memory as long as the shard takes writes: once it is read-only or closing, nothing
// gives any back.
Task<Result<void>> Shard::reserve_memory(size_t size_bytes) {
  Semaphore& memory = context_.write_memory;
  if (size_bytes > memory.capacity()) {
    co_return fail(Errc::too_large, "the write is larger than the memory for writes");
  }
  if (memory.try_acquire(size_bytes)) co_return Result<void>{};
  if (read_only_ || closing_) co_return fail(ended_error());
  StopSource stop(co_await current_stop());
  Task<bool> wait = acquire(memory, size_bytes);
  wait.promise().stop = &stop;
  memory_waits_.push_back(&stop);
  memory_wanted();
  const bool granted = co_await std::move(wait);
  std::erase(memory_waits_, &stop);
  if (!granted) co_return fail(ended_error());
  co_return Result<void>{};
}

void Shard::stop_memory_waits() {
  for (StopSource* wait : memory_waits_) wait->request_stop();
}

Task<Result<Version>> Shard::put(std::string key, ValueBuffer value, uint64_t expire_at_ms) {
  const Call call(*this);
  if (key.size() > limits::key_bytes_max) co_return fail(Errc::too_large, "the key is too long");
  const size_t charge = StoreWrite::charge_for(key.size(), value.size());
  if (Result<void> reserved = co_await reserve_memory(charge); !reserved) {
    co_return fail(reserved.error());
  }
  AwaitWrite write(*this);
  write.charged_bytes = charge;
  write.record.kind = Kind::value;
  write.record.expire_at_ms = expire_at_ms;
  write.key_storage = std::move(key);
  write.record.key = write.key_storage;
  write.buffer = std::move(value);
  write.record.value_buffer = &write.buffer;
  co_return co_await submit(write);
}

Task<Result<Version>> Shard::submit(StoreWrite& store_write) {
  auto& write = static_cast<AwaitWrite&>(store_write);
  write.patience = seconds(10);
  const Errc status = co_await write;
  if (write.charged_bytes != 0) context_.write_memory.release(write.charged_bytes);
  if (status == Errc::ok) co_return write.record.version;
  co_return fail(status,
                 status == Errc::overloaded ? std::string(refusal_reason()) : read_only_reason_);
}

std::string Shard::full_disk_reason() const {
  const std::optional<Error>* const errors[] = {&log_->space_error(), &flush_error_,
                                                &level0_lane_.error, &deeper_lane_.error};
  for (const std::optional<Error>* error : errors) {
    if (*error && (*error)->code == Errc::no_space) return (*error)->message();
  }
  return {};
}

std::string Shard::refusal_reason() const {
  if (const std::string full = full_disk_reason(); !full.empty()) {
    return fmt::format("the disk is full: writes are taken again when there is room ({})", full);
  }
  if (level0_lane_.error) return "merging tables fails: " + level0_lane_.error->message();
  return "flushing and merging are behind; try again";
}

Task<Result<Version>> Shard::remove(std::string key) {
  const Call call(*this);
  if (key.size() > limits::key_bytes_max) co_return fail(Errc::too_large, "the key is too long");
  const size_t charge = StoreWrite::charge_for(key.size(), 0);
  if (Result<void> reserved = co_await reserve_memory(charge); !reserved) {
    co_return fail(reserved.error());
  }
  AwaitWrite write(*this);
  write.charged_bytes = charge;
  write.record.kind = Kind::tombstone;
  write.key_storage = std::move(key);
  write.record.key = write.key_storage;
  co_return co_await submit(write);
}

// --- flush and compaction: the loops -------------------------------------------------------------

Task<Result<void>> Shard::flush() {
  const Call call(*this);
  const uint64_t through = log_->seq_next() - 1;
  for (;;) {
    if (read_only_ || closing_) co_return fail(ended_error());
    if (immutable_.empty()) {
      if (active_->table.empty() || active_->table.seq_first() > through) break;
      rotate();
    } else if (immutable_.front()->table.seq_first() > through) {
      break;
    }
    flushed_.reset();
    if (!co_await flushed_.wait()) co_return fail(Errc::cancelled);
    if (flush_error_ && !read_only_ && !closing_) co_return fail(*flush_error_);
  }
  co_return Result<void>{};
}

namespace {

constexpr Nanos retry_pause_min = seconds(1);  // after a failure; doubles
constexpr Nanos full_disk_pause_max = seconds(8);
constexpr Nanos merge_pause_max = seconds(60);
constexpr Nanos reclaim_interval = seconds(10);

Task<Result<void>> wait_for(Event& event) {
  if (!co_await event.wait()) co_return fail(Errc::cancelled);
  co_return Result<void>{};
}

}  // namespace

Task<void> Shard::flush_loop() {
  Nanos pause = retry_pause_min;
  for (;;) {
    while (immutable_.empty()) {
      if (closing_) co_return;
      flush_wanted_.reset();
      if (!co_await flush_wanted_.wait()) co_return;
    }
    if (closing_ || read_only_) co_return;
    const Result<void> done = co_await flush_oldest();
    flushing_ = false;
    merge_may_go_on_.set();
    if (done) {
      pause = retry_pause_min;
      flush_error_.reset();
      flushed_.set();
      rotate_if_full();
      update_pressure();
      compaction_wanted_.set();
      continue;
    }
    if (done.error().code == Errc::cancelled) co_return;
    if (done.error().code != Errc::no_space || manifest_->poisoned()) {
      become_read_only(done.error());
      co_return;
    }
    // Everything is in the log and in memory. Merges, deletions and people make room; until then
    // the memory for writes fills up, and writes are refused.
    ++stats_.flushes_without_space;
    remover_.hurry();
    flush_error_ = done.error();
    flushed_.set();
    Reactor::current().log(
        "warn", fmt::format("shard={} event=flush_without_space reason=\"{}\" again_in_s={}",
                            options_.identity.index, done.error().message(), pause / seconds(1)));
    if (!co_await sleep_for(pause)) co_return;
    pause = std::min(2 * pause, full_disk_pause_max);
  }
}

bool Shard::compaction_due() const {
  if (need_.level0_score >= 1 || need_.deeper_score > 1) return true;
  return pick_full_compaction(*levels_, full_compaction_end_).has_value();
}

// A level over its target makes every merge into it dearer, and level 0 is merged the cheaper the
// more it has: below it is more urgent as long as it is further over its target than level 0 is over
// where writes are slowed down.
bool Shard::deeper_goes_first() const {
  const double runs_soft = controller_.options().level0_soft;
  return need_.deeper_score > 1 &&
         need_.deeper_score > static_cast<double>(level0_runs(*levels_)) / runs_soft;
}

// Dead values take more room than live ones: emptying their files no longer waits until nothing
// else is to be merged.
bool Shard::values_go_first() const {
  const ValueFileTotals& all = host_->value_totals();
  return all.sparse_files != 0 && all.bytes > 2 * all.live_bytes;
}

std::optional<CompactionJob> Shard::next_job(const MergeLane& lane) {
  const CompactionJob* const running = (lane.level0 ? deeper_lane_ : level0_lane_).job;
  // Both may want the tables of the base level: whoever's turn it is takes them first.
  const bool deeper_first = deeper_goes_first();
  if (lane.level0) {
    if (deeper_first && running == nullptr && !deeper_lane_.error) return std::nullopt;
    return pick_level0(*levels_, options_.compaction, running);
  }
  if (!damaged_.empty()) {  // everything may wait for that
    if (auto job = pick_damaged(*levels_, running)) return job;
  }
  const bool level0_waits = need_.level0_score >= 1 && running == nullptr && !level0_lane_.error;
  if (level0_waits && !deeper_first) return std::nullopt;
  ++merge_round_;
  const auto sparse_values = [&]() -> std::optional<CompactionJob> {
    if (host_->value_totals().sparse_files == 0) return std::nullopt;
    return pick_sparse_values(*levels_, options_.compaction, running, merge_round_);
  };
  if (values_go_first()) {
    if (auto job = sparse_values()) return job;
  }
  if (auto job = pick_deeper(*levels_, options_.compaction, running, merge_round_)) return job;
  if (auto job = pick_full_compaction(*levels_, full_compaction_end_, running)) return job;
  if (auto job = sparse_values()) return job;
  std::optional<CompactionJob> job = pick_reclaim(
      *levels_, options_.compaction, Reactor::current().wall_ms(), running, merge_round_);
  stats_.reclaims += job ? 1 : 0;
  return job;
}

Task<void> Shard::merge_loop(MergeLane& lane) {
  Nanos pause = retry_pause_min;
  for (;;) {
    if (closing_ || read_only_) co_return;
    std::optional<CompactionJob> job = next_job(lane);
    if (!job) {
      compaction_wanted_.reset();
      if (lane.level0) {
        if (!co_await compaction_wanted_.wait()) co_return;
        continue;
      }
      // What expires announces itself to nobody.
      const Result<void> wanted =
          co_await with_timeout<void>(reclaim_interval, wait_for(compaction_wanted_));
      if (!wanted && wanted.error().code != Errc::timed_out) co_return;
      continue;
    }
    compaction_wanted_.set();  // the other lane may look for one beside it
    const Result<void> done = co_await run_compaction(std::move(*job), lane);
    update_pressure();
    merge_may_go_on_.set();
    if (done) {
      lane.error.reset();
      pause = retry_pause_min;
      compaction_wanted_.set();  // the other lane may have waited for these tables
      compacted_.set();
      continue;
    }
    if (done.error().code == Errc::cancelled) co_return;
    if (manifest_->poisoned()) become_read_only(done.error());
    if (read_only_) co_return;
    // A table that can't be read, a full disk: nothing is lost, and writes go on as long as level 0
    // has room. It is tried again, ever less often.
    ++stats_.compactions_failed;
    if (std::exchange(lane.found_damage, false)) {  // the next one goes around it
      compacted_.set();
      continue;
    }
    lane.error = done.error();
    if (lane.error->code == Errc::no_space) remover_.hurry();
    Reactor::current().log(
        "warn", fmt::format("shard={} event=compaction_failed reason=\"{}\" again_in_s={}",
                            options_.identity.index, done.error().message(), pause / seconds(1)));
    compacted_.set();
    if (!co_await sleep_for(pause)) co_return;
    pause = std::min(2 * pause,
                     lane.error->code == Errc::no_space ? full_disk_pause_max : merge_pause_max);
  }
}

Task<Result<void>> Shard::wait_for_compaction() {
  if (read_only_ || closing_) co_return fail(ended_error());
  compacted_.reset();
  compaction_wanted_.set();
  ++merges_awaited_;
  const bool ended = co_await compacted_.wait();
  --merges_awaited_;
  if (!ended) co_return fail(Errc::cancelled);
  if (read_only_ || closing_) co_return fail(ended_error());
  for (const MergeLane* lane : {&level0_lane_, &deeper_lane_}) {
    if (lane->error) co_return fail(*lane->error);
  }
  co_return Result<void>{};
}

Task<Result<void>> Shard::settle() {
  const Call call(*this);
  Result<void> done{};
  while (done && compaction_due()) done = co_await wait_for_compaction();
  co_return done;
}

Task<Result<void>> Shard::compact() {
  const Call call(*this);
  Result<void> done = co_await flush();
  if (!done) co_return done;
  full_compaction_end_ = manifest_->take_file_number();
  ++full_compactions_;
  while (done && pick_full_compaction(*levels_, full_compaction_end_)) {
    done = co_await wait_for_compaction();
  }
  // What becomes dead from now on is nobody's wish any more.
  if (--full_compactions_ == 0) full_compaction_end_ = 0;
  co_return done;
}

void Shard::file_dropped(void* self, DroppedFile file) noexcept {
  auto& shard = *static_cast<Shard*>(self);
  shard.remover_.remove(std::move(file.file),
                        file.kind == FileKind::table ? table_file_name(file.file_number)
                                                     : value_file_name(file.file_number),
                        file.size_bytes);
}

Task<void> Shard::remove_file(std::string path) {
  // A file that stays is an orphan, and is removed at the next open.
  static_cast<void>(co_await unlink_file(std::move(path)));
}

}  // namespace gyre
