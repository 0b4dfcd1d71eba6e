// Which operation a completion belongs to. The kernel returns the 64-bit token that it was given
// with the submission:
//
//     63            32 31             0
//    +----------------+----------------+
//    |   generation   |      slot      |     slots from slot_internal upwards: not in the table
//    +----------------+----------------+
//
// A slot's generation grows when its operation ends, so a late or second completion finds no
// operation and is dropped, instead of hitting whoever has the slot now.
//
// Knows nothing of rings: tests feed it completions by hand.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>
#include <memory>
#include <vector>

#include <gyre/op.hpp>

namespace gyre::uring {

inline constexpr uint32_t slot_internal = 0xffff'ff00;

class CompletionTable {
 public:
  struct Entry {
    Op* op = nullptr;
    uint32_t generation = 1;
    uint32_t next_free = 0;
    int fd = -1;           // connect: the socket being connected; signal: the signalfd
    bool queued = false;   // its result already waits in user space: not to be cancelled
    bool retried = false;  // open: O_DIRECT was refused, now without
    // What the kernel reads by pointer when it takes the submission.
    union {
      msghdr message;
      sockaddr_in6 address;
    };
    Entry() : message{} {}
  };

  explicit CompletionTable(uint32_t slots = 1024);
  CompletionTable(const CompletionTable&) = delete;
  CompletionTable& operator=(const CompletionTable&) = delete;

  // Gives the operation a slot, marks it in flight and returns its token.
  uint64_t add(Op& op);

  // The operation of a token, or nullptr (and counts it) if it has ended.
  Entry* find(uint64_t token) {
    const uint32_t slot = static_cast<uint32_t>(token);
    if (slot < capacity_) {
      Entry& entry = at(slot);
      if (entry.op != nullptr && entry.generation == static_cast<uint32_t>(token >> 32))
        return &entry;
    }
    ++stale_;
    return nullptr;
  }

  // Hands a completion to the operation's owner; without `more` the slot is free afterwards.
  void deliver(Entry& entry, Completion completion);

  // What a completion queue entry says, in the terms of Op. -> false: stale.
  bool feed(uint64_t token, int32_t result, uint32_t kernel_flags);
  static Completion translate(int32_t result, uint32_t kernel_flags);

  Entry& entry_of(const Op& op) { return at(op.backend_slot); }
  uint64_t token_of(const Op& op) const { return token(op.backend_slot); }
  size_t in_flight() const { return in_flight_; }
  size_t capacity() const { return capacity_; }
  uint64_t stale() const { return stale_; }

  template <class Visit>
  void each_in_flight(Visit&& visit) {
    for (uint32_t slot = 0; slot < capacity_; ++slot) {
      if (at(slot).op != nullptr) visit(*at(slot).op);
    }
  }

 private:
  static constexpr uint32_t chunk_slots = 256;
  static constexpr uint32_t none = UINT32_MAX;

  // Chunks, not one vector: the kernel may hold a pointer to Entry::message while it grows.
  Entry& at(uint32_t slot) { return chunks_[slot / chunk_slots][slot % chunk_slots]; }
  const Entry& at(uint32_t slot) const { return chunks_[slot / chunk_slots][slot % chunk_slots]; }
  uint64_t token(uint32_t slot) const { return uint64_t{at(slot).generation} << 32 | slot; }
  void grow();

  std::vector<std::unique_ptr<Entry[]>> chunks_;
  uint32_t capacity_ = 0;
  uint32_t free_ = none;
  size_t in_flight_ = 0;
  uint64_t stale_ = 0;
};

}  // namespace gyre::uring
