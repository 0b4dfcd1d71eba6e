// Which data directory each node of the cluster has, as far as this node knows, and whether this
// node's own copies count in reads. Kept in DIR/PEERS; core 0's.
//
// A node whose directory was lost comes back under its URL with a new uuid: it takes writes, but what
// it has lost it would deny, so that its copies must not count in reads until its peers have given
// everything back (DESIGN D9). It can't know of its loss by itself. So nodes that meet tell each other
// by which uuid they know each other (Verb::join):
//
//   new          a fresh directory, and nobody has said yet whether it was known by another one
//   rebuilding   somebody knew another one: every peer owes it everything, and says when that is done
//   complete     counts
//
// A peer that knew another uuid owes all slots durably before it takes the new one for known.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <gyre/result.hpp>
#include <gyre/scope.hpp>
#include <gyre/sync.hpp>
#include <gyre/task.hpp>

#include "cluster/handoff_messages.hpp"
#include "cluster/peers_text.hpp"
#include "cluster/slot_table.hpp"
#include "peer/local_node.hpp"

namespace gyre {

class Node;

// What each core must know of it for reads.
struct ReadersView {
  struct Peer {
    peer::Uuid uuid{};  // all zeros: not known
    bool lost = false;  // it was told that it has lost its data, and has not said yet that it knows
  };
  bool own_copies_count = false;
  std::vector<Peer> peers;  // by node
};

class PeerRegistry {
 public:
  static constexpr std::string_view file_name = cluster::peers_file_name;

  static Task<Result<std::unique_ptr<PeerRegistry>>> open(Node& node);

  cluster::JoinState state() const { return state_; }
  // Nodes from which this one waits to get everything back.
  unsigned awaited() const;

  // A peer has come. Errc::busy: not yet, ask again.
  Task<Result<cluster::JoinReply>> join(std::string url, peer::Uuid uuid,
                                        cluster::JoinRequest request);
  // Once the node has tried to connect to its peers: joins those that are there.
  Task<void> join_peers();
  // Joins the others as they come, and all again when this node has lost its data.
  void begin();
  Task<void> stop();

 private:
  explicit PeerRegistry(Node& node);
  struct Peer {
    peer::Uuid uuid{};
    bool lost = false;
    bool met = false;   // in this life: it knows this node's uuid
    bool done = false;  // while rebuilding: owes nothing any more
  };

  Task<void> run();
  Task<void> join_one(cluster::NodeIndex node);
  Task<Result<void>> owe_all(cluster::NodeIndex node);
  Task<bool> owes(cluster::NodeIndex node);
  Task<void> set_state(cluster::JoinState state);
  Task<void> publish();
  Task<Result<void>> save();
  Result<void> parse(std::string_view text);
  std::string print() const;

  Node& node_;
  cluster::JoinState state_ = cluster::JoinState::fresh;
  cluster::JoinState saved_state_ = cluster::JoinState::fresh;
  bool saved_ = false;       // the file says what this says
  std::vector<Peer> peers_;  // by node
  Semaphore changing_{1};    // joins and saves, one at a time
  Event changed_;            // the state
  std::unique_ptr<Scope> scope_;
};

}  // namespace gyre
