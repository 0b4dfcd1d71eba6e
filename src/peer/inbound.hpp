// A connection that a peer made to this node: the handshake, then its requests, which a Service
// answers in any order.
//
//   - Requests whose deadline is over when their turn comes, or that carry another epoch, are
//     answered so without being looked at.
//   - The bytes of requests under way are bounded; beyond that they are answered Status::busy. While
//     the peer doesn't read its replies, nothing more is read from it.
#pragma once

#include <cstdint>
#include <string_view>

#include <gyre/socket.hpp>
#include <gyre/sync.hpp>
#include <gyre/task.hpp>

#include "peer/frame.hpp"
#include "peer/hello.hpp"
#include "peer/link.hpp"

namespace gyre::peer {

class Inbound;

// Where a reply goes. Exactly one reply per request; on the core that got it.
struct ReplyTo {
  Inbound* inbound = nullptr;
  uint64_t request_id = 0;
  uint32_t request_bytes = 0;

  void reply(Status status, std::string_view head = {}, std::string_view body = {}) const noexcept;
};

class Service {
 public:
  virtual ~Service() = default;
  // `payload` is valid during this call. The reply may be given within it.
  virtual void request(uint8_t verb, std::string_view payload, Nanos deadline,
                       const ReplyTo& to) noexcept = 0;
};

class Inbound {
 public:
  static constexpr size_t request_bytes_max = 96u << 20;  // under way; one of the largest fits
  static constexpr size_t output_bytes_pause = 4u << 20;
  static constexpr Nanos handshake_patience = seconds(2);

  Inbound(Host& host, Service& service, Socket& socket);
  ~Inbound();

  // Serves until the connection ends and every request has its reply. `first`: what was received
  // already.
  Task<void> serve(std::string_view first);
  // No request is taken any more; what is under way is answered, then serve ends.
  void drain() noexcept;

  const Identity& peer() const { return peer_; }

 private:
  friend struct ReplyTo;
  Task<bool> shake_hands(FrameReader& reader);
  Task<bool> next_frame(FrameReader& reader);
  void refuse(std::string_view reason);
  bool take(const FrameReader& reader);
  void send(const FrameHeader& header, std::string_view head, std::string_view body) noexcept;

  Host& host_;
  Service& service_;
  Socket& socket_;
  Identity peer_;
  size_t request_bytes_ = 0;
  size_t under_way_ = 0;
  bool draining_ = false;
  Event all_answered_;
};

}  // namespace gyre::peer
