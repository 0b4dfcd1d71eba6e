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
//   - one frame in flight; frames are written in order, at positions without a gap
//   - a record takes its seq when its last byte is encoded; `logged` is called then, in seq order;
//     `committed` is called in seq order when its frame is durable (group), or at once after
//     `logged` (interval, none)
//   - the promise in a frame never exceeds what is known to be durable
//   - the first error ends the log: every write from then on fails, nothing is retried, because
//     after a failed sync the kernel may have dropped what it could not write
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

  // No record that takes a seq from now on has a byte before this position.
  uint64_t position_floor() const;
  // Whether a write of `key` that is not logged yet has a version below `version`.
  bool awaits_older(std::string_view key, Version version) const;
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
  struct WriteOp : Op {
    explicit WriteOp(LogWriter& of) : writer(of) {}
    LogWriter& writer;
  };
  struct CommitHook : TickHook {
    explicit CommitHook(LogWriter& of);
    LogWriter& writer;
  };
  struct Written : Runnable {
    explicit Written(LogWriter& of) : writer(of) {}
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

  static void on_written(Op& op, Completion completion) noexcept;
  static void run_written(Runnable& self) noexcept;
  void written() noexcept;
  void open_frame();
  void fill_frame();
  void record_ended(LogWrite& write);
  void commit() noexcept;
  bool gathers_on() noexcept;
  bool gathers_on_after_frame() noexcept;
  void submit_frame(size_t size_bytes) noexcept;
  void finish_in_flight() noexcept;
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
  AlignedBuffer buffers_[2];
  unsigned open_buffer_ = 0;
  FrameBuilder builder_;
  uint64_t position_ = 0;  // of the open frame
  uint64_t frame_seq_;
  uint64_t seq_next_;
  uint64_t synced_position_ = 0;
  uint64_t promised_position_ = 0;
  uint64_t record_end_position_ = 0;  // end of the last frame that holds entries
  uint64_t written_position_ = 0;     // through which writes have completed
  bool reopened_;
  LogWriteQueue framed_;     // ended in the open frame
  LogWriteQueue in_flight_;  // ended in the frame being written
  LogWriteQueue queue_;      // not encoded at all
  LogWriteQueue large_;      // being encoded by fragments, oldest first
  uint64_t record_id_next_ = 1;
  WriteOp op_{*this};
  size_t op_bytes_ = 0;
  size_t op_done_bytes_ = 0;
  unsigned no_progress_ = 0;
  int32_t op_result_ = 0;
  bool writing_ = false;
  bool ending_ = false;   // close() was called
  bool closing_ = false;  // … and what was queued is written
  bool failed_ = false;
  std::optional<Error> space_error_;
  bool promise_wanted_ = false;
  bool gathered_ = false;  // the open frame is not to wait for more
  Nanos gather_end_ = 0;   // group: until then it waits while ticks bring records; 0: it doesn't
  size_t gather_bytes_seen_ = 0;
  CommitHook hook_{*this};
  Written written_{*this};
  IdleTimer idle_timer_{*this};
  GatherTimer gather_timer_{*this};
  Event idle_;
};

}  // namespace gyre
