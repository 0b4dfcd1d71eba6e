// The write-ahead log of one shard: group commit into recycled segments (format: log_format.hpp).
//
// A write is encoded into the open frame at once, while its bytes are at hand. At the end of the
// tick, if no frame is in flight, the open one is sealed and written with one O_DIRECT + DSYNC
// write; everything that arrives meanwhile is the next frame. So the number of writes follows the
// disk's latency, not the number of requests, and nobody waits for a timer.
//
//   append ──> open frame ──seal──> in flight ──written──> committed(seq)
//      └─ no room: queue ──────────────┘ (refilled from the queue when the next frame opens)
//
// On a disk that stalls, who comes meanwhile would wait for the frame in flight and then for one of
// their own. So the open frame goes beside it, without waiting for more,
//   - with group, when the newest in flight has been under way for four times as long as frames
//     usually are, 5 ms at least; the third and the fourth frame each after twice the time of the
//     one before. Unless the disk stalls there are no more frames than without this. In a stall
//     there are a few: who comes waits for the rest of a gap and for a frame of their own, and not
//     for the rest of the stall and then, as stalls come in rows, for all of the next one.
//   - when it is full and records queue for room, so that it can't grow any more: the second one
//     only.
// A frame that lands before an older one is committed with it. A power cut in between leaves a
// whole frame behind a lost one. That is a torn tail as any other: neither was answered, neither
// promises the other, and the log goes on in a new segment, where nothing can follow what is lost
// but what comes next (log_reader.hpp).
//
// With durability interval or none nobody waits for the disk either: a record is committed as soon
// as it is encoded, and a frame is written when it is worth a write or a moment old, because one
// costs as much CPU as several requests. So a killed process may lose that moment, too.
//
// With group, a frame whose records waited for the one before waits for what the answers to that
// one bring: as long as every tick brings more records, and not for long.
//
// Records that fit no frame go in by fragments, using what the small ones leave of each frame.
//
// Invariants
//   - frames in flight lie in one segment, at positions without a gap, and are sent in order: the
//     first of a segment is sent when everything before it is written
//   - a record takes its seq when its last byte is encoded; `logged` is called then, in seq order;
//     `committed` is called in seq order when its frame is durable (group), or at once after
//     `logged` (interval, none)
//   - the promise in a frame never exceeds what is known to be durable
//   - the first error of any frame ends the log: every write that is not committed by then fails,
//     nothing is retried, because after a failed sync the kernel may have dropped what it could not
//     write
//   - the spare segment is made ahead; recycled ones are reused, so that in steady state no
//     frame waits for the file system
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include <gyre/file.hpp>
#include <gyre/reactor.hpp>
#include <gyre/result.hpp>
#include <gyre/scope.hpp>
#include <gyre/store_options.hpp>
#include <gyre/sync.hpp>

#include "store/frame_builder.hpp"
#include "store/write_record.hpp"

namespace gyre {

// One write in the log. Intrusive; must not move or die between append and its completion.
struct LogWrite {
  WriteRecord record;
  uint64_t seq = 0;
  LogWrite* next = nullptr;

