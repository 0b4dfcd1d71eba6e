// Stops asking an origin that does not answer (the circuit breaker of M. Nygard, "Release It!"):
// after `failures_max` failures in a row nothing is asked for a while; then one request at a time is
// let through, and the first that succeeds closes the circuit again. The while doubles with every
// probe that fails.
//
// Single-threaded; the caller passes the time.
#pragma once

#include <algorithm>
#include <cstdint>

#include <gyre/backend.hpp>

namespace gyre::proxy {

class CircuitBreaker {
 public:
  enum class State : uint8_t { closed, open, probing };
  struct Options {
    unsigned failures_max = 5;
    Nanos pause_min = milliseconds(200);
    Nanos pause_max = seconds(5);
  };

  CircuitBreaker() : CircuitBreaker(Options{}) {}
  explicit CircuitBreaker(const Options& options) : options_(options), pause_(options.pause_min) {}

  // Whether a request may be sent now. Who is let through says how it ended, once.
  bool admit(Nanos now) {
    if (state_ == State::closed) return true;
    if (state_ == State::probing || now < open_until_) {
      ++refused_;
      return false;
    }
    state_ = State::probing;
    return true;
  }
  void succeeded() {
    failures_ = 0;
    state_ = State::closed;
    pause_ = options_.pause_min;
  }
  // Of a request, or of one that was let through before the circuit opened.
  void failed(Nanos now) {
    ++failures_;
    if (state_ == State::open || (state_ == State::closed && failures_ < options_.failures_max)) {
      return;
    }
    if (state_ == State::probing) pause_ = std::min(2 * pause_, options_.pause_max);
    if (state_ == State::closed) ++opened_;
    state_ = State::open;
    open_until_ = now + pause_;
  }
  // It was let through and then not sent after all.
  void forgotten() {
    if (state_ == State::probing) state_ = State::open;
  }

  State state() const { return state_; }
  uint64_t opened() const { return opened_; }    // how often, from closed
  uint64_t refused() const { return refused_; }  // requests

 private:
  Options options_;
  State state_ = State::closed;
  unsigned failures_ = 0;
  Nanos pause_;
  Nanos open_until_ = 0;
  uint64_t opened_ = 0;
  uint64_t refused_ = 0;
};

}  // namespace gyre::proxy
