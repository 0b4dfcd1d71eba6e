// What tests do to the simulated network, and what becomes of a node's sockets when it is gone.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "sim/network.hpp"
#include "sim/world.hpp"

namespace gyre::sim {

void Network::block(unsigned from, unsigned to) {
  blocked_.insert({from, to});
  world_.note_fault("blocked direction");
}
void Network::partition(unsigned a, unsigned b) {
  block(a, b);
  block(b, a);
}
void Network::isolate(unsigned node) {
  for (unsigned other = 0; other < world_.node_count(); ++other) {
    if (other != node) partition(node, other);
  }
}

void Network::heal(unsigned a, unsigned b) {
  for (const auto& direction : {std::pair(a, b), std::pair(b, a)}) {
    if (blocked_.erase(direction) == 0) continue;
    for (auto& [id, endpoint] : endpoints_) {
      if (std::pair(endpoint.peer_node, endpoint.node) != direction) continue;
      if (endpoint.incoming.empty() || endpoint.delivery_scheduled) continue;
      const Nanos again =
          world_.time() + prng_.between(options.retransmit.min, options.retransmit.max);
      schedule_delivery(endpoint, std::max(again, endpoint.incoming.front().at));
    }
  }
}
void Network::heal_all() {
  while (!blocked_.empty()) {
    const auto [a, b] = *blocked_.begin();
    heal(a, b);
  }
  clogged_until_.clear();
  stalled_until_.clear();
}

void Network::clog(unsigned from, unsigned to, Nanos duration) {
  world_.note_fault("clogged direction");
  Nanos& until = clogged_until_[{from, to}];
  until = std::max(until, world_.time() + duration);
}

void Network::stall_reader(unsigned node, Nanos duration) {
  world_.note_fault("stalled reader");
  Nanos& until = stalled_until_[node];
  until = std::max(until, world_.time() + duration);
  world_.schedule(until, this, [this, node] {
    std::vector<EndpointId> ids;
    for (const auto& [id, endpoint] : endpoints_) {
      if (endpoint.node == node) ids.push_back(id);
    }
    for (const EndpointId id : ids) {
      if (const auto found = endpoints_.find(id); found != endpoints_.end()) {
        notify(found->second.waiters);
      }
    }
  });
}

Nanos Network::reader_stalled_until(unsigned node) const {
  const auto found = stalled_until_.find(node);
  return found == stalled_until_.end() ? 0 : found->second;
}

void Network::reset(EndpointId id) {
  const EndpointId peer = at(id).peer;
  reset_one_side(id);
  if (endpoints_.contains(peer)) reset_one_side(peer);
}

void Network::reset_one_side(EndpointId id) {
  world_.trace().note(world_.time(), at(id).node, 0, "net.reset", id);
  fail(at(id), ECONNRESET);
}

void Network::node_gone(unsigned node, bool silent) {
  std::vector<ListenerId> listeners;
  for (const auto& [id, listener] : listeners_) {
    if (listener.node == node) listeners.push_back(id);
  }
  for (const ListenerId id : listeners) {
    if (silent) {
      for (const EndpointId waiting : listeners_.at(id).queue) release(at(waiting));
      listeners_.erase(id);
    } else {
      close_listener(id);
    }
  }
  std::vector<EndpointId> ids;
  for (const auto& [id, endpoint] : endpoints_) {
    if (endpoint.node == node && !endpoint.released) ids.push_back(id);
  }
  for (const EndpointId id : ids) {
    const auto found = endpoints_.find(id);
    if (found == endpoints_.end()) continue;
    if (silent) {
      release(found->second);
    } else {
      close(id);
    }
  }
}

std::vector<EndpointId> Network::connections(unsigned node) const {
  std::vector<EndpointId> out;
  for (const auto& [id, endpoint] : endpoints_) {
    if (endpoint.node == node && !endpoint.released && endpoint.state == Endpoint::State::open) {
      out.push_back(id);
    }
  }
  return out;
}

size_t Network::endpoints_of(unsigned node) const {
  return static_cast<size_t>(std::count_if(
      endpoints_.begin(), endpoints_.end(),
      [&](const auto& entry) { return entry.second.node == node && !entry.second.released; }));
}

std::string Network::dump() const {
  std::string out;
  for (const auto& [id, e] : endpoints_) {
    if (e.released) continue;
    out += fmt::format(
        "  endpoint {} of node {} to {} (node {}): state {}, {} unread, {} under way to it, "
        "{} unread by peer of {}, {} waiters{}\n",
        id, e.node, e.peer, e.peer_node, static_cast<int>(e.state), e.available(),
        e.incoming.size(), e.unread_by_peer, e.window, e.waiters.size(),
        blocked(e.peer_node, e.node) ? ", blocked" : "");
  }
  return out;
}

}  // namespace gyre::sim
