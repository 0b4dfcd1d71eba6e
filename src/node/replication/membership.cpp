#include "node/replication/membership.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <vector>

#include <gyre/file.hpp>

#include "base/limits.hpp"
#include "cluster/topology_file.hpp"
#include "cluster/topology_text.hpp"
#include "store/file_names.hpp"

namespace gyre {

using cluster::NodeEntry;
using cluster::Topology;

namespace {

std::string urls_of(const Topology& topology) {
  std::vector<std::string_view> urls;
  for (const NodeEntry& node : topology.nodes) urls.emplace_back(node.url);
  return fmt::format("{}", fmt::join(urls, ","));
}

bool same_urls(const Topology& left, const Topology& right) {
  return std::ranges::equal(left.nodes, right.nodes, {}, &NodeEntry::url, &NodeEntry::url);
}

Result<Topology> topology_of_peers(const std::vector<std::string>& peers) {
  std::vector<NodeEntry> nodes(peers.size());
  for (size_t i = 0; i < peers.size(); ++i) nodes[i].url = peers[i];
  return cluster::make_topology(std::move(nodes));
}

Task<Result<Topology>> asked_for(const ServeConfig& config) {
  if (config.topology.empty()) co_return topology_of_peers(config.peers);
  if (config.topology.starts_with("etcd://")) {
    co_return fail(Errc::unsupported,
                   "--topology " + config.topology +
                       ": a table in etcd is not supported yet: give the path of a topology file");
  }
  co_return co_await cluster::load_topology(config.topology);
}

}  // namespace

Task<Result<Membership>> Membership::open(const ServeConfig& config, std::string directory) {
  Membership membership;
  const std::string path = join_path(directory, std::string(file_name));
  const Result<FileStatus> status = co_await file_status(path);
  if (!status) co_return fail(status.error());
  const bool wanted = !config.peers.empty() || !config.topology.empty();
  if (!wanted && !status->exists) co_return membership;

  Topology kept;
  if (status->exists) {
    Result<std::string> text = co_await read_file(path, limits::topology_bytes_max);
    if (!text) co_return fail(text.error());
    Result<Topology> parsed = cluster::parse_topology(*text, path);
    if (!parsed) co_return fail(parsed.error());
    kept = std::move(*parsed);
    if (!wanted && kept.nodes.size() > 1) {
      co_return fail(Errc::invalid,
                     fmt::format("{} holds one node's part of a cluster's data: start with --peers "
                                 "{} (or the --topology file) and this node's --advertise",
                                 directory, urls_of(kept)));
    }
    if (!wanted) co_return membership;
  }
  Result<Topology> asked = co_await asked_for(config);
  if (!asked) co_return fail(asked.error());
  if (status->exists && !same_urls(kept, *asked)) {
    co_return fail(
        Errc::invalid,
        fmt::format(
            "{} holds data that was spread over {}, not over {}: start with the same nodes, "
            "and change them with: gyre admin topology plan",
            directory, urls_of(kept), urls_of(*asked)));
  }
  if (status->exists && !config.topology.empty() && asked->epoch < kept.epoch) {
    co_return fail(Errc::invalid,
                   fmt::format("{} has epoch {}, but {} was used with epoch {}: give "
                               "the newer file",
                               config.topology, asked->epoch, directory, kept.epoch));
  }
  // --peers can't say what a table has become since: the directory's is the one.
  const bool keep = status->exists && config.topology.empty();
  membership.topology_ = keep ? std::move(kept) : std::move(*asked);
  if (!keep && status->exists && membership.topology_.table_hash() != kept.table_hash()) {
    co_return fail(Errc::invalid,
                   fmt::format("{} places keys otherwise than the table that {} was used with, and "
                               "moving data between nodes is not supported yet: start with the "
                               "file of epoch {}",
                               config.topology, directory, kept.epoch));
  }
  membership.table_hash_ = membership.topology_.table_hash();
  if (Result<void> found = membership.find_self(config); !found) co_return fail(found.error());
  if (!keep) {
    Result<void> written = co_await replace_file(directory, std::string(file_name),
                                                 cluster::print_topology(membership.topology_));
    if (!written) co_return fail(written.error());
  }
  co_return membership;
}

Result<void> Membership::find_self(const ServeConfig& config) {
  const std::string url =
      !config.advertise.empty() ? config.advertise : "http://" + config.listen.to_string();
  const auto at = std::ranges::find(topology_.nodes, url, &NodeEntry::url);
  if (at == topology_.nodes.end()) {
    return fail(Errc::invalid,
                fmt::format("{} {} is none of the cluster's nodes ({}): say with --advertise which "
                            "of them this one is",
                            config.advertise.empty() ? "the listening address" : "--advertise", url,
                            urls_of(topology_)));
  }
  self_ = static_cast<cluster::NodeIndex>(at - topology_.nodes.begin());
  return {};
}

}  // namespace gyre
