// The configuration of `gyre proxy`: flags and environment, by one table, as config.hpp has it for
// `gyre serve`. The variables are those of the reference service where it has one (PROXY_PORT,
// REDIS_HOST …), so a setting's flag and variable both stand in the table. Flags beat environment
// beats default. Foreign variables that begin alike are not ours to refuse.
#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gyre/result.hpp>

#include "node/config.hpp"
#include "node/machine.hpp"
#include "proxy/options.hpp"

namespace gyre {

struct ProxySetting {
  std::string_view name;
  std::string_view variable;
  std::string_view value_name;  // "" for a switch
  std::string_view help;
  // The detail of a failure continues the sentence `--name TEXT …`.
  Result<void> (*assign)(proxy::Options&, std::string_view text);
  std::string (*print)(const proxy::Options&);
};

std::span<const ProxySetting> proxy_settings();

struct ProxyConfigInput {
  std::vector<std::pair<std::string, std::string>> flags;  // name without dashes, text
  std::map<std::string, std::string> environment;
  Machine machine;
};

tl::expected<proxy::Options, ConfigProblems> load_proxy_config(const ProxyConfigInput& input);

// Every value as a line of a shell's environment, with where it came from. A password is never among
// them.
std::string print_proxy_config(const proxy::Options& options);

}  // namespace gyre
