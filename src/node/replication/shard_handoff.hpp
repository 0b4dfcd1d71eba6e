// One storage shard's part in keeping replicas equal: what of its writes is not confirmed, what its
// peers missed (cluster/handoff), and the replays that bring it to them. On the shard's core.
//
// Shards are what a data directory was made with, cores may change: so what peers lack is kept per
// shard, in DIR/handoff/shard-NNN.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <gyre/scope.hpp>
#include <gyre/task.hpp>
#include <gyre/version.hpp>

#include "cluster/handoff/handoff.hpp"
#include "cluster/handoff/settled_window.hpp"
#include "cluster/handoff_messages.hpp"
#include "cluster/slot_table.hpp"

namespace gyre {

class Core;
class PeerReplay;

class ShardHandoff final : public cluster::DoubtSource {
 public:
  // In the data directory; in it are directories named as those of the shards.
  static constexpr std::string_view directory_name = "handoff";

  // Before the shard is open. `fresh`: the data directory was made by this start.
  static Task<Result<std::unique_ptr<ShardHandoff>>> open(Core& core, uint32_t shard, bool fresh);
  ~ShardHandoff() override;

  // --- as a replica, for each write (the rules are at cluster::Handoff)

  // `from`: the replicas of the write are the first of its slot's list. True where somebody else has
  // to have it too; then `taken` says what is to be done before the write.
  bool take(std::string_view key, Version version, unsigned from, cluster::NodeIndex coordinator,
            cluster::Taken& taken);
  void written(Version version) { handoff_->written(version); }
  void confirm(Version version) { handoff_->confirm(version); }
  Task<Result<void>> commit() { return handoff_->commit(); }
  void missed(const cluster::MissedBy& write);
  void coordinator_lost(cluster::NodeIndex node);
  // The peer has lost what it had, and what it knew others to lack: every slot of which it may have
  // copies is compared with all nodes in the slot's list, each entry with those it was written for.
  Task<Result<void>> owe_all(cluster::NodeIndex node);
  bool owes(cluster::NodeIndex node) const;
  struct Owed {
    uint64_t writes = 0;  // known to be missed
    uint64_t slots = 0;   // to be compared
  };
  Owed owed(cluster::NodeIndex node) const;

  // For ShardContext: changes as time goes on.
  const uint64_t& purge_hlc_max() const { return purge_hlc_max_; }
  const cluster::Handoff& handoff() const { return *handoff_; }
  // Of node `node`; nullptr for this one, and before begin().
  const cluster::Replay* replay(cluster::NodeIndex node) const;

  // The shard is open and links to peers are there.
  void begin();
  // Nothing is replayed any more. What comes from coordinators is taken until close().
  Task<void> stop();
  Task<Result<void>> close();

  // --- cluster::DoubtSource ---------------------------------------------------------------------
  Task<Result<void>> slots_since(uint64_t hlc, cluster::OwedSlots& slots) override;
  cluster::PeerSet others(uint32_t slot) override;

 private:
  ShardHandoff(Core& core, uint32_t shard);
  cluster::PeerSet others_of(uint32_t slot, unsigned from) const;
  Task<void> run();
  void update_purge_limit();

  Core& core_;
  uint32_t shard_;
  std::unique_ptr<cluster::Handoff> handoff_;
  std::vector<cluster::PeerNumber> numbers_;          // by node; no_peer for this one
  std::vector<std::unique_ptr<PeerReplay>> replays_;  // by node; none for this one
  std::unique_ptr<Scope> scope_;
  cluster::SettledWindow settled_;
  uint64_t purge_hlc_max_ = 0;
};

// On any core: takes what a coordinator says of writes. False: not all that is missed could be
// recorded durably.
Task<bool> take_notices(Core& core, cluster::Notices notices);
// On any core: for each entry of an offer, whether this node lacks it. Not found out: no entries.
Task<std::vector<bool>> lacked_of(Core& core, std::vector<cluster::KeyVersion> entries);

}  // namespace gyre
