// Messages between the cores of a node: one bounded single-producer single-consumer ring per
// ordered pair of cores, with an unbounded intrusive outbox in front. Outboxes are emptied into the
// rings, and rings into the core, every few pieces of work (Reactor::run_foreground).
//
// A Message belongs to its sender, travels to the target core, is worked on there and travels
// back: the answer is the same object, so its place is reserved with the request. A core always
// drains its inbox before it sends, and sending never waits (what does not fit stays in the
// outbox), so two full rings can't deadlock. How many messages exist is bounded by whoever makes
// them (connections × pipeline depth).
//
// The ring is the only place in the program where two threads meet. Memory order: the producer
// releases `tail_`, the consumer acquires it; and back through `head_`.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace gyre {

class Reactor;

struct Message {
  // Runs on the receiving core, inside its tick, as plain code: it answers at once or spawns.
  using Deliver = void (*)(Message& self, Reactor& at) noexcept;

  Message* next = nullptr;
  Deliver deliver = nullptr;
  unsigned from = 0;  // filled by Reactor::send
};

class alignas(64) MessageRing {
 public:
  static constexpr uint32_t capacity = 1024;

  bool push(Message& message) {
    const uint32_t tail = tail_.load(std::memory_order_relaxed);
    if (tail - head_seen_ == capacity) {
      head_seen_ = head_.load(std::memory_order_acquire);
      if (tail - head_seen_ == capacity) return false;
    }
    slots_[tail % capacity] = &message;
    tail_.store(tail + 1, std::memory_order_release);
    return true;
  }
  // Takes as many as there are and fit, in order; returns how many.
  size_t pop(std::span<Message*> into) {
    const uint32_t head = head_.load(std::memory_order_relaxed);
    if (tail_seen_ - head < into.size()) tail_seen_ = tail_.load(std::memory_order_acquire);
    const size_t count = std::min<size_t>(tail_seen_ - head, into.size());
    for (size_t i = 0; i < count; ++i) {
      into[i] = slots_[(head + static_cast<uint32_t>(i)) % capacity];
    }
    if (count != 0) head_.store(head + static_cast<uint32_t>(count), std::memory_order_release);
    return count;
  }
  bool empty() const {
    return head_.load(std::memory_order_acquire) == tail_.load(std::memory_order_acquire);
  }

 private:
  alignas(64) std::atomic<uint32_t> tail_{0};
  uint32_t head_seen_ = 0;  // the producer's copy
  alignas(64) std::atomic<uint32_t> head_{0};
  uint32_t tail_seen_ = 0;  // the consumer's copy
  alignas(64) Message* slots_[capacity] = {};
};

// All rings of a node, made before its reactors start.
class Fabric {
 public:
  explicit Fabric(unsigned cores) : cores_(cores), rings_(new MessageRing[size_t{cores} * cores]) {}

  unsigned cores() const { return cores_; }
  MessageRing& ring(unsigned from, unsigned to) { return rings_[size_t{from} * cores_ + to]; }
  bool inbox_empty(unsigned core) const {
    for (unsigned from = 0; from < cores_; ++from) {
      if (!rings_[size_t{from} * cores_ + core].empty()) return false;
    }
    return true;
  }

 private:
  unsigned cores_;
  std::unique_ptr<MessageRing[]> rings_;
};

// Messages that wait for their batch to leave, or for room in the ring.
struct Outbox {
  Message* head = nullptr;
  Message* tail = nullptr;

  void push(Message& message) {
    message.next = nullptr;
    if (tail != nullptr) {
      tail->next = &message;
    } else {
      head = &message;
    }
    tail = &message;
  }
  // Returns true if anything moved into the ring.
  bool flush(MessageRing& ring) {
    bool moved = false;
    while (head != nullptr) {
      Message* next = head->next;  // the receiver may reuse the link as soon as it has the message
      if (!ring.push(*head)) break;
      moved = true;
      head = next;
    }
    if (head == nullptr) tail = nullptr;
    return moved;
  }
  bool empty() const { return head == nullptr; }
};

}  // namespace gyre
