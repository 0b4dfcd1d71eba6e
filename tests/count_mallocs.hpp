// Counts every call of malloc and its relatives, on each thread: include it in one file of an
// executable. Sanitizers bring their own malloc; with them GYRE_COUNT_MALLOC is 0 and so are the
// counts. Other threads may read a thread's count.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define GYRE_COUNT_MALLOC 0
#endif
#endif
#ifndef GYRE_COUNT_MALLOC
#define GYRE_COUNT_MALLOC 1
#endif

namespace {
thread_local std::atomic<uint64_t> mallocs = 0;

// One writer: no locked instruction is needed.
[[maybe_unused]] void count_malloc() {
  mallocs.store(mallocs.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}
}  // namespace

#if GYRE_COUNT_MALLOC
extern "C" {
void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* memory, size_t size);
void* __libc_memalign(size_t alignment, size_t size);

void* malloc(size_t size) {
  count_malloc();
  return __libc_malloc(size);
}
void* calloc(size_t count, size_t size) {
  count_malloc();
  return __libc_calloc(count, size);
}
void* realloc(void* memory, size_t size) {
  count_malloc();
  return __libc_realloc(memory, size);
}
void* aligned_alloc(size_t alignment, size_t size) {
  count_malloc();
  return __libc_memalign(alignment, size);
}
}
#endif
