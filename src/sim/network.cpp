#include "sim/network.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include <gyre/op.hpp>

#include "base/assert.hpp"
#include "sim/sim_backend.hpp"
#include "sim/world.hpp"

namespace gyre::sim {

namespace {
bool is_loopback(std::string_view address) {
  return address.starts_with("127.") || address == "::1";
}
bool is_any(std::string_view address) {
  return address == "0.0.0.0" || address == "::";
}
}  // namespace

bool is_numeric_address(const char* text) {
  in6_addr parsed;
  return ::inet_pton(AF_INET, text, &parsed) == 1 || ::inet_pton(AF_INET6, text, &parsed) == 1;
}

Network::Network(World& world, NetworkOptions network_options, Prng prng)
    : options(network_options), world_(world), prng_(prng) {}

// The node that an address leads to, or -1.
int Network::find_node(unsigned from, std::string_view address) const {
  if (is_loopback(address) || is_any(address)) return static_cast<int>(from);
  for (unsigned i = 0; i < world_.node_count(); ++i) {
    if (world_.node(i).address() == address) return static_cast<int>(i);
  }
  return -1;
}

// --- listeners -----------------------------------------------------------------------------------

std::vector<ListenerId> Network::listeners_for(unsigned node, std::string_view address,
                                               uint16_t port) {
  std::vector<ListenerId> found;
  for (const auto& [id, listener] : listeners_) {
    if (listener.node != node || listener.port != port) continue;
    if (is_any(address) || is_any(listener.address) || listener.address == address) {
      found.push_back(id);
    }
  }
  return found;
}

int32_t Network::listen(unsigned node, std::string_view address, uint16_t port, uint16_t flags,
                        uint32_t backlog, ListenerId& listener) {
  if (find_node(node, address) != static_cast<int>(node)) return -EADDRNOTAVAIL;
  if (port == 0) {
    do {
      port = next_port_++;
    } while (!listeners_for(node, address, port).empty() || foreign_ports_.contains({node, port}));
  }
  const auto others = listeners_for(node, address, port);
  const bool foreign = foreign_ports_.contains({node, port});
  const bool reuse = (flags & flag_reuse_port) != 0;
  if ((flags & flag_probe_port) != 0 && (foreign || !others.empty())) return -EADDRINUSE;
  if (foreign && !reuse) return -EADDRINUSE;
  for (const ListenerId other : others) {
    if (!reuse || !listeners_.at(other).reuse_port) return -EADDRINUSE;
  }
  listener = next_id_++;
  listeners_[listener] = {node, std::string(address), port, reuse, std::max(backlog, 1u), {}, {}};
  return 0;
}

void Network::close_listener(ListenerId id) {
  const auto queue = std::move(listeners_.at(id).queue);
  listeners_.erase(id);
  for (const EndpointId waiting : queue) {
    if (endpoints_.contains(waiting)) {
      at(waiting).inbox.append("?");  // never read: the close becomes a reset
      close(waiting);
    }
  }
}

EndpointId Network::accept(ListenerId id) {
  auto& queue = listeners_.at(id).queue;
  if (queue.empty()) return 0;
  const EndpointId endpoint = queue.front();
  queue.pop_front();
  return endpoint;
}

void Network::watch(ListenerId id, Waiter waiter) {
  listeners_.at(id).waiters.push_back(waiter);
}
void Network::unwatch_listener(ListenerId id, Waiter waiter) {
  const auto listener = listeners_.find(id);
  if (listener != listeners_.end()) std::erase(listener->second.waiters, waiter);
}

// --- connecting ----------------------------------------------------------------------------------

Endpoint& Network::make_endpoint(unsigned node, unsigned peer_node) {
  const EndpointId id = next_id_++;
  Endpoint& endpoint = endpoints_[id];
  endpoint.id = id;
  endpoint.node = node;
  endpoint.peer_node = peer_node;
  endpoint.window =
      static_cast<size_t>(prng_.between(static_cast<int64_t>(options.window_bytes_min),
                                        static_cast<int64_t>(options.window_bytes_max)));
  return endpoint;
}

EndpointId Network::connect(unsigned node, std::string_view address, uint16_t port) {
  const int target = find_node(node, address);
  Endpoint& endpoint = make_endpoint(node, target < 0 ? node : static_cast<unsigned>(target));
  endpoint.address = address;
  endpoint.port = port;
  endpoint.give_up_at = world_.time() + options.connect_timeout;
  endpoint.syn_under_way = true;
  const EndpointId id = endpoint.id;
  world_.schedule(world_.time() + delay(node, endpoint.peer_node), this, [this, id] { syn(id); });
  return id;
}

void Network::retry_syn(Endpoint& endpoint) {
  if (world_.time() >= endpoint.give_up_at) {
    fail(endpoint, ETIMEDOUT);
    return;
  }
  endpoint.syn_under_way = true;
  const EndpointId id = endpoint.id;
  const Nanos next = std::min(endpoint.give_up_at, world_.time() + seconds(1));
  world_.schedule(next, this, [this, id] { syn(id); });
}

// The connection request arrives (or is lost and comes again a second later).
void Network::syn(EndpointId id) {
  const auto found = endpoints_.find(id);
  if (found == endpoints_.end()) return;
  Endpoint& client = found->second;
  client.syn_under_way = false;
  if (client.released) {
    erase_if_done(id);
    return;
  }
  const int target = find_node(client.node, client.address);
  if (target < 0 || blocked(client.node, static_cast<unsigned>(target)) ||
      blocked(static_cast<unsigned>(target), client.node) ||
      world_.node(static_cast<unsigned>(target)).power() == Power::off) {
    retry_syn(client);
    return;
  }
  const auto listeners = listeners_for(static_cast<unsigned>(target), client.address, client.port);
  if (listeners.empty()) {
    send(client, {Endpoint::Message::refused, 0, 0, {}});
    return;
  }
  Listener& listener = listeners_.at(listeners[prng_.below(listeners.size())]);
  if (listener.queue.size() >= listener.backlog) {
    retry_syn(client);
    return;
  }
  Endpoint& server = make_endpoint(static_cast<unsigned>(target), client.node);
  server.state = Endpoint::State::open;
  server.peer = id;
  client.peer = server.id;
  listener.queue.push_back(server.id);
  send(client, {Endpoint::Message::established, 0, 0, {}});
  notify(listener.waiters);
}

// --- messages ------------------------------------------------------------------------------------

Nanos Network::delay(unsigned from, unsigned to) {
  Latency range = from == to ? options.loopback : options.between_nodes;
  if (const auto set = latency_.find({from, to}); set != latency_.end()) range = set->second;
  Nanos result = prng_.between(range.min, range.max);
  if (prng_.chance_ppm(options.spike_ppm)) {
    result += prng_.between(options.spike.min, options.spike.max);
  }
  return std::max<Nanos>(result, 1);
}

void Network::send(Endpoint& to, Endpoint::Message message) {
  message.at = std::max(to.last_delivery, world_.time() + delay(to.peer_node, to.node));
  to.last_delivery = message.at;
  const Nanos at = message.at;
  to.incoming.push_back(std::move(message));
  if (!to.delivery_scheduled) schedule_delivery(to, at);
}

void Network::schedule_delivery(Endpoint& endpoint, Nanos at) {
  endpoint.delivery_scheduled = true;
  const EndpointId id = endpoint.id;
  world_.schedule(at, this, [this, id] { deliver(id); });
}

void Network::deliver(EndpointId id) {
  Endpoint& endpoint = at(id);
  endpoint.delivery_scheduled = false;
  const std::pair direction(endpoint.peer_node, endpoint.node);
  if (blocked_.contains(direction)) return;  // heal schedules it again
  if (const auto clog = clogged_until_.find(direction); clog != clogged_until_.end()) {
    if (clog->second > world_.time()) {
      schedule_delivery(endpoint, clog->second);
      return;
    }
    clogged_until_.erase(clog);
  }
  for (;;) {
    // A receiver that fails to connect closes at once: the endpoint may be gone after each message.
    const auto found = endpoints_.find(id);
    if (found == endpoints_.end()) return;
    Endpoint& receiver = found->second;
    if (receiver.incoming.empty()) break;
    if (receiver.incoming.front().at > world_.time()) {
      schedule_delivery(receiver, receiver.incoming.front().at);
      return;
    }
    Endpoint::Message message = std::move(receiver.incoming.front());
    receiver.incoming.pop_front();
    receive(receiver, message);
  }
  erase_if_done(id);
}

void Network::receive(Endpoint& endpoint, Endpoint::Message& message) {
  using Message = Endpoint::Message;
  world_.trace().note(world_.time(), endpoint.node, 0, "net.receive", endpoint.id, message.kind,
                      static_cast<int64_t>(message.bytes.size()));
  if (endpoint.released || endpoint.state == Endpoint::State::failed) {
    if (message.kind == Message::data || message.kind == Message::established) {
      answer_with_reset(endpoint);
    }
    return;
  }
  switch (message.kind) {
    case Message::established:
      endpoint.state = Endpoint::State::open;
      break;
    case Message::refused:
      fail(endpoint, ECONNREFUSED);
      return;
    case Message::data:
      if (prng_.chance_ppm(options.reset_ppm)) {
        world_.note_fault("connection reset");
        reset(endpoint.id);
        return;
      }
      bytes_delivered_ += message.bytes.size();
      endpoint.inbox.append(message.bytes);
      break;
    case Message::credit:
      GYRE_ASSERT(endpoint.unread_by_peer >= message.credit_bytes);
      endpoint.unread_by_peer -= message.credit_bytes;
      break;
    case Message::fin:
      endpoint.fin_received = true;
      break;
    case Message::reset:
      fail(endpoint, ECONNRESET);
      return;
  }
  notify(endpoint.waiters);
}

void Network::answer_with_reset(Endpoint& gone) {
  if (world_.node(gone.node).power() == Power::off) return;
  const auto peer = endpoints_.find(gone.peer);
  if (peer != endpoints_.end()) send(peer->second, {Endpoint::Message::reset, 0, 0, {}});
}

void Network::fail(Endpoint& endpoint, int error) {
  if (endpoint.state == Endpoint::State::failed) return;
  endpoint.state = Endpoint::State::failed;
  endpoint.error = error;
  endpoint.inbox.clear();
  endpoint.inbox_head = 0;
  notify(endpoint.waiters);
}

void Network::notify(std::vector<Waiter> waiters) {
  for (const Waiter& waiter : waiters) waiter.backend->progress(waiter.slot);
}

// --- streams -------------------------------------------------------------------------------------

Endpoint& Network::at(EndpointId id) {
  const auto found = endpoints_.find(id);
  GYRE_ASSERT(found != endpoints_.end());
  return found->second;
}

void Network::watch(Endpoint& endpoint, Waiter waiter) {
  endpoint.waiters.push_back(waiter);
}
void Network::unwatch(EndpointId id, Waiter waiter) {
  const auto found = endpoints_.find(id);
  if (found != endpoints_.end()) std::erase(found->second.waiters, waiter);
}

// Splits at random places, so that no receiver may rely on where a send ended.
void Network::transmit(Endpoint& from, std::string_view bytes) {
  GYRE_ASSERT(bytes.size() <= from.room());
  from.unread_by_peer += bytes.size();
  const auto peer = endpoints_.find(from.peer);
  GYRE_ASSERT(peer != endpoints_.end());  // a peer is kept until both ends are released
  while (!bytes.empty()) {
    size_t n = std::min<size_t>(bytes.size(), 64u << 10);
    if (n > 1 && prng_.one_in(4))
      n = 1 + prng_.below(prng_.one_in(2) ? n : std::min<size_t>(n, 16));
    send(peer->second, {Endpoint::Message::data, 0, 0, std::string(bytes.substr(0, n))});
    bytes.remove_prefix(n);
  }
}

void Network::consume(Endpoint& endpoint, size_t n) {
  GYRE_ASSERT(n <= endpoint.available());
  endpoint.inbox_head += n;
  endpoint.uncredited += n;
  if (endpoint.available() == 0) {
    endpoint.inbox.clear();
    endpoint.inbox_head = 0;
  } else if (endpoint.inbox_head > endpoint.inbox.size() / 2) {
    endpoint.inbox.erase(0, endpoint.inbox_head);
    endpoint.inbox_head = 0;
  }
  const auto peer = endpoints_.find(endpoint.peer);
  if (peer == endpoints_.end()) return;
  // Few and late window updates, but always one when everything was read.
  if (endpoint.available() == 0 || endpoint.uncredited >= peer->second.window / 4) {
    send(peer->second, {Endpoint::Message::credit, 0, std::exchange(endpoint.uncredited, 0), {}});
  }
}

void Network::shutdown(Endpoint& endpoint, int how) {
  if ((how == SHUT_RD || how == SHUT_RDWR) && !endpoint.read_shut) {
    endpoint.read_shut = true;
    notify(endpoint.waiters);
  }
  if ((how == SHUT_WR || how == SHUT_RDWR) && !endpoint.write_shut) {
    endpoint.write_shut = true;
    const auto peer = endpoints_.find(endpoint.peer);
    if (peer != endpoints_.end()) send(peer->second, {Endpoint::Message::fin, 0, 0, {}});
    notify(endpoint.waiters);
  }
}

void Network::close(EndpointId id) {
  Endpoint& endpoint = at(id);
  const auto peer = endpoints_.find(endpoint.peer);
  if (peer != endpoints_.end() && endpoint.state == Endpoint::State::open) {
    if (endpoint.available() != 0) {
      send(peer->second, {Endpoint::Message::reset, 0, 0, {}});
    } else if (!endpoint.write_shut) {
      send(peer->second, {Endpoint::Message::fin, 0, 0, {}});
    }
  }
  release(endpoint);
}

void Network::release(Endpoint& endpoint) {
  endpoint.released = true;
  endpoint.waiters.clear();
  endpoint.inbox.clear();
  endpoint.inbox_head = 0;
  erase_if_done(endpoint.id);
}

// An endpoint is forgotten once neither program nor messages can refer to it.
void Network::erase_if_done(EndpointId id) {
  const auto found = endpoints_.find(id);
  if (found == endpoints_.end() || !found->second.released) return;
  const Endpoint& endpoint = found->second;
  const auto peer = endpoints_.find(endpoint.peer);
  if (peer == endpoints_.end()) {
    if (endpoint.incoming.empty() && !endpoint.delivery_scheduled && !endpoint.syn_under_way) {
      endpoints_.erase(found);
    }
    return;
  }
  if (!peer->second.released) return;
  for (const Endpoint* end : {&endpoint, static_cast<const Endpoint*>(&peer->second)}) {
    if (!end->incoming.empty() || end->delivery_scheduled) return;
  }
  endpoints_.erase(peer);
  endpoints_.erase(found);
}

}  // namespace gyre::sim
