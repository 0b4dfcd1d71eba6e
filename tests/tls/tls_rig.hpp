// A generator of random numbers for OpenSSL that repeats itself: with it a simulated run over TLS
// depends on its seed alone.
#pragma once

#include <openssl/rand.h>

#include <cstdint>
#include <memory>

#include "sim/prng.hpp"
#include "test_certificate.hpp"

namespace gyre::test {

// While it lives, OpenSSL draws from a generator with this seed. For tests of one thread.
class RepeatableRandom {
 public:
  explicit RepeatableRandom(uint64_t seed) {
    prng() = std::make_unique<sim::Prng>(seed, "tls");
    set(&method());
  }
  ~RepeatableRandom() {
    set(nullptr);
    prng().reset();
  }
  RepeatableRandom(const RepeatableRandom&) = delete;
  RepeatableRandom& operator=(const RepeatableRandom&) = delete;

 private:
  static std::unique_ptr<sim::Prng>& prng() {
    static std::unique_ptr<sim::Prng> shared;
    return shared;
  }
  static int draw(unsigned char* to, int size_bytes) {
    for (int i = 0; i < size_bytes; ++i) to[i] = static_cast<unsigned char>(prng()->next());
    return 1;
  }
  static RAND_METHOD& method() {
    static RAND_METHOD made{nullptr, &draw, nullptr, nullptr, &draw, [] { return 1; }};
    return made;
  }
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wdeprecated-declarations"
  // A provider would be OpenSSL 3's own way, and needs ten times the code for the same.
  static void set(const RAND_METHOD* method) { RAND_set_rand_method(method); }
#pragma clang diagnostic pop
};

}  // namespace gyre::test
