#include "peer/frame_output.hpp"

#include <cstring>

namespace gyre::peer {

size_t bytes_of(std::span<const std::string_view> parts) noexcept {
  size_t bytes = 0;
  for (std::string_view part : parts) bytes += part.size();
  return bytes;
}

void append_frame(Socket& socket, FrameHeader header, std::span<const std::string_view> parts,
                  PartOwner owner) {
  const size_t payload_bytes = bytes_of(parts);
  header.payload_bytes = static_cast<uint32_t>(payload_bytes);
  if (frame_header_bytes + payload_bytes <= Socket::reserve_bytes_max) {
    char* at = socket.reserve(frame_header_bytes + payload_bytes);
    char* end = at + frame_header_bytes;
    for (std::string_view part : parts) {
      if (part.empty()) continue;
      std::memcpy(end, part.data(), part.size());
      end += part.size();
    }
    header.payload_hash = payload_hash({at + frame_header_bytes, payload_bytes});
    write_frame_header(at, header);
    socket.commit(frame_header_bytes + payload_bytes);
    return;
  }
  PayloadHash hash;
  for (std::string_view part : parts) hash.update(part);
  header.payload_hash = hash.digest();
  write_frame_header(socket.reserve(frame_header_bytes), header);
  socket.commit(frame_header_bytes);
  for (std::string_view part : parts) {
    if (owner.owner == nullptr || part.size() < part_reference_bytes_min) {
      socket.append(part);
      continue;
    }
    owner.retain(owner.owner);
    socket.append_reference(part, owner.owner, owner.release);
  }
}

}  // namespace gyre::peer
