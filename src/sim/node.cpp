#include "sim/node.hpp"

#include <fmt/format.h>

#include "base/assert.hpp"
#include "sim/sim_backend.hpp"
#include "sim/world.hpp"

namespace gyre::sim {

Node::Node(World& world, unsigned id, NodeOptions options, Prng prng)
    : world_(world),
      id_(id),
      address_(fmt::format("10.0.{}.{}", id / 250, id % 250 + 1)),
      options_(std::move(options)),
      clock_(seconds(1) + static_cast<Nanos>(prng.below(1'000'000'000'000'000))) {
  disk_ = options_.existing_disk != nullptr ? std::move(options_.existing_disk)
                                            : std::make_unique<Disk>(options_.disk, prng);
  clock_.step_wall(options_.wall_offset_us);
  clock_.set_drift_ppm(world.time(), options_.drift_ppm);
  for (unsigned i = 0; i < options_.cores; ++i) {
    cores_.push_back(std::make_unique<Core>());
    cores_.back()->index = i;
  }
  names_["localhost"] = {"127.0.0.1"};
  names_[fmt::format("node{}", id)] = {address_};
}

Node::~Node() = default;

void Node::set_driver(unsigned index, std::unique_ptr<Driver> driver) {
  Core& core = *cores_.at(index);
  GYRE_ASSERT(core.backend != nullptr);
  core.driver = std::move(driver);
  core.ended = false;
  core.sleep_until = 0;
}

void Node::stop_driving(unsigned index) {
  cores_.at(index)->driver.reset();
}

bool Node::ended() const {
  for (const auto& core : cores_) {
    if (core->driver != nullptr && !core->ended) return false;
  }
  return true;
}

void Node::signal(int number) {
  bool delivered = false;
  for (const auto& core : cores_) {
    if (core->backend != nullptr) delivered |= core->backend->deliver_signal(number);
  }
  if (!delivered) signals_.push_back(number);
}

void Node::pause(Nanos duration) {
  world_.note_fault("pause");
  paused_until_ = std::max(paused_until_, world_.time() + duration);
}

uint16_t Node::port_of(int fd) const {
  return world_.network().port_of(handles_.at(fd).listener_id);
}

int Node::add_handle(Handle handle) {
  handles_.emplace(next_fd_, handle);
  return next_fd_++;
}

}  // namespace gyre::sim
