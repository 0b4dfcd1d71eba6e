#include "cluster/handoff/peer_set.hpp"

#include "base/coding.hpp"
#include "base/hash.hpp"

namespace gyre::cluster {

PeerId peer_id(std::string_view url) noexcept {
  constexpr uint64_t seeds[2] = {0x70656572'2d696431, 0x70656572'2d696432};
  PeerId id;
  for (size_t half = 0; half < 2; ++half) {
    put_fixed(reinterpret_cast<char*>(id.data()) + 8 * half, hash64(url, seeds[half]));
  }
  return id;
}

}  // namespace gyre::cluster
