#include "quorum_history.hpp"

#include <doctest/doctest.h>

namespace gyre::chaos {
namespace {

constexpr unsigned key = 7;

// Histories in which things happen one after the other unless a test says otherwise.
struct Story {
  QuorumHistory history;
  int64_t now = 0;

  void wrote(uint64_t value, const std::string& version) {
    history.add(QuorumWrite{key, value, now + 1, now + 2, Outcome::acknowledged, version});
    now += 10;
  }
  void removed(const std::string& version) { wrote(0, version); }
  void unanswered(uint64_t value) {
    history.add(QuorumWrite{key, value, now + 1, now + 2, Outcome::unknown, ""});
    now += 10;
  }
  void refused(uint64_t value) {
    history.add(QuorumWrite{key, value, now + 1, now + 2, Outcome::refused, ""});
    now += 10;
  }
  void read(std::optional<uint64_t> value, const std::string& version = "") {
    history.add(QuorumRead{key, value, now + 1, now + 2, version});
    now += 10;
  }
  bool good() const { return history.violations().empty(); }
  // One violation that tells so.
  bool bad(const std::string& part) const {
    const std::vector<std::string> all = history.violations();
    return all.size() == 1 && all[0].find(part) != std::string::npos;
  }
};

TEST_CASE("what quorums may show is not objected to") {
  Story story;
  story.read(std::nullopt);
  story.wrote(1, "b");
  story.read(1, "b");
  story.unanswered(2);
  story.read(1, "b");
  story.read(2, "c");  // it happened after all
  story.removed("d");
  story.read(std::nullopt);
  story.unanswered(0);
  story.wrote(3, "e");
  story.read(3, "e");
  story.read(std::nullopt);  // the unanswered removal came later
  story.refused(4);
  CHECK(story.good());
  CHECK(story.history.acknowledged() == 3);
  CHECK(story.history.unknown() == 2);
  CHECK(story.history.reads() == 7);
}

TEST_CASE("what runs beside each other may be seen in either order") {
  QuorumHistory history;
  history.add(QuorumWrite{key, 1, 1, 2, Outcome::acknowledged, "a"});
  history.add(QuorumWrite{key, 2, 10, 50, Outcome::acknowledged, "b"});
  history.add(QuorumRead{key, 2, 11, 30, "b"});
  history.add(QuorumRead{key, 1, 12, 40, "a"});  // began before the other read had ended
  CHECK(history.violations().empty());
}

TEST_CASE("a write that was stamped again may be seen under its first stamp only below") {
  Story under;
  under.unanswered(9);
  under.history.add(QuorumWrite{key, 1, 1, 100, Outcome::acknowledged, "d"});
  under.read(1, "b");
  CHECK(under.good());
  Story above;
  above.wrote(1, "d");
  above.read(1, "e");
  CHECK(above.bad("later version of what was acknowledged"));
}

TEST_CASE("a lost write is told") {
  Story older;
  older.wrote(1, "a");
  older.wrote(2, "b");
  older.read(1, "a");
  CHECK(older.bad("went back"));
  CHECK(older.history.lost({{key, 1, older.now, older.now, "a"}}) == 1);
  CHECK(older.history.lost({{key, 2, older.now, older.now, "b"}}) == 0);
  Story nothing;
  nothing.wrote(1, "a");
  nothing.read(std::nullopt);
  CHECK(nothing.bad("lost what was there"));
  CHECK(nothing.history.lost({{key, std::nullopt, nothing.now, nothing.now, ""}}) == 1);
  nothing.unanswered(0);
  CHECK(nothing.history.lost({{key, std::nullopt, nothing.now, nothing.now, ""}}) == 0);
}

TEST_CASE("a removal that is lost or comes undone is told") {
  Story back;
  back.wrote(1, "a");
  back.removed("b");
  back.read(1, "a");
  CHECK(back.bad("went back"));
  Story late;  // the only removal is older than the write
  late.wrote(1, "a");
  late.removed("b");
  late.wrote(2, "c");
  late.read(std::nullopt);
  CHECK(late.bad("lost what was there"));
  Story unanswered;  // seen to be gone, so it has to stay gone
  unanswered.wrote(1, "a");
  unanswered.unanswered(0);
  unanswered.read(std::nullopt);
  unanswered.read(1, "a");
  CHECK(unanswered.bad("saw again what was gone"));
}

TEST_CASE("reads that go back are told, also of writes that were not answered") {
  Story story;
  story.wrote(1, "a");
  story.unanswered(2);
  story.read(2, "b");
  story.read(1, "a");
  CHECK(story.bad("went back"));
}

TEST_CASE("values that can't be there are told") {
  Story never;
  never.wrote(1, "a");
  never.read(5, "b");
  CHECK(never.bad("what nobody wrote"));
  Story later;
  later.read(1, "a");
  later.wrote(1, "a");
  CHECK(later.bad("written later"));
  Story refused;
  refused.refused(1);
  refused.read(1, "a");
  CHECK(refused.bad("was refused"));
  Story twice;
  twice.unanswered(1);
  twice.unanswered(2);
  twice.read(1, "a");
  twice.read(2, "a");
  CHECK(twice.bad("another value of its version"));
}

TEST_CASE("a write under the version of an earlier one is told") {
  Story story;
  story.wrote(1, "b");
  story.wrote(2, "a");
  CHECK(story.bad("not above"));
  QuorumHistory same;
  same.add(QuorumWrite{1, 1, 1, 2, Outcome::acknowledged, "a"});
  same.add(QuorumWrite{2, 2, 1, 2, Outcome::acknowledged, "a"});
  CHECK(same.violations().size() == 1);
}

TEST_CASE("keys don't mix, and histories can be put together") {
  QuorumHistory one;
  QuorumHistory other;
  one.add(QuorumWrite{1, 1, 1, 2, Outcome::acknowledged, "b"});
  other.add(QuorumRead{2, std::nullopt, 3, 4, ""});
  one.add(other);
  CHECK(one.violations().empty());
  other.add(QuorumRead{1, std::nullopt, 3, 4, ""});
  one.add(other);
  CHECK(one.violations().size() == 1);
}

}  // namespace
}  // namespace gyre::chaos
