#include <memory>
#include <stdexcept>
#include <string>

#include <gyre/sync.hpp>
#include <gyre/time.hpp>

#include "stage.hpp"

using namespace gyre;
using gyre::testing::Stage;

namespace {

Task<int> add(int a, int b) {
  co_return a + b;
}
Task<std::unique_ptr<int>> boxed(int value) {
  co_return std::make_unique<int>(value);
}
Task<std::string> fails(std::string why) {
  if (!why.empty()) throw std::runtime_error(why);
  co_return "fine";
}
Task<void> fails_without_value() {
  co_await yield();
  throw std::logic_error("void");
}
Task<void> count(int& counter) {
  ++counter;
  co_return;
}
Task<int> sum_to(int n) {  // n frames deep
  if (n == 0) co_return 0;
  co_return n + co_await sum_to(n - 1);
}

struct Tracked {
  explicit Tracked(int& alive_count) : alive(&alive_count) { ++*alive; }
  Tracked(const Tracked& other) : alive(other.alive) { ++*alive; }
  Tracked(Tracked&& other) noexcept : alive(other.alive) { ++*alive; }
  ~Tracked() { --*alive; }
  int* alive;
};
Task<void> keep(Tracked tracked) {
  co_await yield();
  static_cast<void>(tracked);
}
Task<Tracked> pass(Tracked tracked) {
  co_await yield();
  co_return tracked;
}

}  // namespace

TEST_CASE("a task answers a value, a move-only value, or nothing") {
  struct Body {
    static Task<void> run(int& counter) {
      CHECK(co_await add(2, 3) == 5);
      std::unique_ptr<int> box = co_await boxed(7);
      CHECK(*box == 7);
      co_await count(counter);
    }
  };
  Stage stage;
  int counter = 0;
  stage.run(Body::run(counter));
  CHECK(counter == 1);
}

TEST_CASE("an exception reaches the awaiting task, also after a suspension") {
  struct Body {
    static Task<void> run(int& caught) {
      CHECK(co_await fails("") == "fine");
      try {
        static_cast<void>(co_await fails("why"));
      } catch (const std::runtime_error& error) {
        caught += std::string(error.what()) == "why";
      }
      try {
        co_await fails_without_value();
      } catch (const std::logic_error&) {
        ++caught;
      }
    }
  };
  Stage stage;
  int caught = 0;
  stage.run(Body::run(caught));
  CHECK(caught == 2);
}

TEST_CASE("a task is lazy, and one that never started frees its frame and its parameters") {
  Stage stage;
  const int64_t before = frames_live();
  int alive = 0;
  int counter = 0;
  {
    Task<void> never = keep(Tracked(alive));
    Task<void> other = count(counter);
    CHECK(frames_live() == before + 2);
    CHECK(alive == 1);
    never = keep(Tracked(alive));  // assignment destroys the first
    CHECK(frames_live() == before + 2);
    CHECK(alive == 1);
    Task<void> moved = std::move(never);
    CHECK(frames_live() == before + 2);
  }
  CHECK(counter == 0);
  CHECK(alive == 0);
  CHECK(frames_live() == before);
}

TEST_CASE("temporaries, parameters and results of an await are destroyed exactly once") {
  struct Body {
    static Task<void> run(int& alive) {
      co_await keep(Tracked(alive));
      CHECK(alive == 0);
      {
        Tracked result = co_await pass(Tracked(alive));
        CHECK(alive == 1);
      }
      CHECK(alive == 0);
    }
  };
  Stage stage;
  int alive = 0;
  stage.run(Body::run(alive));
  CHECK(alive == 0);
}

TEST_CASE("a million synchronous awaits in a row don't grow the stack") {
  struct Body {
    static Task<void> run(int64_t& total) {
      for (int i = 0; i < 1'000'000; ++i) total += co_await add(i, 1);
    }
  };
  Stage stage;
  int64_t total = 0;
  stage.run(Body::run(total));
  CHECK(total == 500'000'500'000);
}

TEST_CASE("a chain of a hundred thousand tasks is unwound without a deep stack") {
  struct Body {
    static Task<void> run(int n, int64_t& total) { total = co_await sum_to(n); }
  };
  Stage stage;
  int64_t total = 0;
  stage.run(Body::run(60'000, total));
  CHECK(total == int64_t{60'000} * 60'001 / 2);
}

TEST_CASE("frames of a size seen before come from the pool") {
  struct Body {
    static Task<void> run(int rounds) {
      for (int i = 0; i < rounds; ++i) static_cast<void>(co_await boxed(i));
    }
  };
  Stage stage;
  stage.run(Body::run(1));
#if !defined(__has_feature) || !__has_feature(address_sanitizer)
  const uint64_t misses = frame_pool_misses();
  stage.run(Body::run(1000));
  CHECK(frame_pool_misses() == misses);
#endif
  release_frame_pool();
  const uint64_t cold = frame_pool_misses();
  stage.run(Body::run(1));
  CHECK(frame_pool_misses() > cold);
}
