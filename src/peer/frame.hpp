// Frames of the RPC between nodes: a header of 48 bytes, then the payload. Little-endian.
//
//    0  zero u8            no HTTP method starts so: it tells the RPC apart on a shared port
//    1  type u8            FrameType
//    2  verb u8            requests: what is asked, as the service numbers it
//    3  status u8          replies: Status
//    4  payload_bytes u32
//    8  request_id u64     requests and their replies; chosen by who asks
//   16  deadline_us u32    requests: how long the answer is worth anything, counted from the arrival
//   20  payload_hash u32   low half of the XXH3-64 of the payload
//   24  epoch u64          of the sender's topology
//   32  hlc u64            the sender's hybrid logical clock
//   40  header_hash u64    XXH3-64 of bytes 0 to 39, seeded
//
// The header has a hash of its own: a damaged payload costs one call, and only a damaged header, after
// which no frame's place is known, the connection (as in Cassandra's internode protocol, version 4).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace gyre {
class Socket;
}

namespace gyre::peer {

enum class FrameType : uint8_t {
  hello = 1,
  welcome = 2,
  proof = 3,
  refusal = 4,
  request = 5,
  reply = 6
};

// How a call ended.
enum class Status : uint8_t {
  ok = 0,
  busy = 1,         // the peer, or the way to it, has too much to do; it was not done
  expired = 2,      // the deadline was over before it was begun
  stale_epoch = 3,  // the peer has another topology
  damaged = 4,      // the payload came with another checksum, or made no sense
  closing = 5,      // the peer stops; it was not done
  // Only on the asking side:
  timed_out = 6,    // no answer; whether it was done is not known
  lost = 7,         // the connection ended; whether it was done is not known
  unreachable = 8,  // there was no connection; it was not done
};
inline constexpr uint8_t status_on_wire_max = 5;

struct FrameHeader {
  static constexpr size_t bytes = 48;
  FrameType type = FrameType::request;
  uint8_t verb = 0;
  Status status = Status::ok;
  uint32_t payload_bytes = 0;
  uint64_t request_id = 0;
  uint32_t deadline_us = 0;
  uint32_t payload_hash = 0;
  uint64_t epoch = 0;
  uint64_t hlc = 0;

  void encode(char* out) const;
  // False: it is no header, or was damaged.
  bool decode(std::string_view in);
};

// Appends a frame to what `socket` sends; fills in size and hash of the payload.
void send_frame(Socket& socket, FrameHeader header, std::span<const std::string_view> payload);

// Longer ones are refused before their bytes are read.
inline constexpr size_t payload_bytes_max = 80u << 20;
inline constexpr size_t hello_bytes_max = 4096;

uint32_t payload_hash(std::string_view payload);

// Cuts a stream of bytes into frames. Whole frames are seen where they lie, others are collected.
class FrameReader {
 public:
  enum class Step : uint8_t { frame, more, broken };

  // Bytes that follow those before; they must stay until next() has said `more`.
  void feed(std::string_view bytes) { fed_ = bytes; }
  // frame: header() and payload() hold until the next call. more: feed() the next bytes. broken: the
  // bytes are no frame, and nothing behind them can be read.
  Step next();

  const FrameHeader& header() const { return header_; }
  std::string_view payload() const { return payload_; }
  bool payload_intact() const { return payload_hash(payload_) == header_.payload_hash; }
  // Until the handshake has ended nobody gets more than hello_bytes_max.
  void limit_payload(size_t bytes) { payload_limit_ = bytes; }

 private:
  std::string_view fed_;
  std::string kept_;  // of a frame whose end has not come
  size_t wanted_ = 0;
  bool kept_is_done_ = false;
  size_t payload_limit_ = hello_bytes_max;
  FrameHeader header_;
  std::string_view payload_;
};

}  // namespace gyre::peer
