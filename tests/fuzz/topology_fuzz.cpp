// The topology's text: as it is, and as the lines of the head and the nodes, to which slots and
// checksums that fit are added, so that nodes of any kind reach the rest.
#include <fmt/format.h>

#include <algorithm>
#include <string_view>

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

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] % 2 == 0) {
    try_text(bytes);
  } else {
    try_text(completed(bytes));
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
  // Short, so that what is changed is likely to be the head.
  seeds.push_back('\0' + seeds[1].substr(1, 200));
  return seeds;
}
