#include "store/log_format.hpp"

#include "base/coding.hpp"
#include "base/hash.hpp"

namespace gyre {

namespace {
constexpr size_t hash_offset = log_header_bytes - sizeof(uint64_t);
}

void encode_frame_header(char* out, const FrameHeader& header, uint64_t salt) {
  put_fixed(out, log_magic);
  put_fixed(out + 4, header.format_version);
  put_fixed(out + 6, header.flags);
  put_fixed(out + 8, header.segment_id);
  put_fixed(out + 16, header.frame_seq);
  put_fixed(out + 24, header.position);
  put_fixed(out + 32, header.synced_position);
  put_fixed(out + 40, header.first_seq);
  put_fixed(out + 48, header.entries);
  put_fixed(out + 52, header.payload_bytes);
  put_fixed(out + 56, header.payload_hash);
  put_fixed(out + hash_offset, hash64({out, hash_offset}, salt));
}

bool decode_frame_header(std::string_view bytes, uint64_t salt, FrameHeader& header) {
  if (bytes.size() < log_header_bytes) return false;
  const char* in = bytes.data();
  if (get_fixed<uint32_t>(in) != log_magic) return false;
  if (get_fixed<uint64_t>(in + hash_offset) != hash64(bytes.substr(0, hash_offset), salt))
    return false;
  header.format_version = get_fixed<uint16_t>(in + 4);
  header.flags = get_fixed<uint16_t>(in + 6);
  header.segment_id = get_fixed<uint64_t>(in + 8);
  header.frame_seq = get_fixed<uint64_t>(in + 16);
  header.position = get_fixed<uint64_t>(in + 24);
  header.synced_position = get_fixed<uint64_t>(in + 32);
  header.first_seq = get_fixed<uint64_t>(in + 40);
  header.entries = get_fixed<uint32_t>(in + 48);
  header.payload_bytes = get_fixed<uint32_t>(in + 52);
  header.payload_hash = get_fixed<uint64_t>(in + 56);
  if (header.format_version != log_format_version) return true;
  return header.synced_position <= header.position && header.payload_bytes <= log_payload_bytes_max;
}

uint64_t frame_payload_hash(std::string_view payload, uint64_t salt) {
  return hash64(payload, salt);
}

}  // namespace gyre
