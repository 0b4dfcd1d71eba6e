// What a data directory's PEERS file holds: how far its node is in its cluster, and which data
// directory each peer was last seen with (node/replication/peer_registry.hpp). A text file:
//
//   gyre peers 1
//   state complete                                             or new, or rebuilding
//   peer 00112233445566778899aabbccddeeff http://10.0.0.2:8080   one line per known peer
//   lost 0123456789abcdef0123456789abcdef http://10.0.0.3:8080   … that has lost what it had before
//   checksum 89abcdef01234567                                  XXH3-64 of all bytes before this line
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <gyre/result.hpp>

#include "cluster/handoff_messages.hpp"

namespace gyre::cluster {

inline constexpr std::string_view peers_file_name = "PEERS";
inline constexpr std::string_view peers_title = "gyre peers 1";

struct KnownPeer {
  std::array<uint8_t, 16> uuid{};  // of its data directory
  bool lost = false;
  std::string url;

  friend bool operator==(const KnownPeer&, const KnownPeer&) = default;
};

struct KnownPeers {
  JoinState state = JoinState::fresh;
  std::vector<KnownPeer> peers;

  friend bool operator==(const KnownPeers&, const KnownPeers&) = default;
};

std::string_view to_string(JoinState state);
// 32 hexadecimal digits.
std::string uuid_text(const std::array<uint8_t, 16>& uuid);

std::string print_peers(const KnownPeers& known);
// Errc::corrupt, with what is wrong.
Result<KnownPeers> parse_peers(std::string_view text);

}  // namespace gyre::cluster
