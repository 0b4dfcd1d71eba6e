// The simulated network: TCP-like streams between the nodes of a world and within one.
//
//   - a stream is two endpoints; what one sends arrives at the other in order, whole, in pieces
//     of any size, after a delay; never doubled or reordered
//   - a sender may have at most `window` bytes that its peer's program has not read
//   - a blocked direction (partition) delays messages until it heals: the bytes are not lost,
//     as TCP would send them again. A clogged one delays them for a time
//   - closing with unread bytes, or sending to an endpoint that is gone, resets the connection,
//     as the kernel does. A node without power answers nothing
//
// Invariants: a message queue is ordered by delivery time; what one endpoint does to its peer is
// always a message with a delay > 0. A waiter that is told of a change may close its own endpoint.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gyre/backend.hpp>

#include "sim/disk.hpp"
#include "sim/prng.hpp"

namespace gyre::sim {

class World;
class SimBackend;

using EndpointId = uint32_t;
using ListenerId = uint32_t;

// "1.2.3.4" or "::1", what connect and listen take.
bool is_numeric_address(const char* text);

struct NetworkOptions {
  Latency loopback{microseconds(3), microseconds(60)};
  Latency between_nodes{microseconds(50), milliseconds(2)};
  uint32_t spike_ppm = 2'000;  // a message is held up for `spike`
  Latency spike{milliseconds(5), milliseconds(200)};
  uint32_t reset_ppm = 0;  // a data message finds the connection reset
  size_t window_bytes_min = 4u << 10;
  size_t window_bytes_max = 256u << 10;
  Latency retransmit{milliseconds(1), milliseconds(200)};  // after a partition heals
  Nanos connect_timeout = seconds(130);
};

// An operation that waits for an endpoint or a listener.
struct Waiter {
  SimBackend* backend;
  uint32_t slot;
  bool operator==(const Waiter&) const = default;
};

struct Endpoint {
  enum class State : uint8_t { connecting, open, failed };

  EndpointId id = 0;
  EndpointId peer = 0;  // 0 while connecting
  unsigned node = 0;
  unsigned peer_node = 0;
  State state = State::connecting;
  int error = 0;          // positive errno once failed
  bool released = false;  // the program closed it, or its node is gone
  bool fin_received = false;
  bool write_shut = false;
  bool read_shut = false;
  std::string inbox;  // arrived and unread, from inbox_head on
  size_t inbox_head = 0;
  size_t uncredited = 0;  // read here, but the sender has not heard of it yet
  size_t window = 0;      // how many bytes this side may have under way to its peer
  size_t unread_by_peer = 0;
  std::vector<Waiter> waiters;

  // Messages under way to this endpoint.
  struct Message {
    enum Kind : uint8_t { established, refused, data, credit, fin, reset } kind;
    Nanos at;
    size_t credit_bytes = 0;
    std::string bytes;
  };
  std::deque<Message> incoming;
  Nanos last_delivery = 0;
  bool delivery_scheduled = false;

  // While connecting.
  std::string address;
  uint16_t port = 0;
  Nanos give_up_at = 0;
  bool syn_under_way = false;

  size_t available() const { return inbox.size() - inbox_head; }
  size_t room() const { return window > unread_by_peer ? window - unread_by_peer : 0; }
};

class Network {
 public:
  Network(World& world, NetworkOptions options, Prng prng);

  NetworkOptions options;

  // --- for SimBackend; results >= 0 or a negative errno
  int32_t listen(unsigned node, std::string_view address, uint16_t port, uint16_t flags,
                 uint32_t backlog, ListenerId& listener);
  void close_listener(ListenerId listener);
  // The next connection that waits there, or 0.
  EndpointId accept(ListenerId listener);
  bool has_waiting(ListenerId listener) const { return !listeners_.at(listener).queue.empty(); }
  uint16_t port_of(ListenerId listener) const { return listeners_.at(listener).port; }
  void watch(ListenerId listener, Waiter waiter);
  void unwatch_listener(ListenerId listener, Waiter waiter);

