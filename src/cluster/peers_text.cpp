#include "cluster/peers_text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "base/hash.hpp"

namespace gyre::cluster {

namespace {

constexpr size_t uuid_digits = 32;

std::string checksum_line(std::string_view text) {
  return fmt::format("checksum {:016x}\n", hash64(text));
}

bool parse_uuid(std::string_view text, std::array<uint8_t, 16>& out) {
  for (size_t i = 0; i < out.size(); ++i) {
    const char* const at = text.data() + 2 * i;
    if (std::from_chars(at, at + 2, out[i], 16).ptr != at + 2) return false;
  }
  return true;
}

bool parse_line(std::string_view line, KnownPeers& out) {
  const std::string_view word = line.substr(0, line.find(' '));
  const std::string_view rest = line.substr(std::min(word.size() + 1, line.size()));
  if (word == "state") {
    for (const JoinState state : {JoinState::fresh, JoinState::rebuilding, JoinState::complete}) {
      if (rest != to_string(state)) continue;
      out.state = state;
      return true;
    }
    return false;
  }
  KnownPeer peer{.lost = word == "lost"};
  if ((!peer.lost && word != "peer") || rest.size() <= uuid_digits + 1 ||
      rest[uuid_digits] != ' ' || !parse_uuid(rest, peer.uuid)) {
    return false;
  }
  peer.url = rest.substr(uuid_digits + 1);
  out.peers.push_back(std::move(peer));
  return true;
}

}  // namespace

std::string_view to_string(JoinState state) {
  if (state == JoinState::fresh) return "new";
  return state == JoinState::rebuilding ? "rebuilding" : "complete";
}

std::string uuid_text(const std::array<uint8_t, 16>& uuid) {
  std::string text;
  for (const uint8_t byte : uuid) text += fmt::format("{:02x}", byte);
  return text;
}

std::string print_peers(const KnownPeers& known) {
  std::string text = fmt::format("{}\nstate {}\n", peers_title, to_string(known.state));
  for (const KnownPeer& peer : known.peers) {
    text += fmt::format("{} {} {}\n", peer.lost ? "lost" : "peer", uuid_text(peer.uuid), peer.url);
  }
  return text + checksum_line(text);
}

Result<KnownPeers> parse_peers(std::string_view text) {
  const size_t last = text.rfind("checksum ");
  if (last == std::string_view::npos || text.substr(last) != checksum_line(text.substr(0, last)))
    return fail(Errc::corrupt, "its checksum is not that of its text");
  text = text.substr(0, last);
  KnownPeers known;
  size_t states = 0;
  for (size_t number = 1; !text.empty(); ++number) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    states += line.starts_with("state ");
    if (number == 1 ? line != peers_title : !parse_line(line, known))
      return fail(Errc::corrupt, fmt::format("line {} is not understood", number));
  }
  if (states != 1) return fail(Errc::corrupt, "it has no state, or several");
  return known;
}

}  // namespace gyre::cluster
