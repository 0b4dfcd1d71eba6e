#include <doctest/doctest.h>

#include <memory>
#include <vector>

#include <gyre/stop.hpp>

using namespace gyre;

namespace {

struct Recorder : StopCallback {
  Recorder(std::vector<int>& calls, int id)
      : StopCallback([](StopCallback& self) noexcept {
          auto& recorder = static_cast<Recorder&>(self);
          recorder.calls.push_back(recorder.id);
          if (recorder.victim != nullptr) recorder.victim->unlink();
          recorder.doomed.reset();
        }),
        calls(calls),
        id(id) {}
  std::vector<int>& calls;
  int id;
  StopCallback* victim = nullptr;
  std::unique_ptr<StopSource> doomed;
};

}  // namespace

TEST_CASE("a stop calls each callback once") {
  std::vector<int> calls;
  StopSource source;
  Recorder one(calls, 1);
  Recorder two(calls, 2);
  source.add(one);
  source.add(two);
  CHECK(one.linked());
  source.request_stop();
  source.request_stop();
  CHECK(source.stop_requested());
  CHECK(calls.size() == 2);
  CHECK_FALSE(one.linked());
}

TEST_CASE("a callback may unlink the next one, and one that died is not called") {
  std::vector<int> calls;
  StopSource source;
  Recorder one(calls, 1);
  Recorder two(calls, 2);
  one.victim = &two;
  two.victim = &one;
  source.add(one);
  source.add(two);
  {
    Recorder gone(calls, 3);
    source.add(gone);
  }
  source.request_stop();
  CHECK(calls.size() == 1);
}

TEST_CASE("a stop travels down, never up") {
  std::vector<int> calls;
  StopSource grandparent;
  StopSource parent(&grandparent);
  StopSource child(&parent);
  StopSource sibling(&grandparent);
  Recorder in_child(calls, 1);
  Recorder in_sibling(calls, 2);
  child.add(in_child);
  sibling.add(in_sibling);
  parent.request_stop();
  CHECK(child.stop_requested());
  CHECK_FALSE(sibling.stop_requested());
  CHECK_FALSE(grandparent.stop_requested());
  CHECK(calls == std::vector<int>{1});
  grandparent.request_stop();
  CHECK(calls == std::vector<int>{1, 2});
}

TEST_CASE("a source made under a stopped one is stopped") {
  StopSource parent;
  parent.request_stop();
  StopSource child(&parent);
  CHECK(child.stop_requested());
}

TEST_CASE("sources and callbacks may die in any order") {
  std::vector<int> calls;
  Recorder callback(calls, 1);
  auto parent = std::make_unique<StopSource>();
  auto child = std::make_unique<StopSource>(parent.get());
  child->add(callback);
  parent.reset();
  CHECK_FALSE(child->stop_requested());
  child.reset();
  CHECK_FALSE(callback.linked());

  StopSource source;
  Recorder killer(calls, 2);
  killer.doomed = std::make_unique<StopSource>(&source);  // dies while the stop goes on
  Recorder after(calls, 3);
  source.add(after);
  source.add(killer);
  source.request_stop();
  CHECK(calls == std::vector<int>{2, 3});
}
