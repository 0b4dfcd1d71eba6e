// One life of the program of a node: a backend and a reactor per core, and the mailboxes between
// them, from start to the end of their main tasks or to a crash.
//
//   sim::Life life(world, node);
//   life.start(0, main_task());
//   if (life.run(seconds(60)) == sim::Stop::crash_point) life.crash(sim::CrashMode::torn);
//
// After a crash the tasks still run, but every operation of theirs ends with -EIO; they have to
// end by themselves (by the errors, the SIGTERM that a waiting signal operation then gets, or a
// StopSource that the caller stops).
#pragma once

#include <memory>
#include <vector>

#include <gyre/mailbox.hpp>
#include <gyre/reactor.hpp>
#include <gyre/task.hpp>

#include "sim/sim_backend.hpp"
#include "sim/world.hpp"

namespace gyre::sim {

class Life {
 public:
  // Switches the node's power on if it is off.
  Life(World& world, Node& node, ReactorOptions options = {});
  ~Life();  // every started core has ended
  Life(const Life&) = delete;
  Life& operator=(const Life&) = delete;

  Reactor& reactor(unsigned core = 0) { return *reactors_.at(core); }
  SimBackend& backend(unsigned core = 0) { return *backends_.at(core); }
  void start(unsigned core, Task<void> main);

  bool ended() const { return node_.ended(); }
  // Lets the world run until the main tasks have ended.
  Stop run(Nanos limit);
  // Cuts the power, or kills the process, and lets the tasks unwind. False if they do not end
  // within `limit`.
  bool crash(CrashMode mode, Nanos limit = seconds(600));
  bool kill(Nanos limit = seconds(600));

 private:
  bool unwind(Nanos limit);

  World& world_;
  Node& node_;
  Fabric fabric_;
  std::vector<std::unique_ptr<SimBackend>> backends_;
  std::vector<std::unique_ptr<Reactor>> reactors_;
};

}  // namespace gyre::sim
