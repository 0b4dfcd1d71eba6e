// What one storage shard of a replica does so that no peer lacks an acknowledged write for good
// (DESIGN D11): every write that it takes is held as unconfirmed until the coordinator says that all
// replicas have it or that it is recorded who lacks it; what stays unconfirmed is owed.
//
// A crash loses what is held in memory, so the missed log keeps a watermark:
//
//   every write that the shard took, that is not confirmed, and that is neither missed nor owed in
//   the log durably, has a stamp of at least the durable watermark.
//
// After a crash the shard's writes from the watermark on are in doubt, and their slots owed to their
// replicas. The watermark follows the oldest held write, and stays `watermark_lag_us` behind the
// newest one while writes come; for a write that comes with an older stamp all the same it is first
// taken back, durably.
//
// A write is owed only once the shard shows it: else a walk could pass its key before it is there.
//
// All calls on the shard's core.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include <gyre/backend.hpp>
#include <gyre/result.hpp>
#include <gyre/task.hpp>
#include <gyre/version.hpp>

#include "cluster/handoff/missed_log.hpp"
#include "cluster/handoff/unconfirmed.hpp"

namespace gyre::cluster {

struct HandoffOptions {
  MissedLogOptions log;
  uint32_t unconfirmed_max = 65'536;
  Nanos unconfirmed_for_max = seconds(2);
  Nanos step = milliseconds(250);
  uint64_t watermark_lag_us = 5'000'000;  // how old a stamp may be when its write comes
};

struct HandoffCounts {  // since the open
  uint64_t taken = 0;
  uint64_t confirmed = 0;
  uint64_t expired = 0;  // no notice came in time
  uint64_t coordinator_lost = 0;
  uint64_t crowded_out = 0;  // owed early, to make room
  uint64_t refused = 0;
  uint64_t late = 0;            // older than the watermark
  uint64_t slots_in_doubt = 0;  // after a crash
};

// Which writes a shard has, and who should. For what was in doubt after a crash.
class DoubtSource {
 public:
  virtual ~DoubtSource() = default;
  // The slots of which the shard holds a value or tombstone with a stamp of at least `hlc`: any that
  // are not sure, too. Sets them in `slots` (with the stamp `hlc`).
  virtual Task<Result<void>> slots_since(uint64_t hlc, OwedSlots& slots) = 0;
  // Who else may be to have keys of the slot.
  virtual PeerSet others(uint32_t slot) = 0;
};

enum class Taken : uint8_t { held, commit_first, refused };

class Handoff {
 public:
  static Task<Result<std::unique_ptr<Handoff>>> open(std::string directory, HandoffOptions options);

  MissedLog& log() { return *log_; }
  const MissedLog& log() const { return *log_; }

  // --- as a replica, for each write that this shard takes for a client, and each tombstone of
  //     repair or replay (who sent that sees to values, but a tombstone must not be purged here before
  //     every replica has it)

  // Before the write enters the shard's log. commit_first: await commit() before that, and refuse
  // the write if that fails. refused: there is no room, answer busy.
  [[nodiscard]] Taken take(const UnconfirmedWrite& write);
  // The shard shows the write.
  void written(Version version) { unconfirmed_.written(version); }
  // The coordinator's notice that all replicas have the write, or that who lacks it is recorded
  // durably; also if this shard did not take it in the end (superseded by a newer one, refused).
  // What isn't held any more is ignored.
  void confirm(std::span<const Version> versions);
  void confirm(Version version) { confirm(std::span(&version, 1)); }
  // The coordinator is gone: what it had not confirmed is owed now.
  void coordinator_lost(PeerNumber coordinator);

  // --- as a replica that acked, told by the coordinator that `peer` did not take a write

  // Await commit() before telling the coordinator that it is recorded.
  void missed(PeerNumber peer, uint32_t slot, std::string_view key, Version version) {
    log_->missed(peer, slot, key, version);
  }
  Task<Result<void>> commit() { return log_->commit(); }

  // --- the rest

  // Whether resolve_doubt is to be called.
  bool in_doubt() const { return log_->in_doubt_from().has_value(); }
  // Owes what was in doubt after a crash; writes may be taken meanwhile. To be repeated after an
  // error.
  Task<Result<void>> resolve_doubt(DoubtSource& source);

  // One step: what is due becomes owed, the watermark moves, and all is committed. After an error
  // everything is tried again by the next one.
  Task<Result<void>> step();
  // Steps until stopped.
  Task<void> run();

  // Tombstones with a smaller stamp are at every replica as far as this shard has to see to it: they
  // may be purged.
  uint64_t settled_before() const;

  uint32_t unconfirmed_count() const { return unconfirmed_.size(); }
  const HandoffCounts& counts() const { return counts_; }

  // What is unconfirmed becomes owed. After a clean close nothing is in doubt.
  Task<Result<void>> close();

 private:
  Handoff(std::unique_ptr<MissedLog> log, HandoffOptions options);

  void owe(const UnconfirmedWrite& write);
  uint64_t next_watermark() const;

  HandoffOptions options_;
  std::unique_ptr<MissedLog> log_;
  UnconfirmedWrites unconfirmed_;
  uint64_t newest_hlc_ = 0;  // taken
  Nanos newest_at_ = 0;
  HandoffCounts counts_;
};

}  // namespace gyre::cluster
