#include <cstdio>

#include "node/cli.hpp"

namespace gyre {
namespace {

struct Runner {
  int operator()(const Finished& finished) const {
    std::fputs(finished.output.c_str(), finished.exit_code == exit_ok ? stdout : stderr);
    return finished.exit_code;
  }
  int operator()(const ServeConfig& config) const { return run_serve(config); }
  int operator()(const proxy::Options& options) const { return run_proxy(options); }
  int operator()(const GetCommand& command) const { return run_get(command); }
  int operator()(const PutCommand& command) const { return run_put(command); }
  int operator()(const DelCommand& command) const { return run_del(command); }
  int operator()(const ScanCommand& command) const { return run_scan(command); }
  int operator()(const LoadCommand& command) const { return run_load(command); }
  int operator()(const AdminCommand& command) const { return run_admin(command); }
  int operator()(const TopologyCommand& command) const { return run_topology(command); }
  int operator()(const InspectCommand& command) const { return run_inspect(command); }
  int operator()(const ClusterCommand& command) const { return run_cluster(command); }
};

}  // namespace

int dispatch(const Command& command) {
  return std::visit(Runner{}, command);
}

}  // namespace gyre
