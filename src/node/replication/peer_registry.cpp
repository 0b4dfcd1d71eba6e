#include "node/replication/peer_registry.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include <gyre/call.hpp>
#include <gyre/file.hpp>
#include <gyre/time.hpp>

#include "base/assert.hpp"
#include "base/limits.hpp"
#include "cluster/peers_text.hpp"
#include "cluster/replica_messages.hpp"
#include "node/core.hpp"
#include "node/node.hpp"
#include "node/replication/coordinator.hpp"
#include "node/replication/shard_handoff.hpp"
#include "node/replication/test_faults.hpp"

namespace gyre {

using cluster::JoinReply;
using cluster::JoinRequest;
using cluster::JoinState;
using cluster::JoinVerdict;
using cluster::NodeIndex;
using peer::Uuid;

namespace {

constexpr Nanos join_patience = seconds(1);
constexpr Nanos join_interval = milliseconds(250);

// `changing` is held for as long as this lives.
class Turn {
 public:
  explicit Turn(Semaphore& changing) : changing_(changing) {}
  ~Turn() {
    if (taken_) changing_.release(1);
  }
  Task<bool> take() {
    taken_ = co_await changing_.acquire(1);
    co_return taken_;
  }

 private:
  Semaphore& changing_;
  bool taken_ = false;
};

}  // namespace

PeerRegistry::PeerRegistry(Node& node) : node_(node), peers_(node.membership().node_count()) {}

// --- the file -----------------------------------------------------------------------------------

Task<Result<std::unique_ptr<PeerRegistry>>> PeerRegistry::open(Node& node) {
  std::unique_ptr<PeerRegistry> self(new PeerRegistry(node));
  const std::string& directory = node.directory().path();
  Result<std::string> text =
      co_await read_file(fmt::format("{}/{}", directory, file_name), limits::topology_bytes_max);
  if (text) {
    if (Result<void> parsed = self->parse(*text); !parsed) co_return fail(parsed.error());
  } else if (text.error().code != Errc::not_found) {
    co_return fail(text.error());
  } else {
    // The directory is new. It may be so though it has an identity: that is written first, and the
    // start that did it may have ended there.
    if (Result<void> saved = co_await self->save(); !saved) co_return fail(saved.error());
  }
  self->saved_ = true;
  self->saved_state_ = self->state_;
  co_return self;
}

std::string PeerRegistry::print() const {
  cluster::KnownPeers known{.state = state_, .peers = {}};
  for (NodeIndex node = 0; node < peers_.size(); ++node) {
    if (peers_[node].uuid == Uuid{}) continue;
    known.peers.push_back(
        {peers_[node].uuid, peers_[node].lost, node_.membership().topology().nodes[node].url});
  }
  return print_peers(known);
}

// Peers that are no longer in the table are forgotten.
Result<void> PeerRegistry::parse(std::string_view text) {
  const Result<cluster::KnownPeers> known = cluster::parse_peers(text);
  if (!known) {
    return fail(
        Errc::corrupt,
        fmt::format("{}/{} is damaged ({}): if its node has all its data, remove the file; else "
                    "remove the whole data directory, and the node is given everything back",
                    node_.directory().path(), file_name, known.error().detail));
  }
  state_ = known->state;
  for (const cluster::KnownPeer& peer : known->peers) {
    for (NodeIndex node = 0; node < peers_.size(); ++node) {
      if (node_.membership().topology().nodes[node].url != peer.url) continue;
      peers_[node].uuid = peer.uuid;
      peers_[node].lost = peer.lost;
    }
  }
  return {};
}

Task<Result<void>> PeerRegistry::save() {
  saved_ = false;
  const JoinState state = state_;
  Result<void> done =
      co_await replace_file(node_.directory().path(), std::string(file_name), print());
  saved_ = done.has_value();
  if (saved_) saved_state_ = state;
  co_return done;
}

// --- what cores know ----------------------------------------------------------------------------

Task<void> PeerRegistry::publish() {
  ReadersView view{.own_copies_count =
                       state_ == JoinState::complete || node_test_faults.wiped_node_votes};
  for (const Peer& peer : peers_) view.peers.push_back({peer.uuid, peer.lost});
  for (unsigned core = 0; core < node_.cores(); ++core) {
    co_await call_on(core, [this, core, &view] {
      node_.core(core).coordinator().set_readers_view(view);
      return true;
    });
  }
}

unsigned PeerRegistry::awaited() const {
  unsigned count = 0;
  for (NodeIndex node = 0; node < peers_.size(); ++node) {
    count += node != node_.membership().self() && !peers_[node].done;
  }
  return state_ == JoinState::rebuilding ? count : 0;
}

// What can't be saved now is saved later, or said again by somebody after the next start.
Task<void> PeerRegistry::set_state(JoinState state) {
  if (state == state_) co_return;
  Reactor::current().log(
      "info", fmt::format("event={}",
                          state == JoinState::rebuilding
                              ? "rebuild_begun reason=\"peers knew this node by another data "
                                "directory; its copies count in reads when they are given back\""
                          : state_ == JoinState::rebuilding ? "rebuild_ended"
                                                            : "joined"));
  state_ = state;
  for (Peer& peer : peers_) peer.done = false;
  changed_.set();
  co_await publish();
  if (Result<void> saved = co_await save(); !saved) {
    Reactor::current().log("error", "event=peers_not_saved " + saved.error().message());
  }
}

// --- peers that come ----------------------------------------------------------------------------

Task<Result<JoinReply>> PeerRegistry::join(std::string url, Uuid uuid, JoinRequest request) {
  const auto& nodes = node_.membership().topology().nodes;
  const auto at = std::ranges::find(nodes, url, &cluster::NodeEntry::url);
  if (at == nodes.end()) co_return fail(Errc::invalid, "not of this cluster");
  const auto node = static_cast<NodeIndex>(at - nodes.begin());
  if (node == node_.membership().self()) co_return fail(Errc::invalid, "this node's own URL");
  Turn turn(changing_);
  if (!co_await turn.take()) co_return fail(Errc::cancelled);
  if (request.known != Uuid{} && request.known != node_.directory().uuid()) {
    co_await set_state(JoinState::rebuilding);
  } else if (state_ == JoinState::fresh && request.known == Uuid{}) {
    co_await set_state(JoinState::complete);
  }
  Peer& peer = peers_[node];
  // Who comes again may rely on what was not saved the last time.
  if (!saved_) {
    if (Result<void> saved = co_await save(); !saved) co_return fail(saved.error());
  }
  if (peer.uuid == uuid) {
    // It may not have heard of its loss: an answer can be lost.
    if (peer.lost && request.state != JoinState::rebuilding)
      co_return JoinReply{.verdict = JoinVerdict::other, .owes = true};
    if (peer.lost) {  // from now on it says by itself that its copies don't count
      peer.lost = false;
      co_await publish();
      if (Result<void> saved = co_await save(); !saved) co_return fail(saved.error());
    }
    co_return JoinReply{.verdict = JoinVerdict::same, .owes = co_await owes(node)};
  }
  const bool lost = peer.uuid != Uuid{} && !node_test_faults.wiped_node_votes;
  if (lost) {
    if (node_.core(0).state() != NodeState::serving) co_return fail(Errc::busy);
    peer.lost = true;
    co_await publish();
    if (Result<void> owed = co_await owe_all(node); !owed) co_return fail(owed.error());
    Reactor::current().log("warn",
                           fmt::format("event=peer_lost_its_data peer={} was={} is={}", url,
                                       cluster::uuid_text(peer.uuid), cluster::uuid_text(uuid)));
  }
  peer.uuid = uuid;
  co_await publish();
  if (Result<void> saved = co_await save(); !saved) co_return fail(saved.error());
  co_return JoinReply{.verdict = lost ? JoinVerdict::other : JoinVerdict::first, .owes = lost};
}

Task<Result<void>> PeerRegistry::owe_all(NodeIndex node) {
  for (unsigned core = 0; core < node_.cores(); ++core) {
    const auto owe = [this, core, node]() -> Task<Result<bool>> {
      for (const auto& handoff : node_.core(core).handoffs()) {
        if (!handoff) continue;
        if (Result<void> owed = co_await handoff->owe_all(node); !owed)
          co_return fail(owed.error());
      }
      co_return true;
    };
    if (const Result<bool> owed = co_await spawn_on(core, owe); !owed) co_return fail(owed.error());
  }
  co_return Result<void>{};
}

Task<bool> PeerRegistry::owes(NodeIndex node) {
  if (node_.core(0).state() != NodeState::serving) co_return true;
  bool any = false;
  for (unsigned core = 0; core < node_.cores(); ++core) {
    any = co_await call_on(core,
                           [this, core, node] {
                             const auto& handoffs = node_.core(core).handoffs();
                             return std::ranges::any_of(handoffs, [node](const auto& handoff) {
                               return handoff && handoff->owes(node);
                             });
                           }) ||
          any;
  }
  co_return any;
}

// --- going to peers -----------------------------------------------------------------------------

Task<void> PeerRegistry::join_one(NodeIndex node) {
  if (!saved_) {
    Turn turn(changing_);
    if (!co_await turn.take() || !co_await save()) co_return;
  }
  peer::Link& link = node_.core(0).coordinator().link(node);
  if (link.state() != peer::LinkState::connected) co_return;
  // What would be forgotten by a crash is not told.
  const JoinState told = saved_state_;
  const std::string payload = JoinRequest{.state = told, .known = peers_[node].uuid}.encode();
  const std::string_view parts[] = {payload};
  peer::AskedCall asked(link);
  asked.verb = static_cast<uint8_t>(cluster::Verb::join);
  asked.idempotent = true;
  asked.deadline = Reactor::current().now() + join_patience;
  asked.parts = parts;
  JoinReply reply;
  const Uuid there = link.peer()->uuid;
  if (co_await asked.ask() != peer::Status::ok || !JoinReply::decode(asked.text, reply)) co_return;
  if (reply.verdict == JoinVerdict::other &&
      std::exchange(node_test_faults.join_answer_lost, false)) {
    co_return;
  }
  Turn turn(changing_);
  if (!co_await turn.take()) co_return;
  Peer& peer = peers_[node];
  peer.met = true;
  // It has met this node before, perhaps in another life, and has no reason to come by itself. Known
  // by nobody, it could lose its data unnoticed. Another uuid than the known one it tells itself.
  if (peer.uuid == Uuid{} && link.peer() != nullptr && link.peer()->uuid == there) {
    peer.uuid = there;
    co_await publish();
    if (Result<void> saved = co_await save(); !saved) {
      Reactor::current().log("error", "event=peers_not_saved " + saved.error().message());
    }
  }
  if (reply.verdict == JoinVerdict::other) {
    co_await set_state(JoinState::rebuilding);
    // It may have said so to a node that was rebuilding already.
    peer.done = false;
    peer.met = false;  // it is to hear that this node knows
  } else if (state_ == JoinState::fresh) {
    co_await set_state(JoinState::complete);
  } else if (state_ == JoinState::rebuilding && told == JoinState::rebuilding) {
    peer.done = peer.done || !reply.owes;
    if (awaited() == 0) co_await set_state(JoinState::complete);
  }
}

Task<void> PeerRegistry::join_peers() {
  co_await publish();
  for (NodeIndex node = 0; node < peers_.size(); ++node) {
    if (node != node_.membership().self()) co_await join_one(node);
  }
}

void PeerRegistry::begin() {
  scope_ = std::make_unique<Scope>(nullptr, "registry");
  scope_->spawn(run());
}

Task<void> PeerRegistry::run() {
  for (;;) {
    bool all_met = true;
    for (NodeIndex node = 0; node < peers_.size(); ++node) {
      if (node == node_.membership().self()) continue;
      if (!peers_[node].met || state_ == JoinState::rebuilding) co_await join_one(node);
      all_met = all_met && peers_[node].met;
    }
    // A peer may still come that knows this node by another directory.
    changed_.reset();
    if (all_met && saved_ && state_ == JoinState::complete) {
      if (!co_await changed_.wait()) co_return;
    } else if (!co_await sleep_for(join_interval)) {
      co_return;
    }
  }
}

Task<void> PeerRegistry::stop() {
  if (!scope_) co_return;
  scope_->request_stop();
  co_await scope_->join();
}

}  // namespace gyre
