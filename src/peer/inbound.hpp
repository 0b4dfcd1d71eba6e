// Serves one connection that a peer made: the handshake, then its requests, until it ends.
//
// Requests are given to a Service as they come and answered in any order, at once or later, from
// this core. What they hold is bounded in bytes, per connection and over all that share a
// ByteBudget: a request over the bound is answered Status::busy and its payload dropped as it
// comes. A request whose deadline has passed when its header is read is dropped unread. A peer that
// does not read its replies is not read from, and cut off after `send_timeout`.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>

#include <gyre/reactor.hpp>
#include <gyre/socket.hpp>
#include <gyre/sync.hpp>
#include <gyre/task.hpp>

#include "peer/frame.hpp"
#include "peer/hello.hpp"
#include "peer/local_node.hpp"

namespace gyre::peer {

class Inbound;

// Bytes of requests under way on one core.
struct ByteBudget {
  size_t bytes_max = 32u << 20;
  size_t bytes = 0;
};

// One request of a peer, from Service::request to reply(), which ends its life.
class InboundCall {
 public:
  InboundCall(const InboundCall&) = delete;
  InboundCall& operator=(const InboundCall&) = delete;
  static void* operator new(size_t size_bytes) { return allocate_frame(size_bytes); }
  static void operator delete(void* memory, size_t size_bytes) { free_frame(memory, size_bytes); }

  uint8_t verb() const { return verb_; }
  Nanos deadline() const { return deadline_; }  // of this core's clock; nanos_never: none
  uint64_t epoch() const { return epoch_; }     // of the asker's topology
  uint64_t hlc() const { return hlc_; }         // of the asker's clock, merged already
  const Identity& peer() const;
  // Valid during Service::request, and until reply() after keep_payload().
  std::string_view payload() const { return payload_; }
  void keep_payload();

  // Once. `parts` are copied; false if the connection is gone (the reply is dropped).
  bool reply(Status status, std::span<const std::string_view> parts);
  bool reply(Status status, std::string_view payload = {}) {
    return reply(status, std::span<const std::string_view>(&payload, 1));
  }
  // --- pages before the reply, to a caller that takes them (Call::page) -------------------------
  // From now on `resume` is called when credit has come, or when no more pages are wanted: the
  // connection is gone, or the asker stopped. It may send pages, and reply to this call only.
  using Resume = void (*)(InboundCall& call) noexcept;
  void begin_pages(Resume resume);
  // Pages may be sent while this is above zero; the last one may take it below.
  int64_t credit_bytes() const { return credit_bytes_; }
  bool pages_wanted() const { return !stopped_ && connected(); }
  // Copied. Only while there is credit; false if none is wanted any more (it is dropped).
  bool send_page(std::span<const std::string_view> parts);

  // The connection still lives: work for a peer that is gone may be dropped.
  bool connected() const;

  // For whoever queues it.
  InboundCall* next = nullptr;
  void* context = nullptr;

 private:
  friend class Inbound;
  InboundCall(Inbound& inbound, const FrameHeader& header, Nanos deadline, size_t charged_bytes);
  ~InboundCall() = default;

  Inbound& inbound_;
  uint64_t id_;
  uint64_t epoch_;
  uint64_t hlc_;
  Nanos deadline_;
  size_t charged_bytes_;
  std::string_view payload_;
  std::string kept_;
  uint8_t verb_;
  bool is_kept_ = false;
  bool stopped_ = false;
  Resume resume_ = nullptr;
  int64_t credit_bytes_ = 0;
  InboundCall* next_stream_ = nullptr;
  InboundCall* previous_stream_ = nullptr;
};

class Service {
 public:
  virtual ~Service() = default;
  // May answer at once or keep the call and answer later; must answer every call, also of a
  // connection that is gone.
  virtual void request(InboundCall& call) noexcept = 0;
};

struct InboundOptions {
  HandshakeOptions handshake{};
  size_t bytes_max = 16u << 20;          // of requests under way on this connection
  size_t output_bytes_pause = 1u << 20;  // of replies not yet sent: no more is read beyond it
  Nanos send_timeout = seconds(30);      // without a byte taken
  Nanos idle_timeout = seconds(120);     // without a byte from the peer, and nothing under way
};

struct InboundStats {
  uint64_t requests = 0;
  uint64_t busy = 0;
  uint64_t expired = 0;  // dropped: their deadline had passed
  uint64_t corrupt = 0;

  InboundStats& operator+=(const InboundStats& other) {
    requests += other.requests;
    busy += other.busy;
    expired += other.expired;
    corrupt += other.corrupt;
    return *this;
  }
};

class Inbound {
 public:
  Inbound(Descriptor connected, LocalNode& node, Service& service, ByteBudget& budget,
          InboundOptions options = {});
  ~Inbound();
  Inbound(const Inbound&) = delete;
  Inbound& operator=(const Inbound&) = delete;

  // Until the connection has ended, every call was answered and the socket is closed. `received`:
  // what came before this took over. The error says why there was no handshake or what was wrong
  // with the stream; a peer that goes away is none.
  Task<Result<void>> serve(std::string received);
  // Reads no further; ends when what is under way is answered and sent.
  void drain() noexcept;
  // Gives the connection up.
  void abort() noexcept;

  const Identity& peer() const { return peer_; }  // after the handshake
  bool met() const { return met_; }
  const InboundStats& stats() const { return stats_; }

  // Intrusive list of the owner.
  Inbound* next = nullptr;
  Inbound* previous = nullptr;

 private:
  friend class InboundCall;
  struct WatchTimer : Timer {
    explicit WatchTimer(Inbound& of);
    Inbound& inbound;
  };

  Task<Result<void>> read_requests(std::string rest);
  Result<void> take(std::string_view bytes);
  Status admit(const FrameHeader& header);
  void begin(const FrameHeader& header);
  void credit(const FrameHeader& header);
  void unlink_stream(InboundCall& call) noexcept;
  void send_reply(uint64_t id, Status status, std::span<const std::string_view> parts);
  void ended(InboundCall& call) noexcept;
  void discharge(size_t bytes) noexcept;
  void check_progress() noexcept;

  Socket socket_;
  LocalNode& node_;
  Service& service_;
  ByteBudget& budget_;
  InboundOptions options_;
  FrameReader reader_;
  Identity peer_;
  bool met_ = false;
  bool draining_ = false;
  bool gone_ = false;
  Nanos deadline_of_frame_ = 0;
  Status verdict_ = Status::ok;  // on the request whose frame is being read
  size_t charged_ = 0;           // for it
  size_t calls_ = 0;
  InboundCall* streams_ = nullptr;
  size_t bytes_ = 0;
  Event answered_;
  WatchTimer watch_{*this};
  uint64_t progress_seen_ = 0;
  bool was_writing_ = false;
  Nanos progress_at_ = 0;
  InboundStats stats_;
};

}  // namespace gyre::peer
