// gyre: a replicated key-value store. The command line is read, then one command runs.
#include "node/cli.hpp"
#include "node/machine.hpp"

int main(int argc, char** argv) {
  extern char** environ;
  const gyre::Machine machine = gyre::read_machine();
  return gyre::dispatch(gyre::parse_command_line(argc, argv, environ, machine));
}
