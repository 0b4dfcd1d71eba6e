#include "node/cli.hpp"
namespace gyre { int run_inspect(const InspectCommand&) { return exit_failed; } }
