#include "cluster/peers_text.hpp"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <string>
#include <string_view>
#include <vector>

#include "base/hash.hpp"

using namespace gyre;
using namespace gyre::cluster;

namespace {

const KnownPeers some{
    .state = JoinState::rebuilding,
    .peers = {{.uuid = {0x00, 0x11, 0xff}, .lost = false, .url = "http://10.0.0.2:8080"},
              {.uuid = {0xab}, .lost = true, .url = "http://10.0.0.3:8080"}}};

std::string with_checksum(const std::string& text) {
  return text + fmt::format("checksum {:016x}\n", hash64(text));
}

}  // namespace

TEST_CASE("known peers are printed as drawn, and read back") {
  const std::string text = print_peers(some);
  CHECK(text == with_checksum("gyre peers 1\nstate rebuilding\n"
                              "peer 0011ff00000000000000000000000000 http://10.0.0.2:8080\n"
                              "lost ab000000000000000000000000000000 http://10.0.0.3:8080\n"));
  CHECK(*parse_peers(text) == some);
  for (const JoinState state : {JoinState::fresh, JoinState::rebuilding, JoinState::complete}) {
    const KnownPeers alone{.state = state, .peers = {}};
    CHECK(*parse_peers(print_peers(alone)) == alone);
  }
}

TEST_CASE("no changed or missing byte of known peers goes unnoticed") {
  const std::string text = print_peers(some);
  for (size_t at = 0; at < text.size(); ++at) {
    std::string changed = text;
    changed[at] = static_cast<char>(changed[at] ^ 1);
    const Result<KnownPeers> parsed = parse_peers(changed);
    CHECK(!parsed);
    CHECK(!parse_peers(text.substr(0, at)));
  }
  CHECK(!parse_peers(text + "\n"));
}

TEST_CASE("lines that nobody writes are refused, whatever the checksum says") {
  const auto refused = [](const std::string& lines, std::string_view part) {
    const Result<KnownPeers> parsed = parse_peers(with_checksum(lines));
    REQUIRE(!parsed);
    CHECK(parsed.error().code == Errc::corrupt);
    return parsed.error().detail.find(part) != std::string::npos;
  };
  const std::string uuid(32, '0');
  CHECK(refused("", "has no state"));
  CHECK(refused("gyre peers 1\n", "has no state"));
  CHECK(refused("gyre peers 2\nstate new\n", "line 1 "));
  CHECK(refused("gyre peers 1\nstate old\n", "line 2 "));
  CHECK(refused("gyre peers 1\nstate new\nstate new\n", "several"));
  for (const std::string& line : std::vector<std::string>{
           "", "peer", "peer ", "found " + uuid + " http://a:1", "peer " + uuid,
           "peer " + uuid + " ", "peer " + uuid + "0http://a:1",
           "peer g" + uuid.substr(1) + " http://a:1"}) {
    CHECK(refused("gyre peers 1\nstate new\n" + line + "\n", "line 3 "));
  }
}
