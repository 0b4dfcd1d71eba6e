#include "peer/frame.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/assert.hpp"
#include "base/coding.hpp"
#include "base/hash.hpp"

namespace gyre::peer {

namespace {

constexpr uint64_t header_seed = 0x7265657065727967;  // "gyrepeer"
constexpr uint64_t payload_seed = header_seed + 1;
constexpr size_t header_hash_at = 20;
// What is reserved for a payload before any of it has come.
constexpr size_t gathered_bytes_first_max = 64u << 10;

uint32_t hash_of_header(const char* bytes) {
  char copy[frame_header_bytes];
  std::memcpy(copy, bytes, frame_header_bytes);
  put_fixed<uint32_t>(copy + header_hash_at, 0);
  return static_cast<uint32_t>(hash64({copy, frame_header_bytes}, header_seed));
}

bool is_known(uint8_t type) {
  return type >= static_cast<uint8_t>(FrameType::hello) &&
         type <= static_cast<uint8_t>(FrameType::credit);
}

}  // namespace

std::string_view to_string(Status status) noexcept {
  switch (status) {
    case Status::ok:
      return "ok";
    case Status::timed_out:
      return "timed out";
    case Status::closed:
      return "closed";
    case Status::busy:
      return "busy";
    case Status::overloaded:
      return "overloaded";
    case Status::cancelled:
      return "cancelled";
    case Status::corrupt:
      return "corrupt";
    case Status::unsupported:
      return "unsupported";
    case Status::too_large:
      return "too large";
    case Status::clock_ahead:
      return "clock ahead";
    case Status::stale_epoch:
      return "stale epoch";
    case Status::future_epoch:
      return "future epoch";
    case Status::closing:
      return "closing";
    case Status::failed:
      return "failed";
    default:
      return "of the service";
  }
}

void write_frame_header(char* out, const FrameHeader& header) {
  out[0] = 0;
  out[1] = static_cast<char>(header.type);
  out[2] = static_cast<char>(header.flags);
  out[3] = static_cast<char>(header.verb);
  put_fixed(out + 4, header.payload_bytes);
  put_fixed(out + 8, header.request_id);
  put_fixed(out + 16, header.time_left_us);
  put_fixed<uint32_t>(out + header_hash_at, 0);
  put_fixed(out + 24, header.epoch);
  put_fixed(out + 32, header.hlc);
  put_fixed(out + 40, header.payload_hash);
  put_fixed(out + header_hash_at, hash_of_header(out));
}

PayloadHash::PayloadHash() : hash_(payload_seed) {}

uint64_t payload_hash(std::string_view payload) noexcept {
  return hash64(payload, payload_seed);
}

std::string make_frame(FrameHeader header, std::string_view payload) {
  header.payload_bytes = static_cast<uint32_t>(payload.size());
  header.payload_hash = payload_hash(payload);
  std::string frame(frame_header_bytes, '\0');
  write_frame_header(frame.data(), header);
  frame += payload;
  return frame;
}

// --- reading ------------------------------------------------------------------------------------

FrameReader::Step FrameReader::fail(std::string_view reason) {
  state_ = State::failed;
  error_ = reason;
  return {Event::error};
}

FrameReader::Step FrameReader::read_header(const char* bytes, size_t consumed) {
  if (bytes[0] != 0) return fail("not a frame");
  if (get_fixed<uint32_t>(bytes + header_hash_at) != hash_of_header(bytes)) {
    return fail("the header of a frame does not match its hash");
  }
  if (!is_known(static_cast<uint8_t>(bytes[1]))) return fail("a frame of an unknown type");
  header_ = {.type = static_cast<FrameType>(bytes[1]),
             .flags = static_cast<uint8_t>(bytes[2]),
             .verb = static_cast<uint8_t>(bytes[3]),
             .payload_bytes = get_fixed<uint32_t>(bytes + 4),
             .request_id = get_fixed<uint64_t>(bytes + 8),
             .time_left_us = get_fixed<uint32_t>(bytes + 16),
             .epoch = get_fixed<uint64_t>(bytes + 24),
             .hlc = get_fixed<uint64_t>(bytes + 32),
             .payload_hash = get_fixed<uint64_t>(bytes + 40)};
  if (header_.payload_bytes > payload_bytes_max_) return fail("a frame is too large");
  state_ = State::payload;
  header_held_ = 0;
  payload_left_ = header_.payload_bytes;
  skip_ = false;
  payload_ = {};
  return {Event::header, consumed};
}

FrameReader::Step FrameReader::complete(std::string_view payload, size_t consumed) {
  state_ = State::header;
  payload_ = payload;
  intact_ = skip_ || payload_hash(payload) == header_.payload_hash;
  return {Event::frame, consumed};
}

FrameReader::Step FrameReader::feed(std::string_view bytes) {
  switch (state_) {
    case State::failed:
      return {Event::error};
    case State::header: {
      payload_ = {};
      if (gathered_.capacity() > kept_bytes_max) std::string().swap(gathered_);
      gathered_.clear();
      if (header_held_ == 0 && bytes.size() >= frame_header_bytes) {
        return read_header(bytes.data(), frame_header_bytes);
      }
      // Whatever does not begin with zero is no frame: that is known at once.
      if (header_held_ == 0 && !bytes.empty() && bytes[0] != 0) return fail("not a frame");
      const size_t piece = std::min(bytes.size(), frame_header_bytes - header_held_);
      std::memcpy(held_ + header_held_, bytes.data(), piece);
      header_held_ += static_cast<uint32_t>(piece);
      if (header_held_ < frame_header_bytes) return {Event::need_more, piece};
      return read_header(held_, piece);
    }
    case State::payload: {
      const size_t piece = std::min(bytes.size(), payload_left_);
      if (skip_) {
        payload_left_ -= piece;
        if (payload_left_ != 0) return {Event::need_more, piece};
        return complete({}, piece);
      }
      if (piece == payload_left_ && gathered_.empty()) {
        payload_left_ = 0;
        return complete(bytes.substr(0, piece), piece);
      }
      if (gathered_.empty()) {
        gathered_.reserve(std::min<size_t>(header_.payload_bytes, gathered_bytes_first_max));
      }
      gathered_.append(bytes.substr(0, piece));
      payload_left_ -= piece;
      if (payload_left_ != 0) return {Event::need_more, piece};
      return complete(gathered_, piece);
    }
  }
  return {Event::error};
}

std::string FrameReader::take_payload() {
  if (payload_.data() != gathered_.data() || payload_.size() < gathered_.size()) {
    return std::string(payload_);
  }
  payload_ = {};
  return std::exchange(gathered_, {});
}

}  // namespace gyre::peer
