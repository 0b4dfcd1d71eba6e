// The configuration of `gyre serve`.
//
// One table (settings()) names every setting once; command line, environment, file, --help and
// --print-config are all made from it. A setting `max-value` is the flag --max-value, the
// variable GYRE_MAX_VALUE and the key max-value (or max_value) of the TOML file.
//
// Precedence: flag, then environment, then file, then default. Every value remembers where it
// came from. An unknown key anywhere is an error that suggests the nearest known one; all problems
// are reported together. Reading happens before the reactors start (the exemption of DESIGN D1).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <gyre/result.hpp>
#include <gyre/store_options.hpp>

#include "node/config_values.hpp"
#include "node/descriptor_plan.hpp"
#include "node/machine.hpp"
#include "node/memory_plan.hpp"

namespace gyre {

enum class LogLevel : uint8_t { debug, info, warn, error };

std::string_view to_string(Durability durability);
std::string_view to_string(LogLevel level);

struct ServeConfig {
  Address listen{"127.0.0.1", 8080};  // port 0: the kernel chooses
  std::string data = "data";
  unsigned cores = 1;
  std::optional<unsigned> shards;  // nothing: as the directory has, else as many as cores
  bool pin = false;
  Durability durability = Durability::group;
  uint64_t memory_bytes = 0;
  uint64_t value_bytes_max = 0;
  uint64_t connections_max = 0;
  uint64_t rate_limit_per_s = 0;  // per client; 0: off
  uint64_t scrub_days = 7;        // every table is checked once in this time; 0: never
  uint64_t head_timeout_ms = 0;   // first byte of a request to the end of its header
  uint64_t body_timeout_ms = 0;   // end of the header to the end of the body
  uint64_t idle_timeout_ms = 0;   // a connection without a request
  uint64_t send_timeout_ms = 0;   // a client that doesn't read its response
  LogLevel log_level = LogLevel::info;
  std::string advertise;           // "": http:// and the listening address
  std::vector<std::string> peers;  // all nodes, this one included; empty: a single node
  std::string topology;
  std::string secret_file;  // what all nodes of a cluster know; "": nothing
  unsigned replication = 3;
  std::optional<Address> resp;     // for Redis clients; nothing: off
  std::string resp_password_file;  // what they must tell first; "": nothing
  std::optional<Address> admin;    // nothing: off. Not set by anybody: Address of admin_default
  bool admin_is_default = true;    // then another port may be taken if it is in use

  unsigned listen_backlog = listen_backlog_max;  // connections not yet accepted, per core

  MemoryPlan memory_plan;                                  // what memory_bytes is spent on
  std::map<std::string, std::string, std::less<>> origin;  // setting name -> where it came from
};

// Where a node is administered unless it is told otherwise: on the loopback address, at the port of
// its clients + 10000 (as Redis places its cluster bus), or - 10000 where that is none.
Address default_admin_address(uint16_t listen_port);

struct Setting {
  std::string_view name;
  std::string_view value_name;  // "" for a switch
  std::string_view help;
  // Sets the field from its text. The detail of a failure continues the sentence `--name TEXT …`.
  Result<void> (*assign)(ServeConfig&, std::string_view text);
  // The value as text that `assign` takes; "" when unset.
  std::string (*print)(const ServeConfig&);
};

std::span<const Setting> settings();

// The layers, the strongest first.
enum class Layer : uint8_t { flag, environment, file };

// A value as one layer gave it.
struct RawSetting {
  Layer layer = Layer::flag;
  std::string name;
  std::string text;
  std::string place;  // of a file's value: "gyre.toml:3"
};

struct ConfigInput {
  std::vector<RawSetting> flags;  // --config among them

  std::map<std::string, std::string> environment;  // only names that begin with GYRE_ matter
  Machine machine;
};

struct ConfigProblems {
  std::vector<std::string> lines;  // each a sentence naming setting, value and what is accepted
};

// All layers, defaults that depend on the machine, and the checks between settings. Reads the
// file that --config or GYRE_CONFIG names, and nothing else.
tl::expected<ServeConfig, ConfigProblems> load_serve_config(const ConfigInput& input);

// Every value as TOML, each with its origin as a comment. It can be used as a file again.
std::string print_config(const ServeConfig& config);

// The keys and values of a TOML file, each with its line. Only top-level keys exist.
tl::expected<std::vector<RawSetting>, ConfigProblems> read_config_file(const std::string& path);
tl::expected<std::vector<RawSetting>, ConfigProblems> parse_config_text(std::string_view text,
                                                                        const std::string& path);

}  // namespace gyre
