#include "runtime/uring/completion_table.hpp"

#include <liburing.h>

#include "base/assert.hpp"

namespace gyre::uring {

CompletionTable::CompletionTable(uint32_t slots) {
  while (capacity_ < slots) grow();
}

void CompletionTable::grow() {
  GYRE_ASSERT(capacity_ + chunk_slots < slot_internal);
  chunks_.push_back(std::make_unique<Entry[]>(chunk_slots));
  // Lowest slots first out of the free list: the table stays dense.
  for (uint32_t i = chunk_slots; i-- > 0;) {
    chunks_.back()[i].next_free = free_;
    free_ = capacity_ + i;
  }
  capacity_ += chunk_slots;
}

uint64_t CompletionTable::add(Op& op) {
  GYRE_ASSERT(!op.in_flight);
  GYRE_ASSERT(op.on_complete != nullptr);
  if (free_ == none) grow();
  const uint32_t slot = free_;
  Entry& entry = at(slot);
  free_ = entry.next_free;
  entry.op = &op;
  entry.fd = -1;
  entry.queued = false;
  entry.retried = false;
  op.in_flight = true;
  op.cancel_requested = false;
  op.backend_slot = slot;
  ++in_flight_;
  return token(slot);
}

void CompletionTable::deliver(Entry& entry, Completion completion) {
  Op& op = *entry.op;
  if (!completion.more) {
    const uint32_t slot = op.backend_slot;
    entry.op = nullptr;
    ++entry.generation;
    entry.next_free = free_;
    free_ = slot;
    --in_flight_;
    op.in_flight = false;
  }
  op.on_complete(op, completion);
}

Completion CompletionTable::translate(int32_t result, uint32_t kernel_flags) {
  Completion completion;
  completion.result = result;
  completion.more = (kernel_flags & IORING_CQE_F_MORE) != 0;
  completion.has_buffer = (kernel_flags & IORING_CQE_F_BUFFER) != 0;
  if (completion.has_buffer) {
    completion.buffer = static_cast<uint16_t>(kernel_flags >> IORING_CQE_BUFFER_SHIFT);
  }
  return completion;
}

bool CompletionTable::feed(uint64_t token, int32_t result, uint32_t kernel_flags) {
  Entry* entry = find(token);
  if (entry == nullptr) return false;
  deliver(*entry, translate(result, kernel_flags));
  return true;
}

}  // namespace gyre::uring
