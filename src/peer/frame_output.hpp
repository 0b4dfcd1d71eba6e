// Puts frames into a socket's output.
#pragma once

#include <span>
#include <string_view>

#include <gyre/socket.hpp>

#include "peer/frame.hpp"

namespace gyre::peer {

// Who owns the bytes of parts that are sent from where they lie.
struct PartOwner {
  void* owner = nullptr;
  void (*retain)(void* owner) noexcept = nullptr;
  void (*release)(void* owner) noexcept = nullptr;
};

inline constexpr size_t part_reference_bytes_min = 16u << 10;

size_t bytes_of(std::span<const std::string_view> parts) noexcept;

// A frame whose payload is `parts` put together; sizes and hashes are filled in. Small ones are one
// piece of the output.
void append_frame(Socket& socket, FrameHeader header, std::span<const std::string_view> parts,
                  PartOwner owner = {});

}  // namespace gyre::peer
