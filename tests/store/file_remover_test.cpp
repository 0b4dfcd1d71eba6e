#include "store/file_remover.hpp"

#include <doctest/doctest.h>

#include <string>

#include <gyre/scope.hpp>

#include "removal_support.hpp"
#include "sim_rig.hpp"

namespace gyre {
using namespace test;

namespace {

constexpr uint64_t piece = 64u << 10;

Task<std::vector<DirEntry>> names_left() {
  Result<std::vector<DirEntry>> entries = co_await list_directory("d");
  co_return entries ? *entries : std::vector<DirEntry>{};
}

Task<void> make_files(uint64_t count, uint64_t size_bytes) {
  co_await make_directory("d");
  for (uint64_t i = 0; i < count; ++i) {
    REQUIRE_OR_RETURN(co_await write_whole("d/" + std::to_string(i), size_bytes));
  }
}

Task<void> remove_files(uint64_t count, uint64_t size_bytes, FileRemover::Stats& stats,
                        bool in_haste = false) {
  Scope scope;
  FileRemover remover(scope, "d", piece);
  for (uint64_t i = 0; i < count; ++i) remover.remove({}, std::to_string(i), size_bytes);
  CHECK(remover.waiting_bytes() == count * size_bytes);
  if (in_haste) remover.hurry();
  co_await scope.join();
  CHECK(remover.waiting_bytes() == 0);
  stats = remover.stats();
  CHECK((co_await names_left()).empty());
}

TEST_CASE("a large file is freed in pieces, each committed before the next") {
  SimRig rig;
  rig.run(make_files(3, 10 * piece + 1));
  FileRemover::Stats stats;
  const uint64_t used_before = rig.disk().free_bytes();
  CHECK(rig.run(remove_files(3, 10 * piece + 1, stats)));
  CHECK(rig.disk().free_bytes() >= used_before + 30 * piece);
  CHECK(stats.files == 3);
  CHECK(stats.bytes == 30 * piece + 3);
  CHECK(stats.pieces == 33);
  CHECK(rig.disk().bytes_freed_per_commit_max() <= piece + 4096);
  CHECK(rig.disk().bytes_freed_by_close() == 0);
}

TEST_CASE("small files are freed together until they make up a piece") {
  SimRig rig;
  rig.run(make_files(40, piece / 4));
  FileRemover::Stats stats;
  CHECK(rig.run(remove_files(40, piece / 4, stats)));
  CHECK(stats.files == 40);
  CHECK(stats.pieces == 0);
  CHECK(rig.disk().bytes_freed_per_commit_max() == piece);
}

Task<void> remove_timed(uint64_t size_bytes, bool in_haste, Nanos& taken) {
  FileRemover::Stats stats;
  const Nanos began = Reactor::current().now();
  co_await remove_files(2, size_bytes, stats, in_haste);
  taken = Reactor::current().now() - began;
}

TEST_CASE("the disk rests between pieces, unless there is haste") {
  const auto time_taken = [](uint64_t size_bytes, bool in_haste) {
    sim::DiskOptions disk;
    disk.name = disk.sync = {milliseconds(1), milliseconds(1)};
    SimRig rig(1, disk);
    rig.run(make_files(2, size_bytes));
    Nanos taken = 0;
    CHECK(rig.run(remove_timed(size_bytes, in_haste, taken)));
    return taken;
  };
  // A piece is a truncation and a sync, and three times as long of rest: 8 ms.
  const Nanos steady = time_taken(20 * piece, false);
  CHECK(steady >= milliseconds(2 * 20 * 8));
  CHECK(steady <= milliseconds(2 * 20 * 8 + 20));
  CHECK(time_taken(20 * piece, true) <= milliseconds(10));
}

Task<void> hurry_on_the_way(uint64_t& pieces) {
  Scope scope;
  FileRemover remover(scope, "d", piece);
  for (uint64_t i = 0; i < 3; ++i) remover.remove({}, std::to_string(i), 50 * piece);
  while (remover.stats().pieces < 5) co_await sleep_for(milliseconds(1));
  remover.hurry();
  co_await scope.join();
  CHECK(remover.stats().files == 3);
  CHECK((co_await names_left()).empty());
  pieces = remover.stats().pieces;
  // What comes later isn't hurried any more.
  REQUIRE_OR_RETURN(co_await write_whole("d/later", 4 * piece));
  remover.remove({}, "later", 4 * piece);
  co_await scope.join();
  CHECK(remover.stats().pieces == pieces + 4);
}

TEST_CASE("haste ends a removal that is under way, and those behind it") {
  SimRig rig;
  rig.run(make_files(3, 50 * piece));
  uint64_t pieces = 0;
  CHECK(rig.run(hurry_on_the_way(pieces)));
  CHECK(pieces >= 5);
  CHECK(pieces <= 7);
}

TEST_CASE("a file that has another name keeps its bytes") {
  CHECK(linked_file_is_cut() == "");
}

Task<void> remove_what_is_missing(FileRemover::Stats& stats) {
  Scope scope;
  FileRemover remover(scope, "d", piece);
  remover.remove({}, "nothing", 10 * piece);
  remover.remove({}, "nothing small", 1);
  remover.remove({}, "0", 10 * piece);
  co_await scope.join();
  stats = remover.stats();
  CHECK((co_await names_left()).empty());
}

TEST_CASE("a file that is gone already holds nothing up") {
  SimRig rig;
  rig.run(make_files(1, 10 * piece));
  FileRemover::Stats stats;
  CHECK(rig.run(remove_what_is_missing(stats)));
  CHECK(stats.files == 3);
  CHECK(stats.pieces == 10);
}

}  // namespace
}  // namespace gyre
