// One reactor on a scripted backend, ticked by the test. At its end everything must be back where
// it was: frames, operations, descriptors, provided buffers.
#pragma once

#include <doctest/doctest.h>

#include <utility>

#include <gyre/reactor.hpp>
#include <gyre/scope.hpp>
#include <gyre/task.hpp>

#include "scripted_backend.hpp"

namespace gyre::testing {

class Stage {
 public:
  static constexpr int ticks_max = 10'000;

  explicit Stage(size_t buffers = 4, size_t buffer_bytes = 256, ReactorOptions options = {})
      : frames_before_(frames_live()), backend(buffers, buffer_bytes), reactor(backend, options) {}
  ~Stage() {
    CHECK(ended_);
    CHECK(frames_live() == frames_before_);
    CHECK(reactor.operations_in_flight() == 0);
    CHECK(reactor.descriptors_open == 0);
    CHECK(backend.buffers_free() == backend.buffer_count());
  }
  Stage(const Stage&) = delete;
  Stage& operator=(const Stage&) = delete;

  void start(Task<void> main) {
    ended_ = false;
    reactor.start(std::move(main));
  }
  bool tick(int times = 1) {
    while (!ended_ && times-- > 0) ended_ = !reactor.tick();
    return !ended_;
  }
  void advance(Nanos duration) {
    backend.clock += duration;
    tick();
  }
  // Runs `function` at the end of a tick: code that needs a current reactor.
  template <class Function>
  void inside(Function function) {
    struct Hook : TickHook {
      explicit Hook(Function& of)
          : TickHook([](TickHook& self) noexcept { static_cast<Hook&>(self).function(); }),
            function(of) {}
      Function& function;
    };
    Hook hook(function);
    reactor.at_tick_end(hook);
    tick();
  }
  bool ended() const { return ended_; }
  // Ticks until main has ended.
  void finish() {
    for (int i = 0; i < ticks_max && !ended_; ++i) tick();
    REQUIRE(ended_);
  }
  void run(Task<void> main) {
    start(std::move(main));
    finish();
  }

 private:
  int64_t frames_before_;
  bool ended_ = true;

 public:
  ScriptedBackend backend;
  Reactor reactor;
};

}  // namespace gyre::testing
