// The command line of `gyre`: what each subcommand was asked to do, as plain values.
// parse_command_line only reads; main hands the result to dispatch, which calls the run_ function.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "cluster/topology_plan.hpp"
#include "node/config.hpp"
#include "proxy/options.hpp"

namespace gyre {

// What every command ends with.
enum ExitCode : int {
  exit_ok = 0,
  exit_failed = 1,
  exit_usage = 2,      // the command line or the configuration makes no sense
  exit_not_found = 3,  // `get`: there is no such key
};

// Which node a client command talks to: --url, else GYRE_URL, else http://127.0.0.1:8080.
struct ClientTarget {
  std::string url;
  uint64_t timeout_ms = 10'000;
};

struct GetCommand {
  ClientTarget target;
  std::string key;
};

struct PutCommand {
  ClientTarget target;
  std::string key;
  std::string value;  // when value_from_stdin is false
  bool value_from_stdin = false;
  std::optional<uint64_t> ttl_ms;
};

struct DelCommand {
  ClientTarget target;
  std::string key;
};

// Prints "KEY<TAB>VALUE" lines in key order, with tab, newline and backslash in them written as
// \t, \n and \\ : what `load` reads.
struct ScanCommand {
  ClientTarget target;
  std::string start;
  std::optional<std::string> end;
  std::optional<uint64_t> limit;
  bool keys_only = false;
};

// Reads what ScanCommand prints. "-" is standard input.
struct LoadCommand {
  ClientTarget target;
  std::string file;
  unsigned connections = 16;
};

struct AdminCommand {
  enum class Verb : uint8_t { status, flush, compact, checkpoint, verify };
  ClientTarget target;
  Verb verb = Verb::status;
  std::string directory;  // checkpoint: a whole path
  bool json = false;      // status: as GET /v0/cluster answers it
};

// Works on files; talks to no node.
struct TopologyCommand {
  enum class Verb : uint8_t { create, plan, apply };
  Verb verb = Verb::plan;
  std::string file;
  std::vector<cluster::NodeEntry> peers;  // create
  cluster::TopologyChanges changes;       // plan, apply
  std::string out;                        // plan: where the planned topology goes; "": nowhere
  std::string planned;                    // apply: what `out` was
  std::optional<uint64_t> expected_epoch;
  unsigned copies = 3;  // of a key, that the numbers shown are about
};

struct InspectCommand {
  std::string file;
  bool records = false;  // print every record, not only what the file consists of
};

// Nodes on this machine, as child processes.
struct ClusterCommand {
  static constexpr unsigned nodes_default = 3;
  std::optional<unsigned> nodes;  // nothing: as the directory has, else the default
  unsigned cores = 1;             // of each
  uint64_t memory_bytes = 0;      // of each
  std::optional<unsigned> replication;
  std::string directory;              // a whole path; "": a temporary one
  std::optional<uint16_t> base_port;  // of the first node; nothing: free ones
};

// Help, --version, --print-config, or a mistake: nothing is left to do but print and exit.
struct Finished {
  int exit_code = exit_ok;
  std::string output;  // to standard output, or to standard error when exit_code isn't 0
};

using Command = std::variant<Finished, ServeConfig, proxy::Options, GetCommand, PutCommand,
                             DelCommand, ScanCommand, LoadCommand, AdminCommand, TopologyCommand,
                             InspectCommand, ClusterCommand>;

Command parse_command_line(int argc, const char* const* argv, const char* const* environment,
                           const Machine& machine);

// Each runs its command to the end and returns the exit code of the process.
int run_serve(const ServeConfig& config);
int run_proxy(const proxy::Options& options);
int run_get(const GetCommand& command);
int run_put(const PutCommand& command);
int run_del(const DelCommand& command);
int run_scan(const ScanCommand& command);
int run_load(const LoadCommand& command);
int run_admin(const AdminCommand& command);
int run_topology(const TopologyCommand& command);
int run_inspect(const InspectCommand& command);
int run_cluster(const ClusterCommand& command);

int dispatch(const Command& command);

}  // namespace gyre
