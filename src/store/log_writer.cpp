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
// Of a frame in flight, before another goes beside it. Stalls that are shorter than 5 ms are not
// worth a frame, and noticed by nobody.
constexpr Nanos patience_min = milliseconds(5);
constexpr int patience_times_usual = 4;
// A share of a buffer that a frame may begin in: a record in one piece must fit.
constexpr size_t frame_room_min = frame_bytes_max / 2;
static_assert(frame_room_min > whole_record_bytes_max + limits::io_alignment_bytes);
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

LogWriter::LateTimer::LateTimer(LogWriter& of)
    : Timer([](Timer& self) noexcept {
        Reactor::current().at_tick_end(static_cast<LateTimer&>(self).writer.hook_);
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
  for (Frame& frame : frames_) {
    frame.writer = this;
    frame.code = OpCode::write;
    frame.on_complete = &LogWriter::on_written;
    frame.run = &LogWriter::run_written;
  }
}

LogWriter::~LogWriter() {
  GYRE_ASSERT(frames_in_flight_ == 0 && framed_.empty());
}

std::string LogWriter::segment_path(uint64_t id) const {
  return fmt::format("{}/{:06}.log", options_.directory, id);
}

// --- segments -----------------------------------------------------------------------------------

Task<Result<void>> LogWriter::open(std::vector<LogSegment> existing,
                                   std::vector<LogSegment> recyclable) {
  full_.assign(existing.begin(), existing.end());
  recyclable_ = std::move(recyclable);
  buffers_[0].memory = AlignedBuffer(frame_bytes_max);
  buffers_[1].memory = AlignedBuffer(frame_bytes_max);
  buffers_[2].memory = AlignedBuffer(frame_room_min);  // for frames behind two in flight
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
  Buffer* const buffer = buffer_for_next(0);
  GYRE_ASSERT(buffer != nullptr);
  if (buffer->frames == 0) buffer->used_bytes = 0;
  open_buffer_ = static_cast<unsigned>(buffer - buffers_);
  builder_.begin(buffer->memory.data() + buffer->used_bytes, buffer->room(), seq_next_);
}

// Where a frame may begin behind the open one, if that takes so many bytes; 0: it is sealed.
LogWriter::Buffer* LogWriter::buffer_for_next(size_t open_frame_bytes) noexcept {
  Buffer* most = nullptr;
  size_t most_bytes = frame_room_min - 1;
  for (Buffer& buffer : buffers_) {
    size_t room = buffer.room();
    if (open_frame_bytes != 0 && &buffer == &buffers_[open_buffer_]) {
      room = buffer.memory.size() - buffer.used_bytes - open_frame_bytes;
    }
    if (room <= most_bytes) continue;
    most = &buffer;
    most_bytes = room;
  }
  return most;
}

bool LogWriter::try_append(LogWrite& write) {
  GYRE_ASSERT(!failed_ && !closing_);
  if (has_queue() || write.record.body_bytes() > whole_record_bytes_max ||
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
  if (!write.record.deferred && write.record.body_bytes() > whole_record_bytes_max) {
    begin_large(write);
  } else {
    queue_.push(write);
  }
  Reactor::current().at_tick_end(hook_);
}

void LogWriter::begin_large(LogWrite& write) {
  write.fragments_ = FragmentCursor(record_id_next_++, write.record);
  write.first_position_ = not_started;
  large_.push(write);
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

void LogWriter::fill_from_queue() {
  if (!postponed_.empty()) {
    postponed_.take_all(queue_);
    queue_.take_all(postponed_);
  }
  while (!queue_.empty() && take_head()) continue;
}

// Only when the frame is about to go: the small ones come first.
void LogWriter::fill_from_large() {
  while (!large_.empty() && builder_.fits_fragment()) {
    LogWrite& write = *large_.head;
    if (write.first_position_ == not_started) write.first_position_ = position_;
    if (!builder_.add_fragment(write.fragments_, seq_next_, write.record)) continue;
    large_.pop();
    record_ended(write);
  }
}

// Puts the head of the queue where it belongs. False: there is no room for it.
bool LogWriter::take_head() {
  if (queue_.head->record.deferred) {
    LogWrite& write = queue_.pop();
    const LogClient::Prepared prepared = client_.prepare(write);
    if (prepared == LogClient::Prepared::later) postponed_.push(write);
    if (prepared != LogClient::Prepared::ready) return true;
    write.record.deferred = false;
    if (write.record.body_bytes() > whole_record_bytes_max) {
      begin_large(write);
      return true;
    }
    queue_.push_front(write);
  }
  if (!builder_.fits(queue_.head->record)) return false;
  LogWrite& write = queue_.pop();
  builder_.add_whole(seq_next_, write.record);
  record_ended(write);
  return true;
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
      if (!write->record.deferred && write->record.key == key && write->record.version < version)
        return true;
    }
  }
  return false;
}

bool LogWriter::awaits_large(std::string_view key) const {
  for (const LogWrite* write = large_.head; write != nullptr; write = write->next) {
    if (write->record.key == key) return true;
  }
  return false;
}

// Whether the open frame waits for more records: because nobody waits for it, or for those that the
// frame before has answered.
bool LogWriter::gathers_on() noexcept {
  if (gathered_ || has_queue() || !large_.empty()) return false;
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

// When the newest frame in flight is late.
Nanos LogWriter::late_at() const noexcept {
  const Nanos patience = options_.frame_patience != 0
                             ? options_.frame_patience
                             : std::max(patience_min, patience_times_usual * usual_time_);
  return newest().sent_at + (patience << (frames_in_flight_ - 1));
}

// Whether the open frame goes though another is under way.
bool LogWriter::goes_beside() noexcept {
  if (builder_.empty() && large_.empty()) return false;
  if (frames_in_flight_ == frames_in_flight_max) return false;
  const bool full = !queue_.empty() && frames_in_flight_ == 1;
  const bool late =
      options_.durability == Durability::group && Reactor::current().now() >= late_at();
  if (!full && !late) return false;
  if (!large_.empty()) return buffer_for_next(builder_.capacity_bytes()) != nullptr;
  return buffer_for_next(padded_frame_bytes(builder_.payload_bytes())) != nullptr;
}

void LogWriter::commit() noexcept {
  while (!failed_ && opened_ && send_frame()) {
  }
}

// Sends the open frame if it is to go now.
bool LogWriter::send_frame() noexcept {
  fill_from_queue();
  const bool beside = frames_in_flight_ != 0;
  if (beside && !goes_beside()) return false;
  fill_from_large();
  // A frame can vouch for what is synced, nothing else.
  const bool promise = !beside && std::exchange(promise_wanted_, false) &&
                       record_end_position_ > promised_position_ &&
                       synced_position_ > promised_position_;
  if (builder_.empty() && !promise) {
    if (ending_) idle_.set();  // what was queued may have been deferred, and gone
    return false;
  }
  if (!beside && !promise && gathers_on()) return false;
  const size_t size = padded_frame_bytes(builder_.payload_bytes());
  if (segment_offset_ + size > segment_.size_bytes) {
    if (beside) return false;
    if (!use_spare_segment()) {
      ++stats_.waits_for_segment;
      promise_wanted_ = promise;
      if (ending_ && space_error_) {
        give_up(*space_error_);
      } else {
        spare_wanted_.set();  // prepare_segments brings us back
      }
      return false;
    }
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
  stats_.frames_beside += beside;
  Frame& frame = submit_frame(size);
  open_frame();
  if (store_test_faults.acknowledge_before_written) finish(frame.writes);
  return true;
}

// Of the open frame, sealed.
LogWriter::Frame& LogWriter::submit_frame(size_t size_bytes) noexcept {
  Reactor& reactor = Reactor::current();
  ++stats_.frames;
  stats_.written_bytes += size_bytes;
  const bool group = options_.durability == Durability::group;
  Buffer& buffer = buffers_[open_buffer_];
  Frame& frame = in_flight(frames_in_flight_++);
  frame.writes.take_all(framed_);
  frame.end_position = position_;
  frame.sent_at = reactor.now();
  frame.buffer = open_buffer_;
  frame.no_progress = 0;
  frame.landed = false;
  frame.flags = group && !store_test_faults.skip_log_sync ? flag_dsync : 0;
  frame.fd = current_.fd();
  frame.data = buffer.memory.data() + buffer.used_bytes;
  frame.len = static_cast<uint32_t>(size_bytes);
  frame.offset = segment_offset_;
  buffer.used_bytes += size_bytes;
  ++buffer.frames;
  segment_offset_ += size_bytes;
  reactor.submit(frame);
  if (group) reactor.arm(late_timer_, late_at());
  return frame;
}

void LogWriter::on_written(Op& op, Completion completion) noexcept {
  Frame& frame = static_cast<Frame&>(op);
  frame.result = completion.result;
  Reactor::current().schedule(frame);
}

void LogWriter::run_written(Runnable& self) noexcept {
  Frame& frame = static_cast<Frame&>(self);
  frame.writer->written(frame);
}

// After a part of the frame was written. False: it is written whole, or the log has ended.
bool LogWriter::goes_on(Frame& frame) noexcept {
  if (frame.result == -EINTR || frame.result == -EAGAIN) frame.result = 0;
  if (frame.result < 0) {
    give_up(Error::from_errno(-frame.result, "write to " + segment_path(segment_.id)));
    return false;
  }
  const auto aligned =
      static_cast<uint32_t>(frame.result) / limits::io_alignment_bytes * limits::io_alignment_bytes;
  if (aligned >= frame.len) return false;
  if (aligned == 0 && ++frame.no_progress > 100) {
    give_up(Error::of(Errc::io, "writes to " + segment_path(segment_.id) + " make no progress"));
    return false;
  }
  frame.data = static_cast<char*>(frame.data) + aligned;
  frame.len -= static_cast<uint32_t>(aligned);
  frame.offset += aligned;
  Reactor::current().submit(frame);
  return true;
}

void LogWriter::written(Frame& frame) noexcept {
  // A log that has failed only waits for its buffers; the records were answered then.
  if (!failed_ && goes_on(frame)) return;
  Reactor& reactor = Reactor::current();
  frame.landed = true;
  if (!failed_) note_time(reactor.now() - frame.sent_at);
  if (store_test_faults.trust_later_frame) {
    for (unsigned i = 0; &in_flight(i) != &frame; ++i) finish(in_flight(i).writes);
    finish(frame.writes);
  }
  while (frames_in_flight_ != 0 && in_flight(0).landed) land_oldest();
  idle_.set();
  if (frames_in_flight_ == 0) reactor.disarm(late_timer_);
  if (failed_) return;
  if (frames_in_flight_ != 0) {
    if (options_.durability == Durability::group) reactor.arm(late_timer_, late_at());
  } else if (options_.durability == Durability::group && !builder_.empty() && !closing_) {
    gather_end_ = reactor.now() + gather_after_frame_time_max;
    gather_bytes_seen_ = builder_.payload_bytes();
    reactor.arm(gather_timer_, reactor.now());
  }
  if (record_end_position_ > promised_position_ && !idle_timer_.armed()) {
    reactor.arm(idle_timer_, reactor.now() + idle_promise_delay);
  }
  reactor.at_tick_end(hook_);
}

// A stall counts as twice the usual time: it comes to be usual only if most frames take as long.
void LogWriter::note_time(Nanos took) noexcept {
  if (usual_time_ == 0) usual_time_ = std::min(took, patience_min);
  usual_time_ += (std::min(took, 2 * usual_time_) - usual_time_) / 16;
}

// It and everything before is written.
void LogWriter::land_oldest() noexcept {
  Frame& frame = in_flight(0);
  oldest_frame_ = (oldest_frame_ + 1) % frames_in_flight_max;
  --frames_in_flight_;
  --buffers_[frame.buffer].frames;
  if (failed_) return;
  written_position_ = frame.end_position;
  if (options_.durability != Durability::group) return;
  synced_position_ = frame.end_position;
  finish(frame.writes);
}

// Shows and answers everything that a frame held.
void LogWriter::finish(LogWriteQueue& writes) noexcept {
  if (writes.empty()) return;
  client_.committed(writes.tail->seq);
  LogWriteQueue done;
  done.take_all(writes);
  while (!done.empty()) client_.completed(done.pop(), Errc::ok);
}

void LogWriter::give_up(Error error) noexcept {
  if (failed_) return;
  failed_ = true;
  client_.log_failed(error);
  // The frames under way may be on the disk, whole; nothing is written after them.
  LogWriteQueue unknown;
  for (unsigned i = 0; i < frames_in_flight_; ++i) unknown.take_all(in_flight(i).writes);
  LogWriteQueue lost;
  lost.take_all(framed_);
  lost.take_all(large_);
  lost.take_all(postponed_);
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
  while (!failed_ &&
         (frames_in_flight_ != 0 || !builder_.empty() || has_queue() || !large_.empty())) {
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
  // Also of a log that has failed: the writes own the buffers and the file.
  while (frames_in_flight_ != 0) {
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
