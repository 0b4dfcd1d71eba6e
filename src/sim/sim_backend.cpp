#include "sim/sim_backend.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "base/assert.hpp"
#include "sim/world.hpp"

namespace gyre::sim {

SimBackend::SimBackend(Node& node, unsigned core)
    : node_(node),
      world_(node.world_),
      core_(node.core(core)),
      program_prng_(world_.backend_prng().next()),
      prng_(world_.backend_prng()) {
  GYRE_ASSERT(core_.backend == nullptr && node.power() == Power::on);
  core_.backend = this;
  core_.woken = false;
  core_.busy_until = core_.sleep_until = world_.time();
  buffers_.resize(node.options().buffer_count);
  for (uint16_t id = 0; id < buffers_.size(); ++id) {
    buffers_[id].memory.resize(node.options().buffer_bytes);
    free_buffers_.push_back(id);
  }
}

SimBackend::~SimBackend() {
  GYRE_ASSERT(in_flight() == 0);
  world_.forget_events(this);
  core_.driver.reset();
  core_.ended = false;
  core_.backend = nullptr;
}

// --- time ----------------------------------------------------------------------------------------

Nanos SimBackend::local_time() const {
  return world_.time() + tick_elapsed_;
}

void SimBackend::begin_tick() {
  tick_elapsed_ = 0;
  in_tick_ = true;
  entered_ = false;
}

Nanos SimBackend::end_tick() {
  GYRE_ASSERT(entered_ || core_.driver == nullptr);  // a tick ends in enter
  in_tick_ = false;
  return std::exchange(tick_elapsed_, 0);
}

Nanos SimBackend::now() {
  if (in_tick_) tick_elapsed_ += prng_.between(0, world_.options().now_step_max);
  return node_.clock().monotonic(local_time());
}

uint64_t SimBackend::wall_us() {
  return node_.clock().wall_us(local_time());
}

void SimBackend::yield_cpu() {
  if (in_tick_) tick_elapsed_ += prng_.between(0, microseconds(20));
}

void SimBackend::enter(Nanos wait) {
  GYRE_ASSERT(wait >= 0);
  ++stats_.enters;
  entered_ = true;
  core_.sleep_until = 0;
  if (wait == 0) return;
  ++stats_.sleeps;
  core_.sleep_until = nanos_never;
  if (wait < seconds(1'000'000'000)) {
    core_.sleep_until =
        local_time() + node_.clock().world_duration(wait) + prng_.between(0, microseconds(60));
  }
}

bool SimBackend::completions_pending() const {
  return !posted_.empty() || core_.woken || prng_.chance_ppm(world_.options().false_pending_ppm);
}

void SimBackend::wake(unsigned core) {
  Core& target = node_.core(core);
  world_.schedule(local_time() + prng_.between(0, microseconds(10)), &node_,
                  [&target] { target.woken = true; });
}

uint64_t SimBackend::peer(int fd) {
  return world_.network().at(node_.endpoint_of(fd)).peer_node + 1;
}

void SimBackend::log(std::string_view line) {
  if (dead_) return;
  if (node_.log_lines_.size() >= node_.options().log_lines_max) {
    ++stats_.log_lines_dropped;
    return;
  }
  world_.trace().bytes(line);
  node_.log_lines_.emplace_back(line);
}

// --- operations ----------------------------------------------------------------------------------

std::string SimBackend::describe(const Op& op) const {
  std::string text =
      fmt::format("{} fd {} len {} offset {}", to_string(op.code), op.fd, op.len, op.offset);
  if (op.path != nullptr && *op.path != 0) text += fmt::format(" \"{}\"", op.path);
  return text;
}

void SimBackend::submit(Op& op) {
  if (op.in_flight) {
    world_.violation("submitted while in flight: " + describe(op));
    return;
  }
  GYRE_ASSERT(op.on_complete != nullptr);
  if (free_slots_.empty()) {
    free_slots_.push_back(static_cast<uint32_t>(slots_.size()));
    slots_.emplace_back();
  }
  const uint32_t index = free_slots_.back();
  free_slots_.pop_back();
  Slot& slot = slots_[index];
  slot = Slot{.op = &op, .generation = slot.generation};
  op.backend_slot = index;
  op.in_flight = true;
  op.cancel_requested = false;
  ++stats_.submitted;
  world_.trace().note(local_time(), node_.id(), core_.index, to_string(op.code).data(), op.fd,
                      op.len, static_cast<int64_t>(op.offset));
  if (op.path != nullptr) world_.trace().bytes(op.path);
  if (dead_) {
    post_dead(index);
    return;
  }
  if (!claim_handle(op)) {
    post(index, -EBADF);
    return;
  }
  if (is_file_op(op.code)) {
    submit_file_op(index);
  } else {
    if (op.code == OpCode::send) take_bytes_at_submit(slot);
    later(local_time() + prng_.between(0, microseconds(3)), index, &SimBackend::begin);
  }
}

bool SimBackend::is_file_op(OpCode code) {
  switch (code) {
    case OpCode::nop:
    case OpCode::listen:
    case OpCode::accept:
    case OpCode::connect:
    case OpCode::recv:
    case OpCode::recv_into:
    case OpCode::send:
    case OpCode::shutdown:
    case OpCode::close:
    case OpCode::signal:
      return false;
    default:
      return true;
  }
}

// Registers the operation with its descriptor; false (and a violation) if it may not use it.
bool SimBackend::claim_handle(Op& op) {
  Handle::Kind kind = Handle::file;
  switch (op.code) {
    case OpCode::accept:
      kind = Handle::listener;
      break;
    case OpCode::recv:
    case OpCode::recv_into:
    case OpCode::send:
    case OpCode::shutdown:
      kind = Handle::stream;
      break;
    case OpCode::read:
    case OpCode::write:
    case OpCode::fsync:
    case OpCode::allocate:
    case OpCode::truncate:
    case OpCode::close:
      break;
    case OpCode::stat:
      if (op.fd < 0) return true;  // by path
      break;
    default:
      return true;  // no descriptor
  }
  const auto found = node_.handles_.find(op.fd);
  const char* wrong = nullptr;
  if (found == node_.handles_.end()) {
    wrong = "on a descriptor that is not open";
  } else if (found->second.closing) {
    wrong = "on a descriptor that is being closed";
  } else if (op.code == OpCode::close && found->second.operations != 0) {
    wrong = "while operations are in flight on the descriptor";
  } else if (op.code != OpCode::close && found->second.kind != kind) {
    wrong = "on a descriptor of another kind";
  } else if ((op.code == OpCode::recv || op.code == OpCode::recv_into) && found->second.receiving) {
    wrong = "while another receive is in flight";
  } else if (op.code == OpCode::send && found->second.sending) {
    wrong = "while another send is in flight";
  }
  if (wrong != nullptr) {
    world_.violation(fmt::format("{}: {}", wrong, describe(op)));
    return false;
  }
  Handle& handle = found->second;
  ++handle.operations;
  if (op.code == OpCode::recv || op.code == OpCode::recv_into) handle.receiving = true;
  if (op.code == OpCode::send) handle.sending = true;
  if (op.code == OpCode::close) handle.closing = true;
  return true;
}

void SimBackend::release_handle(const Op& op) {
  const auto found = node_.handles_.find(op.fd);
  if (found == node_.handles_.end() || dead_) return;
  Handle& handle = found->second;
  if (handle.operations != 0) --handle.operations;
  if (op.code == OpCode::recv || op.code == OpCode::recv_into) handle.receiving = false;
  if (op.code == OpCode::send) handle.sending = false;
}

void SimBackend::later(Nanos at, uint32_t index, void (SimBackend::*action)(uint32_t)) {
  const uint32_t generation = slots_[index].generation;
  world_.schedule(at, this, [this, index, generation, action] {
    const Slot& slot = slots_[index];
    if (slot.op == nullptr || slot.generation != generation || slot.done) return;
    (this->*action)(index);
  });
}

void SimBackend::post(uint32_t index, int32_t result, bool more, int buffer) {
  Slot& slot = slots_[index];
  GYRE_ASSERT(slot.op != nullptr && !slot.done);
  if (!more) {
    slot.done = true;
    if (slot.watching) stop_watching(slot, index);
  }
  Completion completion{.result = result, .more = more};
  if (buffer >= 0) {
    completion.has_buffer = true;
    completion.buffer = static_cast<uint16_t>(buffer);
  }
  posted_.push_back({index, completion, !more});
}

size_t SimBackend::reap() {
  GYRE_ASSERT(!reaping_);
  reaping_ = true;
  core_.woken = false;
  size_t count = posted_.size();
  if (count > 1 && prng_.chance_ppm(world_.options().partial_reap_ppm)) {
    count = 1 + prng_.below(count - 1);
  }
  for (size_t i = 0; i < count; ++i) {
    const Posted posted = posted_.front();
    posted_.pop_front();
    Slot& slot = slots_[posted.slot];
    Op& op = *slot.op;
    world_.trace().note(local_time(), node_.id(), core_.index, "completed",
                        static_cast<int64_t>(op.code), posted.completion.result,
                        posted.completion.more);
    if (posted.last) {
      release_handle(op);
      op.in_flight = false;
      slot = Slot{.op = nullptr, .generation = slot.generation + 1};
      free_slots_.push_back(posted.slot);
      ++stats_.completed;
    }
    op.on_complete(op, posted.completion);
  }
  reaping_ = false;
  return count;
}

void SimBackend::cancel(Op& op) {
  if (!op.in_flight) return;
  op.cancel_requested = true;
  Slot& slot = slots_[op.backend_slot];
  GYRE_ASSERT(slot.op == &op);
  if (slot.done || slot.cancelling) return;
  slot.cancelling = true;
  world_.trace().note(local_time(), node_.id(), core_.index, "cancel",
                      static_cast<int64_t>(op.code), op.fd);
  later(local_time() + prng_.between(0, microseconds(40)), op.backend_slot,
        &SimBackend::try_cancel);
}

void SimBackend::try_cancel(uint32_t index) {
  Slot& slot = slots_[index];
  if (slot.op->code == OpCode::close) return;
  if (is_file_op(slot.op->code)) {
    if (prng_.chance_ppm(world_.options().cancel_file_op_ppm)) post(index, -ECANCELED);
    return;
  }
  if (slot.endpoint != 0) world_.network().close(slot.endpoint);
  post(index, slot.progress != 0 ? static_cast<int32_t>(slot.progress) : -ECANCELED);
}

bool SimBackend::deliver_signal(int number) {
  bool delivered = false;
  for (uint32_t i = 0; i < slots_.size(); ++i) {
    const Slot& slot = slots_[i];
    if (slot.op == nullptr || slot.done || !slot.begun || slot.op->code != OpCode::signal) continue;
    post(i, number, true);
    delivered = true;
  }
  return delivered;
}

// --- provided buffers ----------------------------------------------------------------------------

std::span<char> SimBackend::buffer(uint16_t id) {
  GYRE_ASSERT(buffers_.at(id).outstanding);
  return buffers_[id].memory;
}

void SimBackend::recycle(uint16_t id) {
  Buffer& buffer = buffers_.at(id);
  if (!buffer.outstanding) {
    world_.violation(fmt::format("buffer {} recycled twice", id));
    return;
  }
  buffer.outstanding = false;
  std::memset(buffer.memory.data(), 0xdb, buffer.memory.size());  // whoever still reads it shows
  free_buffers_.push_back(id);
}

// --- the end -------------------------------------------------------------------------------------

size_t SimBackend::in_flight() const {
  return slots_.size() - free_slots_.size();
}

// The process or the machine stops here: what is under way happens in part or not at all.
void SimBackend::die(bool power_cut) {
  for (uint32_t i = 0; i < slots_.size(); ++i) {
    const Slot& slot = slots_[i];
    if (slot.op != nullptr && !slot.done && is_file_op(slot.op->code)) {
      interrupt_file_op(i, power_cut);
    }
  }
  dead_ = true;
  world_.forget_events(this);
  for (const Posted& posted : posted_) {
    if (posted.completion.has_buffer) recycle(posted.completion.buffer);
  }
  posted_.clear();
  for (uint32_t i = 0; i < slots_.size(); ++i) {
    Slot& slot = slots_[i];
    if (slot.op == nullptr) continue;
    slot.watching = slot.done = false;
    post_dead(i);
  }
}

// Everything fails for good, but a program that waits for a signal is told to stop.
void SimBackend::post_dead(uint32_t index) {
  const Op& op = *slots_[index].op;
  if (op.code == OpCode::signal && !op.cancel_requested) {
    post(index, SIGTERM, true);
  } else if (op.code == OpCode::close) {
    post(index, 0);
  } else {
    post(index, op.cancel_requested ? -ECANCELED : -EIO);
  }
}

void SimBackend::abandon() {
  GYRE_ASSERT(dead_);
  posted_.clear();
  free_slots_.clear();
  for (uint32_t i = 0; i < slots_.size(); ++i) {
    if (slots_[i].op != nullptr) slots_[i].op->in_flight = false;
    slots_[i].op = nullptr;
    free_slots_.push_back(i);
  }
}

std::string SimBackend::dump() const {
  std::string out;
  for (const Slot& slot : slots_) {
    if (slot.op == nullptr) continue;
    out += fmt::format("  core {}: {}{}{}\n", core_.index, describe(*slot.op),
                       slot.done ? " (completed, not reaped)" : "",
                       slot.op->cancel_requested ? " (cancel requested)" : "");
  }
  return out;
}

}  // namespace gyre::sim
