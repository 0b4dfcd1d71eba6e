#include "sim/world.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "base/assert.hpp"
#include "sim/sim_backend.hpp"

namespace gyre::sim {

World::World(WorldOptions options)
    : options_(options),
      scheduler_prng_(options.seed, "scheduler"),
      backend_prng_(options.seed, "backend") {
  network_ = std::make_unique<Network>(*this, options.network, fork("network"));
}

World::~World() = default;

Node& World::add_node(NodeOptions options) {
  const unsigned id = node_count();
  nodes_.push_back(
      std::make_unique<Node>(*this, id, std::move(options), fork(fmt::format("node {}", id))));
  return *nodes_.back();
}

// --- events --------------------------------------------------------------------------------------

void World::schedule(Nanos at, const void* owner, std::function<void()> action) {
  events_.push_back(
      {std::max(at, time_), scheduler_prng_.next(), next_sequence_++, owner, std::move(action)});
  std::push_heap(events_.begin(), events_.end());
}

void World::forget_events(const void* owner) {
  std::erase_if(events_, [&](const Event& event) { return event.owner == owner; });
  std::make_heap(events_.begin(), events_.end());
}

// --- running -------------------------------------------------------------------------------------

Nanos World::ready_at(const Node& node, const Core& core) const {
  if (core.driver == nullptr || core.ended) return nanos_never;
  const bool called = core.woken || core.backend->has_posted();
  return std::max({called ? 0 : core.sleep_until, core.busy_until, node.paused_until_});
}

// One event, one tick or one jump of the clock; false if none is left before `until`.
bool World::step(Nanos until) {
  if (!events_.empty() && events_.front().at <= time_) {
    std::pop_heap(events_.begin(), events_.end());
    const Event event = std::move(events_.back());
    events_.pop_back();
    ++events_run_;
    event.action();
    return true;
  }
  Nanos next = events_.empty() ? nanos_never : events_.front().at;
  std::vector<std::pair<Node*, Core*>> ready;
  for (const auto& node : nodes_) {
    for (const auto& core : node->cores_) {
      const Nanos at = ready_at(*node, *core);
      if (at <= time_) ready.emplace_back(node.get(), core.get());
      next = std::min(next, at);
    }
  }
  if (!ready.empty()) {
    const auto [node, core] = ready[scheduler_prng_.below(ready.size())];
    tick(*node, *core);
    return true;
  }
  if (next > until) return false;
  time_ = next;
  return true;
}

void World::tick(Node& node, Core& core) {
  ++ticks_run_;
  SimBackend& backend = *core.backend;
  backend.begin_tick();
  const bool goes_on = core.driver->tick();
  const Nanos took = backend.end_tick();
  core.busy_until =
      time_ + took + scheduler_prng_.between(options_.tick_cost.min, options_.tick_cost.max);
  if (!goes_on) core.ended = true;
}

Stop World::run_until(const std::function<bool()>& predicate, Nanos limit) {
  const Nanos until = limit == nanos_never ? nanos_never : time_ + limit;
  for (;;) {
    if (stop_requested_) {
      stop_requested_ = false;
      return Stop::crash_point;
    }
    if (predicate && predicate()) return Stop::satisfied;
    if (time_ > until) return Stop::deadline;
    if (step(until)) continue;
    const bool nothing_left =
        events_.empty() && std::all_of(nodes_.begin(), nodes_.end(), [&](const auto& node) {
          return std::all_of(node->cores_.begin(), node->cores_.end(), [&](const auto& core) {
            return ready_at(*node, *core) == nanos_never;
          });
        });
    if (predicate && nothing_left) {
      std::fprintf(stderr, "the simulated world is stuck\n%s", dump().c_str());
      return Stop::stuck;
    }
    if (until != nanos_never) time_ = until;
    return Stop::deadline;
  }
}

Stop World::run_for(Nanos duration) {
  return run_until({}, duration);
}

// --- lives of nodes ------------------------------------------------------------------------------

void World::end_life(Node& node, Power power) {
  GYRE_ASSERT(node.power_ == Power::on);
  trace_.note(time_, node.id_, 0, power == Power::off ? "power off" : "kill");
  for (const auto& core : node.cores_) {
    if (core->backend != nullptr) core->backend->die(power == Power::off);
  }
  network_->node_gone(node.id_, power == Power::off);
  node.handles_.clear();
  node.disk_->close_all();
  node.signals_.clear();
  node.paused_until_ = 0;
  node.power_ = power;
}

void World::power_off(Node& node) {
  note_fault("power cut");
  end_life(node, Power::off);
}

void World::crash(Node& node, CrashMode mode) {
  power_off(node);
  node.disk_->crash(mode);
}

void World::kill(Node& node) {
  note_fault("process kill");
  end_life(node, Power::killed);
}

void World::power_on(Node& node) {
  GYRE_ASSERT(node.power_ != Power::on);
  for (const auto& core : node.cores_) GYRE_ASSERT(core->backend == nullptr);
  trace_.note(time_, node.id_, 0, "power on");
  node.power_ = Power::on;
}

// --- inspection ----------------------------------------------------------------------------------

std::string World::check_quiescent(Node& node) const {
  std::string out;
  for (const auto& [fd, handle] : node.handles_) {
    out += fmt::format("descriptor {} is open ({}{}{})\n", fd,
                       handle.kind == Node::Handle::file       ? "file "
                       : handle.kind == Node::Handle::listener ? "listener"
                                                               : "stream",
                       handle.kind == Node::Handle::file ? node.disk_->path_of(handle.inode) : "",
                       handle.closing ? ", closing" : "");
  }
  for (const auto& core : node.cores_) {
    if (core->backend == nullptr) continue;
    out += core->backend->dump();
    const size_t held = core->backend->buffer_count() - core->backend->buffers_free();
    if (held != 0) out += fmt::format("core {} holds {} provided buffers\n", core->index, held);
  }
  return out;
}

std::string World::dump() {
  std::string out = fmt::format("seed {}, {} ns, {} events, {} ticks, trace {:016x}\n",
                                options_.seed, time_, events_run_, ticks_run_, trace_.hash());
  for (const auto& node : nodes_) {
    out += fmt::format("node {} at {}: power {}, {} descriptors, write point {}\n", node->id_,
                       node->address_, static_cast<int>(node->power_), node->handles_.size(),
                       node->disk_->write_points());
    for (const auto& core : node->cores_) {
      const Nanos at = ready_at(*node, *core);
      out += fmt::format(" core {}: {}\n", core->index,
                         core->ended               ? "ended"
                         : core->driver == nullptr ? "without a driver"
                         : at == nanos_never       ? "sleeps for good"
                                                   : fmt::format("ready at {} ns", at));
      if (core->backend != nullptr) out += core->backend->dump();
    }
  }
  return out + network_->dump() + trace_.recent();
}

std::map<std::string, uint64_t> World::faults() const {
  auto all = faults_;
  for (const auto& node : nodes_) {
    for (const auto& [kind, count] : node->disk_->faults()) all[kind] += count;
  }
  return all;
}

void World::note_fault(const char* kind) {
  ++faults_[kind];
  trace_.note(time_, 0, 0, kind);
}

void World::violation(const std::string& text) {
  if (on_violation) {
    on_violation(text);
    return;
  }
  std::fprintf(stderr, "the program broke the Backend contract: %s\n%s", text.c_str(),
               dump().c_str());
  assertion_failed("the Backend contract", __FILE__, __LINE__);
}

std::string Trace::recent() const {
  std::string out;
  const uint64_t from = count_ > entries_.size() ? count_ - entries_.size() : 0;
  for (uint64_t i = from; i < count_; ++i) {
    const Entry& e = entries_[i % entries_.size()];
    out += fmt::format("  {:>14} ns  node {} core {}  {} {} {} {}\n", e.at, e.node, e.core, e.what,
                       e.a, e.b, e.c);
  }
  return out;
}

}  // namespace gyre::sim
