// What travels between two nodes: frames, each a header of 48 bytes and a payload.
//
//    0  u8   zero            no HTTP method begins so: how a port tells peers from clients
//    1  u8   type            FrameType
//    2  u8   flags           FrameFlag
//    3  u8   verb            of a request; of a reply its Status; of a hello its step
//    4  u32  payload_bytes
//    8  u64  request_id      chosen by who asks; a reply repeats it
//   16  u32  time_left_us    of a credit: how many more bytes of pages may come. Of a request: until the asker gives up; UINT32_MAX: never. Relative,
//                            since clocks differ; what the network takes is not in it
//   20  u32  header_hash     lower half of the hash of the header with this field zero
//   24  u64  epoch           of the sender's topology
//   32  u64  hlc             of the sender's clock, when it sent (version.hpp)
//   40  u64  payload_hash
//
// Integers are little-endian, hashes XXH3-64 (a seed of their own keeps other streams out). The
// header is checked before anything in it is believed: a wrong one ends the connection, since
// nothing behind it can be told apart. A wrong payload fails that request only.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/hash.hpp"

namespace gyre::peer {

inline constexpr size_t frame_header_bytes = 48;

enum class FrameType : uint8_t { hello = 1, request = 2, reply = 3, page = 4, credit = 5 };

enum FrameFlag : uint8_t {
  flag_stop = 1 << 0,  // of a credit: no more pages are wanted
};

// Bytes of pages that a stream may send before its first credit.
inline constexpr uint32_t stream_window_bytes = 64u << 10;

// A verb that services never see: the connection itself answers it.
inline constexpr uint8_t verb_ping = 255;

// How a request ended. Those of the service begin at `first_of_service` and are its own.
enum class Status : uint8_t {
  ok = 0,
  timed_out,     // the deadline passed; it may still be carried out
  closed,        // no connection, or it broke; it may have been carried out
  busy,          // the peer has too many bytes under way; it was not carried out
  overloaded,    // too many bytes wait for this peer here; it was not sent
  cancelled,     // by its owner, or by the end of the link
  corrupt,       // a payload did not match its hash
  unsupported,   // the peer does not know the verb
  too_large,     // a payload over limits::peer_payload_bytes_max
  clock_ahead,   // the peer does not trust the stamp: it is too far in its future
  stale_epoch,   // the peer's topology is newer: learn it (Call::peer_epoch), then ask again
  future_epoch,  // the peer's topology is older than the asker's
  closing,       // the peer does not serve yet, or no more; it was not carried out
  failed,        // anything else at the peer
  first_of_service = 64,
};
std::string_view to_string(Status status) noexcept;

struct FrameHeader {
  FrameType type = FrameType::request;
  uint8_t flags = 0;
  uint8_t verb = 0;
  uint32_t payload_bytes = 0;
  uint64_t request_id = 0;
  uint32_t time_left_us = UINT32_MAX;
  uint64_t epoch = 0;
  uint64_t hlc = 0;
  uint64_t payload_hash = 0;
};

// `out` has frame_header_bytes.
void write_frame_header(char* out, const FrameHeader& header);
uint64_t payload_hash(std::string_view payload) noexcept;
// The same of a payload in parts.
class PayloadHash {
 public:
  PayloadHash();
  void update(std::string_view part) noexcept { hash_.update(part); }
  uint64_t digest() const noexcept { return hash_.digest(); }

 private:
  StreamingHash hash_;
};
// A whole frame, for what is small and rare.
std::string make_frame(FrameHeader header, std::string_view payload);

// Takes a stream of frames apart, however it was split.
//
//   for (;;) {
//     step = reader.feed(bytes); bytes.remove_prefix(step.consumed);
//     switch (step.event) ...
//   }
//
// A payload that lies whole in what was fed is given as a view of it; another is gathered, in
// memory that grows with what has come and not with what was promised.
class FrameReader {
 public:
  enum class Event : uint8_t {
    need_more,  // everything was consumed
    header,     // a new frame's: the owner may call skip_payload(), the payload comes next
    frame,      // the frame is complete: payload()
    error,      // the stream makes no sense: error()
  };
  struct Step {
    Event event;
    size_t consumed = 0;
  };

  explicit FrameReader(uint32_t payload_bytes_max) : payload_bytes_max_(payload_bytes_max) {}

  Step feed(std::string_view bytes);

  const FrameHeader& header() const { return header_; }
  // The payload of this frame is dropped as it comes, and not checked.
  void skip_payload() { skip_ = true; }
  bool skipped() const { return skip_; }
  // After `frame`, until the next feed. Empty if skipped.
  std::string_view payload() const { return payload_; }
  bool payload_intact() const { return intact_; }
  // The payload, to keep: moved if it was gathered, else copied.
  std::string take_payload();
  std::string_view error() const { return error_; }
  // Bytes held of a frame that is not complete.
  size_t held_bytes() const { return gathered_.capacity(); }

 private:
  static constexpr size_t kept_bytes_max = 16u << 10;  // between frames

  Step fail(std::string_view reason);
  Step read_header(const char* bytes, size_t consumed);
  Step complete(std::string_view payload, size_t consumed);

  enum class State : uint8_t { header, payload, failed };

  uint32_t payload_bytes_max_;
  State state_ = State::header;
  bool skip_ = false;
  bool intact_ = true;
  uint32_t header_held_ = 0;
  char held_[frame_header_bytes];
  FrameHeader header_;
  size_t payload_left_ = 0;
  std::string gathered_;
  std::string_view payload_;
  std::string_view error_;
};

}  // namespace gyre::peer
