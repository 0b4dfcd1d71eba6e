// What the peers of one storage shard lack, in memory and in one file: missed writes by key, or, if
// there are too many, the slots they are in.
//
//   missed   (peer, slot, key, version): the peer did not take that write. Replay sends the key's
//            present value, so a key has one record per peer, of its greatest version
//   owed     (peer, slot, stamp): the peer may lack writes of the slot from that stamp on. Records
//            become this when they don't fit; a write of an owed slot needs no record
//   walk     the owed slots that are being compared (replay.hpp), taken as one: what is missed while
//            a walk goes on counts as new, since the walk may have passed the key
//   watermark  a stamp: of writes that this shard took from that on it may not be known which peers
//            lack them (handoff.hpp). After a crash these are in doubt
//
// Changes are made in memory at once and are durable after a commit. The file is what a start needs
// to come to the same state: see missed_format.hpp. Every open writes it anew; so does a commit when
// the file has grown to a multiple of the state, or when the write of a frame has failed: a failed
// write or sync is not tried again, a new file takes its place. A file that is damaged, or missing
// where there should be one, leaves everything in doubt.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gyre/file.hpp>
#include <gyre/result.hpp>
#include <gyre/sync.hpp>
#include <gyre/task.hpp>
#include <gyre/version.hpp>

#include "cluster/handoff/missed_format.hpp"
#include "cluster/handoff/owed_slots.hpp"
#include "cluster/handoff/peer_set.hpp"

namespace gyre::cluster {

struct MissedLogOptions {
  // Of all records, keys and overhead: beyond it the peer with the most becomes owed slots.
  uint64_t record_bytes_max = 8u << 20;
  // The file is written anew at four times its first size, but not below this.
  uint64_t file_bytes_min = 1u << 20;
  // The directory is new: a file that is missing is no loss.
  bool fresh = false;
};

struct MissedWrite {
  uint32_t slot = 0;
  std::string key;
  Version version;
};

struct MissedCounts {     // since the open
  uint64_t noted = 0;     // records, those that replaced an older one of their key included
  uint64_t covered = 0;   // missed writes of slots that were owed already
  uint64_t replayed = 0;  // records that are done
  uint64_t degraded = 0;  // records that became owed slots
  uint64_t slots_owed = 0;
  uint64_t walks = 0;     // that reached their end
  uint64_t frames = 0;    // written
  uint64_t files = 0;     // written anew
  uint64_t failures = 0;  // of either
};

class MissedLog {
 public:
  static constexpr std::string_view file_name = "missed";
  static constexpr std::string_view temporary_name = "missed.tmp";
  static constexpr size_t record_overhead_bytes = 96;

  // The directory is made if it is missing. Errc::unsupported: written by a later program. A full disk
  // is no error: see begun().
  static Task<Result<std::unique_ptr<MissedLog>>> open(std::string directory,
                                                       MissedLogOptions options);
  MissedLog(const MissedLog&) = delete;
  MissedLog& operator=(const MissedLog&) = delete;

  // Finds or adds.
  PeerNumber peer(const PeerId& id);
  size_t peer_count() const { return peers_.size(); }
  const PeerId& id_of(PeerNumber peer) const { return at(peer).id; }
  // The peer has left the cluster: what it lacks is forgotten.
  void forget(PeerNumber peer);

  // All durable with the next commit.
  void missed(PeerNumber peer, uint32_t slot, std::string_view key, Version version);
  void owe(PeerNumber peer, uint32_t slot, uint64_t since_hlc);

  // Records of the peer behind (slot, key), in that order: at most `count`, and no more than 64 KiB
  // of keys beyond the first.
  std::vector<MissedWrite> records_after(PeerNumber peer, uint32_t slot, std::string_view key,
                                         size_t count) const;
  // The peer has the key's version or a newer one: a record that is newer stays.
  void replayed(PeerNumber peer, uint32_t slot, std::string_view key, Version version);

  // The walk under way, or one over all that is owed; nullptr if nothing is. Stays where it is until
  // its end.
  const OwedSlots* walk(PeerNumber peer);
  void end_walk(PeerNumber peer);