 private:
  friend class LogWriter;
  FragmentCursor fragments_;
  uint64_t first_position_ = 0;
};

struct LogWriteQueue {
  LogWrite* head = nullptr;
  LogWrite* tail = nullptr;
  bool empty() const { return head == nullptr; }
  void push(LogWrite& write) {
    write.next = nullptr;
    (tail != nullptr ? tail->next : head) = &write;
    tail = &write;
  }
  void push_front(LogWrite& write) {
    write.next = head;
    head = &write;
    if (tail == nullptr) tail = &write;
  }
  LogWrite& pop() {
    LogWrite& write = *head;
    head = write.next;
    if (head == nullptr) tail = nullptr;
    return write;
  }
  void take_all(LogWriteQueue& from) {
    if (from.empty()) return;
    (tail != nullptr ? tail->next : head) = from.head;
    tail = from.tail;
    from.head = from.tail = nullptr;
  }
};

// Who owns the writes.
class LogClient {
 public:
  virtual ~LogClient() = default;
  enum class Prepared : uint8_t {
    ready,  // the record is complete
    later,  // a large record that is under way has to come first
    gone,   // it isn't the log's any more
  };
  // It's the turn of a deferred write: everything before it is logged, but for large records.
  virtual Prepared prepare(LogWrite&) noexcept { return Prepared::ready; }
  // The record has its place and seq: it may be applied, but not be shown to readers yet.
  virtual void logged(LogWrite& write) noexcept = 0;
  // Everything up to `seq` may be shown; called before `completed` of those writes.
  virtual void committed(uint64_t seq) noexcept = 0;
  // Errc::io: the log failed while the record was on its way to the disk; whether it is there shows
  // at the next start. Errc::read_only: it failed before, the record is not there.
  virtual void completed(LogWrite& write, Errc status) noexcept = 0;
  // The log has ended; `completed` follows for every write.
  virtual void log_failed(const Error& error) noexcept = 0;
  // The disk has no room for the next segment (LogWriter::waits_for_space).
  virtual void log_waits_for_space() noexcept {}
};

struct LogWriterOptions {
  std::string directory;
  uint64_t salt = 0;
  Durability durability = Durability::group;
  Nanos sync_interval = milliseconds(100);
  uint64_t segment_bytes_min = 0;  // 0: limits::log_segment_bytes_min
  uint64_t segment_bytes_max = 0;
  // How long a frame is under way before another one goes beside it; 0: by the disk's usual time.
  Nanos frame_patience = 0;
  // Where an earlier life ended (LogEnd), or the beginning.
  uint64_t position = 0;
  uint64_t segment_id_next = 1;
  uint64_t frame_seq_next = 1;
  uint64_t seq_next = 1;
  bool reopened = false;
};

// A segment that holds records, oldest first.
struct LogSegment {
  uint64_t id = 0;
  uint64_t base = 0;  // log position of its first byte
  uint64_t size_bytes = 0;
};

struct LogStats {
  uint64_t frames = 0;
  uint64_t frames_beside = 0;  // sent while another one was in flight
  uint64_t records = 0;
  uint64_t record_bytes = 0;   // keys and values
  uint64_t written_bytes = 0;  // frames, padding included: log amplification = written / record
  uint64_t waits_for_segment = 0;
};

class LogWriter {
 public:
  LogWriter(LogWriterOptions options, LogClient& client);
  ~LogWriter();
  LogWriter(const LogWriter&) = delete;
  LogWriter& operator=(const LogWriter&) = delete;

  // Prepares the first segment; if the disk has no room for one the log waits for it
  // (waits_for_space), and records find none until then. `existing`: segments of the recovered chain, oldest first, kept
  // until release_before; `recyclable`: segment files that hold nothing any more.
  Task<Result<void>> open(std::vector<LogSegment> existing, std::vector<LogSegment> recyclable);
  // Writes what is queued, then an empty frame that promises it, and closes.
  Task<Result<void>> close();

  // Encodes the write if the open frame has room; the caller's bytes are then no longer needed,
  // and logged() was called, with interval and none completed() too. Otherwise answers false: make
  // the bytes live until `logged`, then call enqueue.
  bool try_append(LogWrite& write);
  void enqueue(LogWrite& write);
  // Whether others wait for room: a deferred write has to be enqueued, and is prepared when its
  // turn comes. Without it the caller prepares and appends.
  bool has_queue() const { return !queue_.empty() || !postponed_.empty(); }

  // No record that takes a seq from now on has a byte before this position.
  uint64_t position_floor() const;
  // Whether a write of `key` that is not logged yet has a version below `version`.
  bool awaits_older(std::string_view key, Version version) const;
  // Whether a large record of `key` is under way.
  bool awaits_large(std::string_view key) const;
  // Segments that end at or before `position` may be recycled.
  void release_before(uint64_t position);

  uint64_t seq_next() const { return seq_next_; }
  uint64_t synced_position() const { return synced_position_; }
  uint64_t position() const { return position_; }
  bool failed() const { return failed_; }
  // The disk has no room for the next segment: what is taken from now on may have to wait until it
  // has. Looked for again and again.
  bool waits_for_space() const { return space_error_.has_value(); }
  const std::optional<Error>& space_error() const { return space_error_; }
  const LogStats& stats() const { return stats_; }
  // Bytes of the files.
  uint64_t disk_bytes() const;

 private:
  static constexpr uint64_t not_started = UINT64_MAX;
  static constexpr unsigned frames_in_flight_max = 4;
  // A frame on its way to the disk.
  struct Frame : Op, Runnable {
    LogWriter* writer = nullptr;
    LogWriteQueue writes;  // that ended in it
    uint64_t end_position = 0;
    Nanos sent_at = 0;
    unsigned buffer = 0;
    unsigned no_progress = 0;
    int32_t result = 0;
    bool landed = false;
  };
  // Frames in flight, one behind the other, and perhaps the open one behind them.
  struct Buffer {
    AlignedBuffer memory;
    size_t used_bytes = 0;
    unsigned frames = 0;  // in flight
    size_t room() const { return frames == 0 ? memory.size() : memory.size() - used_bytes; }
  };
  struct CommitHook : TickHook {
    explicit CommitHook(LogWriter& of);
    LogWriter& writer;
  };
  struct IdleTimer : Timer {
    explicit IdleTimer(LogWriter& of);
    LogWriter& writer;
  };
  struct GatherTimer : Timer {
    explicit GatherTimer(LogWriter& of);
    LogWriter& writer;
  };
  struct LateTimer : Timer {
    explicit LateTimer(LogWriter& of);
    LogWriter& writer;
  };

