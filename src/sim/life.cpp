#include "sim/life.hpp"

#include <cstdio>

#include "base/assert.hpp"

namespace gyre::sim {

Life::Life(World& world, Node& node, ReactorOptions options)
    : world_(world), node_(node), fabric_(node.core_count()) {
  if (node.power() != Power::on) world.power_on(node);
  for (unsigned core = 0; core < node.core_count(); ++core) {
    backends_.push_back(std::make_unique<SimBackend>(node, core));
    options.core = core;
    reactors_.push_back(std::make_unique<Reactor>(*backends_.back(), options, &fabric_));
  }
}

Life::~Life() {
  GYRE_ASSERT(ended());
  for (unsigned core = 0; core < node_.core_count(); ++core) node_.stop_driving(core);
}

void Life::start(unsigned core, Task<void> main) {
  reactors_.at(core)->start(std::move(main));
  node_.drive(core, *reactors_[core]);
}

Stop Life::run(Nanos limit) {
  return world_.run_until([this] { return ended(); }, limit);
}

bool Life::crash(CrashMode mode, Nanos limit) {
  world_.crash(node_, mode);
  return unwind(limit);
}

bool Life::kill(Nanos limit) {
  world_.kill(node_);
  return unwind(limit);
}

bool Life::unwind(Nanos limit) {
  if (run(limit) == Stop::satisfied) return true;
  for (const auto& reactor : reactors_) {
    std::fprintf(stderr, "core %u does not end after the crash\n%s", reactor->core(),
                 reactor->dump_tasks().c_str());
  }
  return false;
}

}  // namespace gyre::sim