  bool owes(PeerNumber peer) const;
  // Set while the peer is owed something.
  Event& work(PeerNumber peer) { return at(peer).work; }

  // Durable: what was changed before. One frame is in flight, what comes meanwhile goes together.
  // After an error the next commit tries again, with a new file.
  Task<Result<void>> commit();
  bool dirty() const { return changed_ != durable_; }
  // Something of this life is durable. Until then the file is that of the life before, which may say
  // that it ended clean: no write may be taken before a commit.
  bool begun() const { return durable_ != 0; }

  // The last one counts, after the next commit. Not to be raised while something is in doubt.
  void set_watermark(uint64_t hlc);
  uint64_t watermark() const { return watermark_; }
  // No greater one can be on the disk, whatever becomes of commits under way.
  uint64_t watermark_max() const { return watermark_max_; }
  // Set after a crash: from which stamp on writes are in doubt, until they are owed.
  std::optional<uint64_t> in_doubt_from() const { return in_doubt_from_; }
  void doubt_resolved() { in_doubt_from_.reset(); }
  std::string_view damage() const { return damage_; }  // what was wrong with the file, or ""

  // No peer is known to lack anything with a smaller stamp. All ones: nothing is lacked.
  uint64_t oldest_hlc() const;

  const MissedCounts& counts() const { return counts_; }
  size_t record_count(PeerNumber peer) const { return at(peer).records.size(); }
  uint64_t record_bytes() const { return record_bytes_; }
  uint32_t owed_count(PeerNumber peer) const {
    return at(peer).owed.count() + at(peer).walking.count();
  }
  uint64_t file_bytes() const { return file_bytes_; }

  // Commits. With `clean`, nothing will be in doubt at the next open.
  Task<Result<void>> close(bool clean);

 private:
  struct KeyLess {
    using is_transparent = void;
    using View = std::pair<uint32_t, std::string_view>;
    template <class A, class B>
    bool operator()(const A& a, const B& b) const {
      return View(a.first, a.second) < View(b.first, b.second);
    }
  };
  using Records = std::map<std::pair<uint32_t, std::string>, Version, KeyLess>;
  struct Peer {
    PeerId id{};
    Records records;
    uint64_t bytes = 0;
    OwedSlots owed;
    OwedSlots walking;
    Event work;
  };

  MissedLog(std::string directory, MissedLogOptions options)
      : directory_(std::move(directory)), options_(options) {}

  Peer& at(PeerNumber peer) { return *peers_.at(peer); }
  const Peer& at(PeerNumber peer) const { return *peers_.at(peer); }
  bool set_record(Peer& peer, uint32_t slot, std::string_view key, Version version);
  void erase_record(Peer& peer, Records::iterator record);
  void degrade_largest();
  void update_work(Peer& peer);
  void note(const MissedEntry& entry);

  Task<Result<void>> read();
  Result<void> replay(std::string_view content);
  void apply(const MissedEntry& entry, const std::vector<PeerNumber>& numbers);
  void damaged(std::string what);
  Task<Result<void>> attempt();
  Task<Result<void>> append(std::string entries);
  Task<Result<void>> roll();
  Task<Result<void>> write_state(File& file, uint64_t salt, uint64_t& bytes, uint64_t& frames);

  std::string directory_;
  MissedLogOptions options_;
  std::vector<std::unique_ptr<Peer>> peers_;
  uint64_t record_bytes_ = 0;
  uint64_t watermark_ = 0;
  uint64_t watermark_max_ = 0;
  uint64_t watermark_since_ = 0;  // the greatest one set since the attempt under way began
  std::optional<uint64_t> in_doubt_from_;
  std::string damage_;

  std::string pending_;  // entries for the next frame
  uint64_t changed_ = 0;
  uint64_t durable_ = 0;
  uint64_t attempted_ = 0;  // what the last attempt was to make durable
  Error last_error_;
  bool writing_ = false;
  bool roll_owed_ = true;  // nothing is appended any more
  Event written_;

  File file_;
  uint64_t file_salt_ = 0;
  uint64_t file_bytes_ = 0;
  uint64_t snapshot_bytes_ = 0;
  uint64_t next_frame_ = 0;
  MissedCounts counts_;
};

}  // namespace gyre::cluster
