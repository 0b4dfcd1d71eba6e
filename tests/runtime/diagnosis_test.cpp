// What a person sees of a stuck or slow server: the dump of await chains and the stall report.
#include <string>
#include <string_view>

#include <gyre/scope.hpp>
#include <gyre/sync.hpp>
#include <gyre/time.hpp>

#include "stage.hpp"

using namespace gyre;
using gyre::testing::Stage;

namespace {

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}
// "diagnosis_test.cpp:<line>"
std::string at_line(unsigned line) {
  return "diagnosis_test.cpp:" + std::to_string(line);
}

struct Lines {
  unsigned outer = 0;
  unsigned inner = 0;
};

Task<bool> read_block(Event& event, Lines& lines) {
  lines.inner = __LINE__ + 1;
  co_return co_await event.wait();
}
Task<void> lookup_key(Event& event, Lines& lines) {
  lines.outer = __LINE__ + 1;
  static_cast<void>(co_await read_block(event, lines));
}
Task<void> flush_tables() {
  co_return;
}
Task<void> serve(Event& event, Lines& lines) {
  Scope requests(nullptr, "requests");
  requests.spawn(lookup_key(event, lines));
  co_await requests.join();
}

Task<void> hog(Stage& stage, Nanos duration, unsigned& line) {
  line = __LINE__ + 1;
  co_await yield();
  stage.backend.clock += duration;
}
Task<void> hog_at_once(Stage& stage, Nanos duration) {
  stage.backend.clock += duration;
  co_return;
}

}  // namespace

TEST_CASE("dump_tasks shows each await chain: function names, and the lines of the awaits") {
  Stage stage;
  Event event;
  Lines lines;
  stage.start(serve(event, lines));
  stage.tick(2);
  const std::string dump = stage.reactor.dump_tasks();
  INFO(dump);
  CHECK(contains(dump, "scope requests (1 tasks)"));
  CHECK(contains(dump, "scope main (1 tasks)"));
  const size_t outer = dump.find("lookup_key");
  const size_t inner = dump.find("read_block");
  REQUIRE(outer != std::string::npos);
  REQUIRE(inner != std::string::npos);
  CHECK(outer < inner);
  CHECK(contains(dump.substr(outer, inner - outer), at_line(lines.outer)));
  CHECK(contains(dump.substr(inner), at_line(lines.inner)));
  CHECK(dump.find("serve") != std::string::npos);
  CHECK_FALSE(contains(dump, "(ready)"));
  stage.inside([&] { event.set(); });
  CHECK(contains(stage.reactor.dump_tasks(), "(ready)"));
  stage.finish();
  CHECK(stage.reactor.dump_tasks().empty());
}

TEST_CASE("a child that has ended is not shown below its parent") {
  struct Body {
    static Task<void> run(Event& event) {
      co_await flush_tables();
      static_cast<void>(co_await event.wait());
    }
  };
  Stage stage;
  Event event;
  stage.start(Body::run(event));
  stage.tick(2);
  const std::string dump = stage.reactor.dump_tasks();
  INFO(dump);
  CHECK(contains(dump, "run(Event &)"));
  CHECK_FALSE(contains(dump, "flush_tables"));
  stage.inside([&] { event.set(); });
  stage.finish();
}

TEST_CASE("a task that has not started yet is named too") {
  Stage stage;
  stage.start(flush_tables());
  struct Body {
    static Task<void> run(std::string& dump) {
      Scope scope(nullptr, "jobs");
      scope.spawn(flush_tables());
      dump = Reactor::current().dump_tasks();
      co_await scope.join();
    }
  };
  stage.finish();
  std::string dump;
  stage.run(Body::run(dump));
  INFO(dump);
  CHECK(contains(dump, "flush_tables"));
  CHECK(contains(dump, "diagnosis_test.cpp:"));
}

TEST_CASE("work that holds the core is reported with the task's name and where it resumed") {
  Stage stage;
  unsigned line = 0;
  stage.run(hog(stage, milliseconds(9), line));
  CHECK(stage.backend.log_lines.empty());
  CHECK(stage.reactor.stats().stalls == 0);
  stage.run(hog(stage, milliseconds(25), line));
  REQUIRE(stage.backend.log_lines.size() == 1);
  const std::string& report = stage.backend.log_lines.front();
  INFO(report);
  CHECK(contains(report, "level=warn core=0"));
  CHECK(contains(report, "stall_ms=25.0"));
  CHECK(contains(report, "hog"));
  CHECK(contains(report, at_line(line)));
  CHECK(stage.reactor.stats().stalls == 1);
  CHECK(stage.reactor.stats().stall_longest == milliseconds(25));
}

TEST_CASE("a stall in a task's first turn names the task") {
  struct Body {
    static Task<void> run(Stage& stage) {
      Scope scope;
      scope.spawn(hog_at_once(stage, milliseconds(30)));
      co_await scope.join();
    }
  };
  Stage stage;
  stage.run(Body::run(stage));
  REQUIRE(stage.backend.log_lines.size() == 1);
  INFO(stage.backend.log_lines.front());
  CHECK(contains(stage.backend.log_lines.front(), "hog_at_once"));
}

TEST_CASE("time spent before the first task of a tick is not charged to it") {
  struct Slow : Timer {
    explicit Slow(Stage& of)
        : Timer([](Timer& self) noexcept {
            static_cast<Slow&>(self).stage.backend.clock += milliseconds(20);
          }),
          stage(of) {}
    Stage& stage;
  };
  struct Body {
    static Task<void> innocent() {
      for (int i = 0; i < 3; ++i) co_await yield();
    }
  };
  Stage stage;
  stage.start(Body::innocent());
  Slow slow(stage);
  stage.reactor.arm(slow, stage.backend.clock);
  stage.finish();
  REQUIRE(stage.backend.log_lines.size() == 1);
  INFO(stage.backend.log_lines.front());
  CHECK_FALSE(contains(stage.backend.log_lines.front(), "innocent"));
}

TEST_CASE("many stalls are counted, but only a few are logged per second") {
  struct Body {
    static Task<void> run(Stage& stage, int count) {
      for (int i = 0; i < count; ++i) {
        stage.backend.clock += milliseconds(11);
        co_await yield();
      }
    }
  };
  Stage stage;
  stage.run(Body::run(stage, 50));
  CHECK(stage.reactor.stats().stalls == 50);
  CHECK(stage.backend.log_lines.size() == 3);
  stage.backend.clock += seconds(1);
  stage.run(Body::run(stage, 1));
  CHECK(stage.backend.log_lines.size() == 4);
}
