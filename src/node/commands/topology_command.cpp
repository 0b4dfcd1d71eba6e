// `gyre admin topology`: makes a cluster's topology file, shows what a change would cost, makes it.
#include <fmt/format.h>

#include "cluster/topology_file.hpp"
#include "cluster/topology_plan.hpp"
#include "node/commands/client_commands.hpp"

namespace gyre {

namespace {

Task<int> print(std::string text) {
  Result<void> written = co_await write_stream(stdout_fd, text);
  if (!written) co_return co_await complain_about_output(std::move(written.error()));
  co_return exit_ok;
}

std::string describe(const cluster::Topology& before, const cluster::Topology& after,
                     const TopologyCommand& command) {
  const unsigned copies = command.copies;
  return cluster::print_plan(cluster::compare(before, after, copies), before, after);
}

Task<int> create(const TopologyCommand& command) {
  Result<cluster::Topology> made = cluster::make_topology(command.peers);
  if (!made) co_return co_await complain(made.error().detail);
  Result<void> written = co_await cluster::create_topology(command.file, *made);
  if (!written) co_return co_await complain(written.error().detail);
  co_return co_await print(describe({}, *made, command) + fmt::format("{} is made, table {:016x}\n",
                                                                      command.file,
                                                                      made->table_hash()));
}

Task<int> plan(const TopologyCommand& command) {
  Result<cluster::Topology> before = co_await cluster::load_topology(command.file);
  if (!before) co_return co_await complain(before.error().detail);
  Result<cluster::Topology> after = cluster::change_topology(*before, command.changes);
  if (!after) co_return co_await complain(after.error().detail);
  std::string text = describe(*before, *after, command);
  if (command.out.empty()) {
    text += "Nothing is changed.\n";
  } else {
    Result<void> written = co_await cluster::create_topology(command.out, *after);
    if (!written) co_return co_await complain(written.error().detail);
    text +=
        fmt::format("Nothing is changed. To do it: gyre admin topology apply --file {} --plan {}\n",
                    command.file, command.out);
  }
  co_return co_await print(std::move(text));
}

Task<int> apply(const TopologyCommand& command) {
  Result<cluster::Replaced> replaced;
  if (command.planned.empty()) {
    replaced =
        co_await cluster::apply_changes(command.file, command.changes, command.expected_epoch);
  } else {
    Result<cluster::Topology> planned = co_await cluster::load_topology(command.planned);
    if (!planned) co_return co_await complain(planned.error().detail);
    replaced =
        co_await cluster::apply_planned(command.file, std::move(*planned), command.expected_epoch);
  }
  if (!replaced) co_return co_await complain(replaced.error().detail);
  co_return co_await print(describe(replaced->before, replaced->after, command) +
                           fmt::format("{} is of epoch {} now, table {:016x}\n", command.file,
                                       replaced->after.epoch, replaced->after.table_hash()));
}

Task<int> run(const TopologyCommand& command) {
  switch (command.verb) {
    case TopologyCommand::Verb::create:
      return create(command);
    case TopologyCommand::Verb::plan:
      return plan(command);
    case TopologyCommand::Verb::apply:
      return apply(command);
  }
  return plan(command);
}

}  // namespace

int run_topology(const TopologyCommand& command) {
  return run_on_reactor([&command] { return run(command); });
}

}  // namespace gyre
