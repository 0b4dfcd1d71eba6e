#include "store/log_writer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include <gyre/time.hpp>

#include "base/assert.hpp"
#include "base/limits.hpp"
#include "store/test_faults.hpp"

namespace gyre {

namespace {

constexpr size_t frame_bytes_max = limits::log_frame_bytes_max;
// A record above this goes in by fragments, so that it does not push small ones out of a frame.
constexpr size_t whole_record_bytes_max = 256u << 10;
constexpr Nanos idle_promise_delay = milliseconds(100);
// Of a frame that nobody waits for. A write of 4 KiB costs about 15 us of CPU, one of 64 KiB hardly
// more.
constexpr Nanos gather_time_max = milliseconds(1);
constexpr size_t gather_bytes = 64u << 10;
// Of a frame that waited for the one before.
constexpr Nanos gather_after_frame_time_max = microseconds(200);
constexpr size_t recyclable_segments_max = 8;
constexpr size_t zero_fill_bytes = 256u << 10;
constexpr Nanos space_pause = seconds(1);  // on a full disk

}  // namespace

LogWriter::CommitHook::CommitHook(LogWriter& of)
    : TickHook([](TickHook& self) noexcept { static_cast<CommitHook&>(self).writer.commit(); }),
      writer(of) {}

LogWriter::IdleTimer::IdleTimer(LogWriter& of)
    : Timer([](Timer& self) noexcept {
        LogWriter& log = static_cast<IdleTimer&>(self).writer;
        log.promise_wanted_ = true;
        Reactor::current().at_tick_end(log.hook_);
      }),
      writer(of) {}

LogWriter::GatherTimer::GatherTimer(LogWriter& of)
    : Timer([](Timer& self) noexcept {
        LogWriter& log = static_cast<GatherTimer&>(self).writer;
        if (log.options_.durability != Durability::group) log.gathered_ = true;
        Reactor::current().at_tick_end(log.hook_);
      }),
      writer(of) {}

LogWriter::LogWriter(LogWriterOptions options, LogClient& client)
    : options_(std::move(options)),
      client_(client),
      scope_(nullptr, "log"),
      segment_id_next_(options_.segment_id_next),
      segment_bytes_next_(0),
      builder_(options_.salt),
      position_(options_.position),
      frame_seq_(options_.frame_seq_next),
      seq_next_(options_.seq_next),
      synced_position_(options_.position),
      promised_position_(options_.position),
      record_end_position_(options_.position),
      reopened_(options_.reopened) {
  if (options_.segment_bytes_min == 0) options_.segment_bytes_min = limits::log_segment_bytes_min;
  if (options_.segment_bytes_max == 0) options_.segment_bytes_max = limits::log_segment_bytes_max;
  GYRE_ASSERT(options_.segment_bytes_min >= frame_bytes_max);
  segment_bytes_next_ = options_.segment_bytes_min;
}

LogWriter::~LogWriter() {
  GYRE_ASSERT(!op_.in_flight && framed_.empty() && in_flight_.empty());
}

std::string LogWriter::segment_path(uint64_t id) const {
  return fmt::format("{}/{:06}.log", options_.directory, id);
}

// --- segments -----------------------------------------------------------------------------------

Task<Result<void>> LogWriter::open(std::vector<LogSegment> existing,
                                   std::vector<LogSegment> recyclable) {
  full_.assign(existing.begin(), existing.end());
  recyclable_ = std::move(recyclable);
  for (AlignedBuffer& buffer : buffers_) buffer = AlignedBuffer(frame_bytes_max);
  segment_.base = position_;
  if (Result<void> made = co_await make_spare(); made) {
    GYRE_ASSERT(use_spare_segment());
  } else if (made.error().code == Errc::no_space) {
    note_no_space(made.error());
  } else {
    co_return made;
  }
  opened_ = true;
  open_frame();
  scope_.spawn(prepare_segments());
  if (options_.durability == Durability::interval) scope_.spawn(sync_periodically());
  co_return Result<void>{};
}

// Recycles a segment, or makes one: preallocated and zero-filled, because overwriting written
// blocks changes no file-system metadata. The directory is synced before the segment is used.
Task<Result<void>> LogWriter::make_spare() {
  const uint64_t id = segment_id_next_++;
  uint64_t size = segment_bytes_next_;
  Result<File> file = fail(Errc::not_found);
  if (!recyclable_.empty()) {
    auto largest = std::max_element(
        recyclable_.begin(), recyclable_.end(),
        [](const LogSegment& a, const LogSegment& b) { return a.size_bytes < b.size_bytes; });
    const LogSegment old = *largest;
    recyclable_.erase(largest);
    if (old.size_bytes >= options_.segment_bytes_min) {
      Result<void> renamed = co_await rename_file(segment_path(old.id), segment_path(id));
      if (!renamed) co_return renamed;
      size = old.size_bytes / limits::io_alignment_bytes * limits::io_alignment_bytes;
      file = co_await File::open(segment_path(id), flag_write | flag_direct);
      if (!file) co_return fail(file.error());
    } else {
      static_cast<void>(co_await unlink_file(segment_path(old.id)));
    }
  }
  if (!file) {
    file = co_await make_segment(id, size);
    if (!file) co_return fail(file.error());
    segment_bytes_next_ = std::min(segment_bytes_next_ * 2, options_.segment_bytes_max);
  }
  if (!store_test_faults.skip_segment_directory_sync) {
    if (Result<void> synced = co_await sync_directory(options_.directory); !synced) {
      co_return synced;
    }
  }
  spare_ = std::move(*file);
  spare_segment_ = {id, 0, size};
  spare_ready_ = true;
  co_return Result<void>{};
}

Task<Result<File>> LogWriter::make_segment(uint64_t id, uint64_t size_bytes) {
  const std::string path = segment_path(id);
  Result<File> file =
      co_await File::open(path, flag_write | flag_create | flag_truncate | flag_direct);
  if (!file) co_return fail(file.error());
  Result<void> done = co_await file->allocate(0, size_bytes);
  AlignedBuffer zeros(zero_fill_bytes);
  std::fill_n(zeros.data(), zeros.size(), '\0');
  for (uint64_t at = 0; done && at < size_bytes; at += zeros.size()) {
    const size_t piece = std::min<uint64_t>(zeros.size(), size_bytes - at);
    done = co_await file->write_full(at, {zeros.data(), piece});
  }
  if (done) done = co_await file->sync();
  if (!done) {
    static_cast<void>(co_await file->close());
    static_cast<void>(co_await unlink_file(path));
    Error error = done.error();
    error.detail =
        fmt::format("making {}{}{}", path, error.detail.empty() ? "" : ": ", error.detail);
    co_return fail(std::move(error));
  }
  co_return file;
}

// Keeps one spare ahead of the writer.
Task<void> LogWriter::prepare_segments() {
  for (;;) {
    while (spare_ready_) {
      spare_wanted_.reset();
      if (!co_await spare_wanted_.wait()) co_return;
    }
    if (failed_) co_return;
    Result<void> made = co_await make_spare();
    if (!made && made.error().code == Errc::no_space) {
      note_no_space(made.error());
      client_.log_waits_for_space();
      Reactor::current().at_tick_end(hook_);
      if (!co_await sleep_for(space_pause)) co_return;
      continue;
    }
    if (!made) {
      give_up(made.error());
      co_return;
    }
    space_error_.reset();
    Reactor::current().at_tick_end(hook_);
  }
}

// Nothing is lost: what is under way has the rest of the segment, and waits if that is not enough.
// Whoever owns the log asks waits_for_space() before it takes more.
void LogWriter::note_no_space(const Error& error) {
  if (!space_error_) {
    Reactor::current().log("warn",
                           fmt::format("event=log_without_space reason=\"{}\"", error.message()));
  }
  space_error_ = error;
  segment_bytes_next_ = options_.segment_bytes_min;
}

bool LogWriter::use_spare_segment() {
  if (!spare_ready_) return false;
  if (current_.is_open()) {
    full_.push_back(segment_);
    if (options_.durability != Durability::group) unsynced_.push_back(std::move(current_));
  }
  current_ = std::move(spare_);
  spare_ = File();
  segment_ = spare_segment_;
  segment_.base = position_;
  segment_offset_ = 0;
  spare_ready_ = false;
  spare_wanted_.set();
  return true;
}

void LogWriter::release_before(uint64_t position) {
  while (!full_.empty()) {
    const uint64_t end = full_.size() > 1 ? full_[1].base : segment_.base;
    if (end > position) break;
    recyclable_.push_back(full_.front());
    full_.pop_front();
  }
  while (recyclable_.size() > recyclable_segments_max) {
    scope_.spawn(remove_segment(segment_path(recyclable_.front().id)));
    recyclable_.erase(recyclable_.begin());
  }
}

Task<void> LogWriter::remove_segment(std::string path) {
  static_cast<void>(co_await unlink_file(std::move(path)));  // gone or recycled at the next open
}

uint64_t LogWriter::disk_bytes() const {
  uint64_t bytes = segment_.size_bytes + (spare_ready_ ? spare_segment_.size_bytes : 0);
  for (const LogSegment& segment : full_) bytes += segment.size_bytes;
  for (const LogSegment& segment : recyclable_) bytes += segment.size_bytes;
  return bytes;
}

// --- frames -------------------------------------------------------------------------------------

void LogWriter::open_frame() {
  builder_.begin(buffers_[open_buffer_].data(), frame_bytes_max, seq_next_);
}

bool LogWriter::try_append(LogWrite& write) {
  GYRE_ASSERT(!failed_ && !closing_);
  if (!queue_.empty() || write.record.body_bytes() > whole_record_bytes_max ||
      !builder_.fits(write.record)) {
    return false;
  }
  builder_.add_whole(seq_next_, write.record);
  record_ended(write);
  Reactor::current().at_tick_end(hook_);
  return true;
}

void LogWriter::enqueue(LogWrite& write) {
  GYRE_ASSERT(!failed_ && !closing_);
  if (write.record.body_bytes() > whole_record_bytes_max) {
    write.fragments_ = FragmentCursor(record_id_next_++, write.record);
    write.first_position_ = not_started;
    large_.push(write);
  } else {
    queue_.push(write);
  }
  Reactor::current().at_tick_end(hook_);
}

void LogWriter::record_ended(LogWrite& write) {
  write.seq = seq_next_++;
  ++stats_.records;
  stats_.record_bytes += write.record.body_bytes();
  if (options_.durability == Durability::group) {
    framed_.push(write);
    client_.logged(write);
    if (store_test_faults.show_before_durable) client_.committed(write.seq);
    return;
  }
  client_.logged(write);
  client_.committed(write.seq);
  client_.completed(write, Errc::ok);
}

// Small records first; the large ones get what is left of the frame.
void LogWriter::fill_frame() {
  while (!queue_.empty() && builder_.fits(queue_.head->record)) {
    LogWrite& write = queue_.pop();
    builder_.add_whole(seq_next_, write.record);
    record_ended(write);
  }
  while (!large_.empty() && builder_.fits_fragment()) {
    LogWrite& write = *large_.head;
    if (write.first_position_ == not_started) write.first_position_ = position_;
    if (!builder_.add_fragment(write.fragments_, seq_next_, write.record)) continue;
    large_.pop();
    record_ended(write);
  }
}

uint64_t LogWriter::position_floor() const {
  if (!large_.empty() && large_.head->first_position_ != not_started) {
    return std::min(position_, large_.head->first_position_);
  }
  return position_;
}

bool LogWriter::awaits_older(std::string_view key, Version version) const {
  for (const LogWriteQueue* queue : {&queue_, &large_}) {
    for (const LogWrite* write = queue->head; write != nullptr; write = write->next) {
      if (write->record.key == key && write->record.version < version) return true;
    }
  }
  return false;
}

// Whether the open frame waits for more records: because nobody waits for it, or for those that the
// frame before has answered.
bool LogWriter::gathers_on() noexcept {
  if (gathered_ || !queue_.empty() || !large_.empty()) return false;
  if (options_.durability == Durability::group) return gathers_on_after_frame();
  if (builder_.payload_bytes() >= gather_bytes) return false;
  Reactor& reactor = Reactor::current();
  if (!gather_timer_.armed()) reactor.arm(gather_timer_, reactor.now() + gather_time_max);
  return true;
}

// The clients that the frame before has answered are about to ask again, and a frame costs as much
// CPU as several requests. Each tick that brought records is followed by another one at once; the
// first that brings none ends it, so a core with nothing else to do writes without delay.
bool LogWriter::gathers_on_after_frame() noexcept {
  if (gather_end_ == 0) return false;
  if (gather_timer_.armed()) return true;  // the tick that it waits for is still to come
  Reactor& reactor = Reactor::current();
  const size_t bytes = std::exchange(gather_bytes_seen_, builder_.payload_bytes());
  if (bytes == gather_bytes_seen_ || reactor.now() >= gather_end_) return false;
  reactor.arm(gather_timer_, reactor.now());
  return true;
}

void LogWriter::commit() noexcept {
  if (writing_ || failed_ || !opened_) return;
  fill_frame();
  // A frame can vouch for what is synced, nothing else.
  const bool promise = std::exchange(promise_wanted_, false) &&
                       record_end_position_ > promised_position_ &&
                       synced_position_ > promised_position_;
  if (builder_.empty() && !promise) return;
  if (!promise && gathers_on()) return;
  const size_t size = padded_frame_bytes(builder_.payload_bytes());
  if (segment_offset_ + size > segment_.size_bytes && !use_spare_segment()) {
    ++stats_.waits_for_segment;
    promise_wanted_ = promise;
    if (ending_ && space_error_) return give_up(*space_error_);
    spare_wanted_.set();
    return;  // prepare_segments brings us back
  }
  gathered_ = false;
  gather_end_ = 0;
  Reactor::current().disarm(gather_timer_);
  const bool has_entries = !builder_.empty();
  const size_t sealed = builder_.seal({.segment_id = segment_.id,
                                       .frame_seq = frame_seq_++,
                                       .position = position_,
                                       .synced_position = synced_position_,
                                       .reopened = std::exchange(reopened_, false)});
  GYRE_ASSERT(sealed == size);
  promised_position_ = synced_position_;
  position_ += size;
  if (has_entries) record_end_position_ = position_;
  in_flight_.take_all(framed_);
  submit_frame(size);
  open_buffer_ ^= 1;
  open_frame();
  if (store_test_faults.acknowledge_before_written) finish_in_flight();
}

void LogWriter::submit_frame(size_t size_bytes) noexcept {
  ++stats_.frames;
  stats_.written_bytes += size_bytes;
  writing_ = true;
  op_bytes_ = size_bytes;
  op_done_bytes_ = 0;
  op_.code = OpCode::write;
  const bool synced = options_.durability == Durability::group && !store_test_faults.skip_log_sync;
  op_.flags = synced ? flag_dsync : 0;
  op_.fd = current_.fd();
  op_.data = buffers_[open_buffer_].data();
  op_.len = static_cast<uint32_t>(size_bytes);
  op_.offset = segment_offset_;
  op_.on_complete = &LogWriter::on_written;
  segment_offset_ += size_bytes;
  Reactor::current().submit(op_);
}

void LogWriter::on_written(Op& op, Completion completion) noexcept {
  LogWriter& log = static_cast<WriteOp&>(op).writer;
  Reactor& reactor = Reactor::current();
  log.op_result_ = completion.result;
  log.written_.run = &LogWriter::run_written;
  reactor.schedule(log.written_);
}

void LogWriter::run_written(Runnable& self) noexcept {
  static_cast<Written&>(self).writer.written();
}

void LogWriter::written() noexcept {
  Reactor& reactor = Reactor::current();
  if (failed_) {  // while the write was under way; its records were answered then
    writing_ = false;
    idle_.set();
    return;
  }
  if (op_result_ == -EINTR || op_result_ == -EAGAIN) op_result_ = 0;
  if (op_result_ < 0) {
    writing_ = false;
    idle_.set();
    give_up(Error::from_errno(-op_result_, "write to " + segment_path(segment_.id)));
    return;
  }
  const size_t aligned =
      static_cast<size_t>(op_result_) / limits::io_alignment_bytes * limits::io_alignment_bytes;
  op_done_bytes_ += aligned;
  if (op_done_bytes_ < op_bytes_) {
    if (aligned == 0 && ++no_progress_ > 100) {
      writing_ = false;
      idle_.set();
      give_up(Error::of(Errc::io, "writes to " + segment_path(segment_.id) + " make no progress"));
      return;
    }
    op_.data = static_cast<char*>(op_.data) + aligned;
    op_.len -= static_cast<uint32_t>(aligned);
    op_.offset += aligned;
    reactor.submit(op_);
    return;
  }
  no_progress_ = 0;
  writing_ = false;
  written_position_ = position_;
  if (options_.durability == Durability::group) {
    synced_position_ = position_;
    finish_in_flight();
    if (!builder_.empty() && !closing_) {
      gather_end_ = reactor.now() + gather_after_frame_time_max;
      gather_bytes_seen_ = builder_.payload_bytes();
      reactor.arm(gather_timer_, reactor.now());
    }
  }
  if (record_end_position_ > promised_position_ && !idle_timer_.armed()) {
    reactor.arm(idle_timer_, reactor.now() + idle_promise_delay);
  }
  reactor.at_tick_end(hook_);
  idle_.set();
}

// Shows and answers everything that the frame held.
void LogWriter::finish_in_flight() noexcept {
  if (in_flight_.empty()) return;
  client_.committed(in_flight_.tail->seq);
  LogWriteQueue done;
  done.take_all(in_flight_);
  while (!done.empty()) client_.completed(done.pop(), Errc::ok);
}

void LogWriter::give_up(Error error) noexcept {
  if (failed_) return;
  failed_ = true;
  client_.log_failed(error);
  // The frame under way may be on the disk, whole; nothing is written after it.
  LogWriteQueue unknown;
  unknown.take_all(in_flight_);
  LogWriteQueue lost;
  lost.take_all(framed_);
  lost.take_all(large_);
  lost.take_all(queue_);
  while (!unknown.empty()) client_.completed(unknown.pop(), Errc::io);
  while (!lost.empty()) client_.completed(lost.pop(), Errc::read_only);
  spare_wanted_.set();
  idle_.set();
}

// --- other durabilities, end --------------------------------------------------------------------

Task<Result<void>> LogWriter::sync_written() {
  const uint64_t through = written_position_;
  while (!unsynced_.empty()) {
    if (Result<void> synced = co_await unsynced_.front().sync_data(); !synced) co_return synced;
    static_cast<void>(co_await unsynced_.front().close());
    unsynced_.pop_front();
  }
  if (Result<void> synced = co_await current_.sync_data(); !synced) co_return synced;
  synced_position_ = std::max(synced_position_, through);
  Reactor& reactor = Reactor::current();
  if (record_end_position_ > promised_position_ && !idle_timer_.armed() && !closing_) {
    reactor.arm(idle_timer_, reactor.now() + idle_promise_delay);
  }
  co_return Result<void>{};
}

Task<void> LogWriter::sync_periodically() {
  while (co_await sleep_for(options_.sync_interval)) {
    if (failed_) co_return;
    if (written_position_ <= synced_position_) continue;
    if (Result<void> synced = co_await sync_written(); !synced) {
      give_up(synced.error());
      co_return;
    }
  }
}

Task<Result<void>> LogWriter::close() {
  Reactor& reactor = Reactor::current();
  // What is queued goes out first, then the promise.
  ending_ = true;
  while (!failed_ && (writing_ || !builder_.empty() || !queue_.empty() || !large_.empty())) {
    idle_.reset();
    gathered_ = true;
    reactor.at_tick_end(hook_);
    co_await detail::Uninterrupted{idle_};
  }
  closing_ = true;
  reactor.disarm(idle_timer_);
  reactor.disarm(gather_timer_);
  scope_.request_stop();
  co_await scope_.join();
  Result<void> result{};
  if (!failed_ && current_.is_open()) {
    if (options_.durability != Durability::group) result = co_await sync_written();
    promise_wanted_ = true;
    commit();
  }
  while (writing_) {  // also of a log that has failed: the write owns the buffer and the file
    idle_.reset();
    co_await detail::Uninterrupted{idle_};
  }
  reactor.disarm(idle_timer_);
  reactor.cancel_hook(hook_);
  opened_ = false;
  while (!unsynced_.empty()) {
    static_cast<void>(co_await unsynced_.front().close());
    unsynced_.pop_front();
  }
  if (current_.is_open()) static_cast<void>(co_await current_.close());
  if (spare_.is_open()) static_cast<void>(co_await spare_.close());
  if (failed_ && result) result = fail(Errc::read_only, "the log had failed before");
  co_return result;
}

}  // namespace gyre