  static void on_written(Op& op, Completion completion) noexcept;
  static void run_written(Runnable& self) noexcept;
  void written(Frame& frame) noexcept;
  bool goes_on(Frame& frame) noexcept;
  void note_time(Nanos took) noexcept;
  void land_oldest() noexcept;
  void open_frame();
  Buffer* buffer_for_next(size_t open_frame_bytes) noexcept;
  void fill_from_queue();
  bool take_head();
  void begin_large(LogWrite& write);
  void fill_from_large();
  void record_ended(LogWrite& write);
  void commit() noexcept;
  bool send_frame() noexcept;
  bool gathers_on() noexcept;
  bool gathers_on_after_frame() noexcept;
  bool goes_beside() noexcept;
  Nanos late_at() const noexcept;
  Frame& in_flight(unsigned index) {
    return frames_[(oldest_frame_ + index) % frames_in_flight_max];
  }
  const Frame& newest() const {
    return frames_[(oldest_frame_ + frames_in_flight_ - 1) % frames_in_flight_max];
  }
  Frame& submit_frame(size_t size_bytes) noexcept;
  void finish(LogWriteQueue& writes) noexcept;
  void give_up(Error error) noexcept;
  bool use_spare_segment();
  Task<void> prepare_segments();
  void note_no_space(const Error& error);
  Task<Result<void>> make_spare();
  Task<void> remove_segment(std::string path);
  Task<Result<void>> sync_written();
  Task<Result<File>> make_segment(uint64_t id, uint64_t size_bytes);
  Task<void> sync_periodically();
  std::string segment_path(uint64_t id) const;

  LogWriterOptions options_;
  LogClient& client_;
  Scope scope_;
  LogStats stats_;

  // Segments.
  File current_;
  LogSegment segment_;  // the one being written
  uint64_t segment_offset_ = 0;
  std::deque<LogSegment> full_;
  std::vector<LogSegment> recyclable_;
  std::deque<File> unsynced_;  // full segments not synced yet (interval, none)
  File spare_;
  LogSegment spare_segment_;
  bool spare_ready_ = false;
  bool opened_ = false;  // and not closed
  Event spare_wanted_;
  uint64_t segment_id_next_;
  uint64_t segment_bytes_next_;

  // Frames.
  Buffer buffers_[3];
  unsigned open_buffer_ = 0;  // the open frame begins at its used_bytes
  Frame frames_[frames_in_flight_max];
  unsigned oldest_frame_ = 0;
  unsigned frames_in_flight_ = 0;  // from oldest_frame_ on, in order, round the array
  Nanos usual_time_ = 0;           // of a frame on its way
  FrameBuilder builder_;
  uint64_t position_ = 0;  // of the open frame
  uint64_t frame_seq_;
  uint64_t seq_next_;
  uint64_t synced_position_ = 0;
  uint64_t promised_position_ = 0;
  uint64_t record_end_position_ = 0;  // end of the last frame that holds entries
  uint64_t written_position_ = 0;     // through which writes have completed
  bool reopened_;
  LogWriteQueue framed_;  // ended in the open frame
  LogWriteQueue queue_;   // not encoded at all
  LogWriteQueue
      postponed_;        // deferred, behind a large record: first of the queue when it is looked at
  LogWriteQueue large_;  // being encoded by fragments, oldest first
  uint64_t record_id_next_ = 1;
  bool ending_ = false;   // close() was called
  bool closing_ = false;  // … and what was queued is written
  bool failed_ = false;
  std::optional<Error> space_error_;
  bool promise_wanted_ = false;
  bool gathered_ = false;  // the open frame is not to wait for more
  Nanos gather_end_ = 0;   // group: until then it waits while ticks bring records; 0: it doesn't
  size_t gather_bytes_seen_ = 0;
  CommitHook hook_{*this};
  IdleTimer idle_timer_{*this};
  GatherTimer gather_timer_{*this};
  LateTimer late_timer_{*this};
  Event idle_;
};

}  // namespace gyre
