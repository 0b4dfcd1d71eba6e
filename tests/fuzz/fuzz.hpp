// What a fuzz target consists of. Each is one file that defines both functions; it runs under
// libFuzzer (-Dfuzzing_engine=libfuzzer) or, always, under fuzz_main.cpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

// Must survive any input; a wrong answer ends the process with FUZZ_CHECK.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

// Good inputs to mutate.
std::vector<std::string> fuzz_seeds();

#define FUZZ_CHECK(expression)                                                             \
  do {                                                                                     \
    if (!(expression)) {                                                                   \
      std::fprintf(stderr, "fuzz: broken: %s (%s:%d)\n", #expression, __FILE__, __LINE__); \
      std::abort();                                                                        \
    }                                                                                      \
  } while (false)
