// The text files of a clustered data directory under `gyre inspect`: TOPOLOGY and PEERS.
#include <fmt/format.h>

#include "base/limits.hpp"
#include "cluster/peers_text.hpp"
#include "cluster/topology_text.hpp"
#include "node/commands/inspect.hpp"
#include "node/progress.hpp"

namespace gyre {

namespace {

Task<Result<std::string>> read_text(const InspectedFile& in, std::string_view kind) {
  if (in.size_bytes > limits::topology_bytes_max) {
    co_return fail(Errc::too_large,
                   fmt::format("{} has {} bytes, which no {} has", in.path, in.size_bytes, kind));
  }
  in.report->text += fmt::format("{} {}\n", kind, in.path);
  co_return co_await in.read(0, in.size_bytes);
}

}  // namespace

Task<Result<void>> inspect_peers(InspectedFile& in) {
  const Result<std::string> text = co_await read_text(in, "known peers");
  if (!text) co_return fail(text.error());
  const Result<cluster::KnownPeers> known = cluster::parse_peers(*text);
  if (!known) {
    in.damaged(0, known.error().detail);
    co_return Result<void>{};
  }
  in.print("state", cluster::to_string(known->state));
  for (const cluster::KnownPeer& peer : known->peers) {
    in.print(peer.lost ? "has lost its data" : "peer",
             fmt::format("{} {}", cluster::uuid_text(peer.uuid), peer.url));
  }
  co_return Result<void>{};
}

Task<Result<void>> inspect_topology(InspectedFile& in) {
  const Result<std::string> text = co_await read_text(in, "topology");
  if (!text) co_return fail(text.error());
  const Result<cluster::Topology> topology = cluster::parse_topology(*text, in.path);
  if (!topology) {
    if (topology.error().code == Errc::unsupported) co_return fail(topology.error());
    in.report->damage.push_back(topology.error().detail);  // with the path, and the line
    co_return Result<void>{};
  }
  in.print("epoch", format_number(topology->epoch));
  in.print("nodes", format_number(topology->nodes.size()));
  in.print("table", fmt::format("{:016x}", topology->table_hash()));
  co_return Result<void>{};
}

}  // namespace gyre
