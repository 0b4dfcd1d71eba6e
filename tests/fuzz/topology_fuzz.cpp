// The topology's text: as it is; as the lines of the head and the nodes, to which slots and checksums
// that fit are added, so that nodes of any kind reach the rest; and as edits of a good one.
#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "base/coding.hpp"
#include "base/hash.hpp"
#include "cluster/topology_text.hpp"
#include "fuzz.hpp"

using namespace gyre;
using namespace gyre::cluster;

namespace {

void try_text(std::string_view text) {
  const Result<Topology> topology = parse_topology(text, "fuzz");
  if (!topology) {
    FUZZ_CHECK(topology.error().detail.starts_with("fuzz"));
    FUZZ_CHECK(topology.error().detail.size() < 4096);
    return;
  }
  const size_t count = topology->nodes.size();
  FUZZ_CHECK(count >= 1 && topology->table.width() == std::min<size_t>(count, 5));
  for (uint32_t slot = 0; slot < slot_count; ++slot) {
    for (const NodeIndex node : topology->table.replicas(slot, 5)) FUZZ_CHECK(node < count);
  }
  // A topology has one text.
  FUZZ_CHECK(print_topology(*topology) == text);
}

// The head with slots of rotating lists for its nodes, and hashes that hold.
std::string completed(std::string_view head) {
  Topology topology;
  for (size_t at = 0; (at = head.find("\nnode ", at)) != head.npos; ++at) {
    std::string line(head.substr(at + 6, head.find('\n', at + 6) - at - 6));
    std::ranges::replace(line, ' ', ',');
    Result<std::vector<NodeEntry>> nodes = parse_node_list(line);
    if (nodes) topology.nodes.push_back(std::move(nodes->front()));
  }
  const size_t count = topology.nodes.size();
  if (count == 0) return std::string(head);
  topology.table = SlotTable(static_cast<unsigned>(std::min<size_t>(count, 5)));
  for (uint32_t slot = 0; slot < slot_count; ++slot) {
    for (unsigned rank = 0; rank < topology.table.width(); ++rank) {
      topology.table.set(slot, rank, static_cast<NodeIndex>((slot + rank) % count));
    }
  }
  const std::string whole = print_topology(topology);
  const size_t slots = whole.find("slots 00");
  const std::string text =
      std::string(head) + whole.substr(slots, whole.rfind("checksum ") - slots);
  return text + fmt::format("checksum {:016x}\n", hash64(text));
}

// A good text with single bytes replaced: each three of the input are a place, from the front or
// from the back, and the byte.
std::string edited(std::string_view edits) {
  static const std::string good = fuzz_seeds()[2].substr(1);
  std::string text = good;
  for (; edits.size() >= 3; edits.remove_prefix(3)) {
    const auto place = get_fixed<uint16_t>(edits.data());
    const size_t at = place / 2 % 300;
    text[place % 2 == 0 ? at : text.size() - 1 - at] = edits[2];
  }
  return text;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 3) {
    case 0:
      try_text(bytes);
      break;
    case 1:
      try_text(completed(bytes));
      break;
    case 2:
      try_text(edited(bytes));
      break;
  }
  return 0;
}

std::vector<std::string> fuzz_seeds() {
  NodeEntry plain;
  plain.url = "http://10.0.0.1:8080";
  NodeEntry full;
  full.url = "http://node-2:8080";
  full.weight = 20;
  full.zone = "north.1";
  full.shards = 4;
  full.uuid = "00112233445566778899aabbccddeeff";
  NodeEntry other = full;
  other.url = "http://node-3:8080";
  std::vector<std::string> seeds;
  for (const std::vector<NodeEntry>& nodes :
       {std::vector<NodeEntry>{plain}, std::vector<NodeEntry>{full, other}}) {
    const std::string text = print_topology(*make_topology(nodes));
    seeds.push_back('\0' + text);
    seeds.push_back('\1' + text.substr(0, text.find("slots 00")));
  }
  seeds.emplace_back("\2\10\0000", 4);
  seeds.emplace_back("\2\23\0001\104\000a", 7);
  // Short, so that what is changed is likely to be the head.
  seeds.push_back('\0' + seeds[1].substr(1, 200));
  return seeds;
}
