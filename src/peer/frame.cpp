#include "peer/frame.hpp"

#include <algorithm>
#include <cstring>

#include <gyre/socket.hpp>

#include "base/assert.hpp"
#include "base/coding.hpp"
#include "base/hash.hpp"

namespace gyre::peer {

namespace {
constexpr uint64_t header_seed = 0x6779726570656572;
constexpr size_t hash_offset = 40;
constexpr size_t kept_bytes_usual = 64u << 10;  // more is given back between frames
}  // namespace

uint32_t payload_hash(std::string_view payload) {
  return static_cast<uint32_t>(hash64(payload));
}

void FrameHeader::encode(char* out) const {
  out[0] = 0;
  out[1] = static_cast<char>(type);
  out[2] = static_cast<char>(verb);
  out[3] = static_cast<char>(status);
  put_fixed(out + 4, payload_bytes);
  put_fixed(out + 8, request_id);
  put_fixed(out + 16, deadline_us);
  put_fixed(out + 20, payload_hash);
  put_fixed(out + 24, epoch);
  put_fixed(out + 32, hlc);
  put_fixed(out + hash_offset, hash64({out, hash_offset}, header_seed));
}

bool FrameHeader::decode(std::string_view in) {
  if (in.size() < bytes || in[0] != 0) return false;
  if (get_fixed<uint64_t>(in.data() + hash_offset) !=
      hash64(in.substr(0, hash_offset), header_seed))
    return false;
  const auto wire_type = static_cast<uint8_t>(in[1]);
  const auto wire_status = static_cast<uint8_t>(in[3]);
  if (wire_type < 1 || wire_type > 6 || wire_status > status_on_wire_max) return false;
  type = static_cast<FrameType>(wire_type);
  verb = static_cast<uint8_t>(in[2]);
  status = static_cast<Status>(wire_status);
  payload_bytes = get_fixed<uint32_t>(in.data() + 4);
  request_id = get_fixed<uint64_t>(in.data() + 8);
  deadline_us = get_fixed<uint32_t>(in.data() + 16);
  payload_hash = get_fixed<uint32_t>(in.data() + 20);
  epoch = get_fixed<uint64_t>(in.data() + 24);
  hlc = get_fixed<uint64_t>(in.data() + 32);
  return true;
}

void send_frame(Socket& socket, FrameHeader header, std::span<const std::string_view> payload) {
  size_t size = 0;
  for (const std::string_view part : payload) size += part.size();
  GYRE_ASSERT(size <= payload_bytes_max);
  header.payload_bytes = static_cast<uint32_t>(size);
  if (FrameHeader::bytes + size > Socket::reserve_bytes_max) {
    StreamingHash hash;
    for (const std::string_view part : payload) hash.update(part);
    header.payload_hash = static_cast<uint32_t>(hash.digest());
    char* const out = socket.reserve(FrameHeader::bytes);
    header.encode(out);
    socket.commit(FrameHeader::bytes);
    for (const std::string_view part : payload) socket.append(part);
    return;
  }
  char* const out = socket.reserve(FrameHeader::bytes + size);
  char* at = out + FrameHeader::bytes;
  for (const std::string_view part : payload) {
    if (!part.empty()) std::memcpy(at, part.data(), part.size());
    at += part.size();
  }
  header.payload_hash = payload_hash({out + FrameHeader::bytes, size});
  header.encode(out);
  socket.commit(FrameHeader::bytes + size);
}

FrameReader::Step FrameReader::next() {
  if (kept_is_done_) {
    kept_is_done_ = false;
    if (kept_.capacity() > kept_bytes_usual) {
      std::string().swap(kept_);
    } else {
      kept_.clear();
    }
    wanted_ = 0;
  }
  if (kept_.empty()) {
    if (fed_.size() >= FrameHeader::bytes) {
      if (!header_.decode(fed_) || header_.payload_bytes > payload_limit_) return Step::broken;
      const size_t whole = FrameHeader::bytes + header_.payload_bytes;
      if (fed_.size() >= whole) {
        payload_ = fed_.substr(FrameHeader::bytes, header_.payload_bytes);
        fed_.remove_prefix(whole);
        return Step::frame;
      }
      wanted_ = whole;
      kept_.reserve(whole);
    } else {
      if (!fed_.empty() && fed_[0] != 0) return Step::broken;
      wanted_ = FrameHeader::bytes;
    }
  }
  for (;;) {
    const size_t take = std::min(wanted_ - kept_.size(), fed_.size());
    kept_.append(fed_.substr(0, take));
    fed_.remove_prefix(take);
    if (kept_.size() < wanted_) return Step::more;
    if (wanted_ == FrameHeader::bytes) {
      if (!header_.decode(kept_) || header_.payload_bytes > payload_limit_) return Step::broken;
      wanted_ += header_.payload_bytes;
      if (header_.payload_bytes != 0) {
        kept_.reserve(wanted_);
        continue;
      }
    }
    payload_ = std::string_view(kept_).substr(FrameHeader::bytes);
    kept_is_done_ = true;
    return Step::frame;
  }
}

}  // namespace gyre::peer
