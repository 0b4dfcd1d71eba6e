// The verbs of `gyre admin` that make a node do something: flush, compact, checkpoint, verify.
//
// --url may be the node's address for clients or that of its administration: either tells where the
// latter is. How far the node is shows as a bar on a terminal, and now and then as a line elsewhere.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <gyre/result.hpp>
#include <gyre/task.hpp>

#include "node/cli.hpp"

namespace gyre {

Task<int> run_admin_verb(AdminCommand command);

// Where to go, given the node's URL as it was named and what it says of its administration. The
// error says what to do: a node elsewhere whose administration listens on its loopback address only
// must not be mistaken for whatever listens on ours.
Result<std::string> admin_url_from(std::string_view given_url, std::string_view told_url);

}  // namespace gyre