  EndpointId connect(unsigned node, std::string_view address, uint16_t port);
  Endpoint& at(EndpointId id);
  void watch(Endpoint& endpoint, Waiter waiter);
  void unwatch(EndpointId id, Waiter waiter);
  void transmit(Endpoint& from, std::string_view bytes);
  // The program took `n` bytes from the inbox.
  void consume(Endpoint& endpoint, size_t n);
  void shutdown(Endpoint& endpoint, int how);
  void close(EndpointId id);

  // --- faults
  // Nothing travels from one node to another until `heal`. One direction, or both.
  void block(unsigned from, unsigned to);
  void partition(unsigned a, unsigned b);
  void isolate(unsigned node);
  void heal(unsigned a, unsigned b);
  void heal_all();
  bool blocked(unsigned from, unsigned to) const { return blocked_.contains({from, to}); }
  // Messages from one node to another wait until `duration` from now.
  void clog(unsigned from, unsigned to, Nanos duration);
  // The programs of a node get nothing from their sockets until `duration` from now.
  void stall_reader(unsigned node, Nanos duration);
  Nanos reader_stalled_until(unsigned node) const;
  // Both ends of the connection behind an endpoint see ECONNRESET.
  void reset(EndpointId id);
  // Only this end does; the other learns it when it next sends (half-open until then).
  void reset_one_side(EndpointId id);
  // Established ends of a node's connections, in the order in which they were made.
  std::vector<EndpointId> connections(unsigned node) const;
  // Overrides the delays of one direction.
  void set_latency(unsigned from, unsigned to, Latency latency) { latency_[{from, to}] = latency; }
  // Another process of this node listens on the port.
  void occupy_port(unsigned node, uint16_t port) { foreign_ports_.insert({node, port}); }
  void release_port(unsigned node, uint16_t port) { foreign_ports_.erase({node, port}); }

  // --- for World
  // Power is gone (`silent`: peers hear nothing), or the process ended (the kernel says goodbye).
  void node_gone(unsigned node, bool silent);
  std::string dump() const;
  size_t endpoints_of(unsigned node) const;
  uint64_t bytes_delivered() const { return bytes_delivered_; }

 private:
  struct Listener {
    unsigned node;
    std::string address;
    uint16_t port;
    bool reuse_port;
    uint32_t backlog;
    std::deque<EndpointId> queue;
    std::vector<Waiter> waiters;
  };

  Endpoint& make_endpoint(unsigned node, unsigned peer_node);
  Nanos delay(unsigned from, unsigned to);
  void send(Endpoint& to, Endpoint::Message message);
  void schedule_delivery(Endpoint& endpoint, Nanos at);
  void deliver(EndpointId id);
  void receive(Endpoint& endpoint, Endpoint::Message& message);
  void answer_with_reset(Endpoint& gone);
  void syn(EndpointId id);
  void retry_syn(Endpoint& endpoint);
  void fail(Endpoint& endpoint, int error);
  void release(Endpoint& endpoint);
  void erase_if_done(EndpointId id);
  void notify(std::vector<Waiter> waiters);
  std::vector<ListenerId> listeners_for(unsigned node, std::string_view address, uint16_t port);
  int find_node(unsigned from, std::string_view address) const;

  World& world_;
  Prng prng_;
  std::map<EndpointId, Endpoint> endpoints_;
  std::map<ListenerId, Listener> listeners_;
  std::set<std::pair<unsigned, unsigned>> blocked_;
  std::map<std::pair<unsigned, unsigned>, Nanos> clogged_until_;
  std::map<std::pair<unsigned, unsigned>, Latency> latency_;
  std::map<unsigned, Nanos> stalled_until_;
  std::set<std::pair<unsigned, uint16_t>> foreign_ports_;
  uint32_t next_id_ = 1;
  uint16_t next_port_ = 20'000;
  uint64_t bytes_delivered_ = 0;
};

}  // namespace gyre::sim
