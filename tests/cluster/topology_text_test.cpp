#include "cluster/topology_text.hpp"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <string>
#include <utility>

#include "base/hash.hpp"
#include "base/limits.hpp"

using namespace gyre;
using namespace gyre::cluster;

namespace {

Topology some(size_t count) {
  std::vector<NodeEntry> nodes;
  for (size_t i = 0; i < count; ++i) {
    NodeEntry& node = nodes.emplace_back();
    node.url = fmt::format("http://10.0.1.{}:8080", i);
    node.weight = static_cast<uint32_t>(1 + i % 2);
    node.zone = fmt::format("z{}", i % 3);
    if (i % 2 == 1) node.shards = 4;
    if (i % 3 == 1) node.uuid = "00112233445566778899aabbccddeeff";
  }
  Topology topology = *make_topology(nodes);
  topology.epoch = 7;
  topology.previous_hash = 0xabc;
  return topology;
}

// The text with the first `from` replaced, and a checksum that holds.
std::string changed(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  REQUIRE(at != text.npos);
  text.replace(at, from.size(), to);
  text.resize(text.rfind("checksum "));
  return text + fmt::format("checksum {:016x}\n", hash64(text));
}

std::string refusal(const std::string& text, Errc code = Errc::corrupt) {
  const Result<Topology> parsed = parse_topology(text, "t.gyre");
  REQUIRE(!parsed);
  CHECK(parsed.error().code == code);
  return parsed.error().detail;
}

bool has(const std::string& text, std::string_view part) {
  if (text.find(part) != text.npos) return true;
  MESSAGE("not found: ", part, "\nin: ", text);
  return false;
}

}  // namespace

TEST_CASE("a topology is read back as it was written") {
  for (const size_t count : {1, 2, 3, 36, 37, 100}) {
    const Topology topology = some(count);
    const std::string text = print_topology(topology);
    CHECK(text.size() < limits::topology_bytes_max);
    const Result<Topology> read = parse_topology(text, "t.gyre");
    REQUIRE(read);
    CHECK(*read == topology);
    CHECK(print_topology(*read) == text);
  }
}

TEST_CASE("the text looks as drawn") {
  const std::string text = print_topology(some(2));
  CHECK(
      text.starts_with("gyre topology\nformat 1\nepoch 7\nprevious 0000000000000abc\n"
                       "node http://10.0.1.0:8080 weight=1 zone=z0\n"
                       "node http://10.0.1.1:8080 weight=2 zone=z1 shards=4 "
                       "uuid=00112233445566778899aabbccddeeff\nslots 00 "));
  CHECK(has(text, "\nslots 3f "));
}

TEST_CASE("every byte counts") {
  const std::string text = print_topology(some(3));
  for (size_t at = 0; at < text.size(); at += at < 400 ? 1 : 997) {
    std::string other = text;
    other[at] = static_cast<char>(other[at] ^ 1);
    CHECK(!parse_topology(other, "t.gyre"));
    CHECK(!parse_topology(text.substr(0, at), "t.gyre"));
  }
}

TEST_CASE("errors name the line and say what to do") {
  const std::string text = print_topology(some(3));
  CHECK(has(refusal(""), "t.gyre:1: this is no topology of Gyre. Make one with gyre admin"));
  CHECK(has(refusal("nodes = 3\n"), "t.gyre:1: this is no topology"));
  CHECK(has(refusal(changed(text, "format 1", "format 2"), Errc::unsupported), "use a newer gyre"));
  CHECK(has(refusal(changed(text, "epoch 7", "epoch 07")), "t.gyre:3: 'epoch 07' where epoch N"));
  CHECK(has(refusal(changed(text, "epoch 7", "epoch 0")), "t.gyre:3:"));
  CHECK(has(refusal(changed(text, "previous 0", "previous x")), "t.gyre:4:"));
  CHECK(has(refusal(changed(text, "weight=1", "weight=0")),
            "t.gyre:5: http://10.0.1.0:8080: weight=0"));
  CHECK(has(refusal(changed(text, " weight=1", "  weight=1")), "t.gyre:5:"));
  CHECK(has(refusal(changed(text, " weight=1", "")), "in this order"));
  CHECK(has(refusal(changed(text, "zone=z0", "zone=z0,weight=2")), "t.gyre:5:"));
  CHECK(has(refusal(changed(text, " zone=z0", "")), "t.gyre:6: some nodes have a zone"));
  CHECK(has(refusal(changed(text, "10.0.1.1", "10.0.0.1")), "t.gyre:6: nodes are not sorted"));
  CHECK(has(refusal(changed(text, "slots 01", "slots 02")), "t.gyre:9: "));
  CHECK(has(refusal(changed(text, "slots 00 ", "slots 00 0")), "t.gyre:8: 769 digits"));
  const std::string list = text.substr(text.find("slots 00 "), 12);
  CHECK(has(refusal(changed(text, list, "slots 00 001")), "t.gyre:8: slot 0 names a node twice"));
  CHECK(has(refusal(changed(text, list, "slots 00 019")), "slot 0 names a node that is not there"));
  CHECK(has(refusal(changed(text, list, "slots 00 01A")), "slot 0 has no node's number"));
  const std::string turned = {list[9 + 1], list[9], list[9 + 2]};
  CHECK(has(refusal(changed(text, list, "slots 00 " + turned)), "t.gyre:72: the table's hash"));
  CHECK(
      has(refusal(text.substr(0, text.size() - 2) + "x\n"), "t.gyre:73: the checksum is another"));
  CHECK(has(refusal(text + "\n"), "t.gyre:74: there is more behind"));
  CHECK(has(refusal(text.substr(0, 1000)), "cut short"));
  CHECK(has(refusal(std::string(limits::topology_bytes_max + 1, 'x'), Errc::too_large),
            "no topology"));
}
