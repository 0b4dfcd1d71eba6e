#include "engine/options.hpp"

#include <doctest/doctest.h>

using namespace gyre::engine;

namespace {

std::string complaint(const std::vector<std::string>& arguments) {
  const auto line = parse_command_line(arguments);
  return line ? "" : line.error().detail;
}

}  // namespace

TEST_CASE("without arguments everything is measured, in both loops") {
  const auto line = parse_command_line({});
  REQUIRE(line);
  CHECK(line->options.workloads.size() == workloads().size());
  CHECK(line->options.engines.size() == 2);
  CHECK(line->options.loops.size() == 2);
}

TEST_CASE("workloads and lists are ordered and have no doubles") {
  const auto line = parse_command_line(
      {"overwrite", "fillrandom", "overwrite", "--threads=4,1,4", "--engines", "rocksdb,gyre"});
  REQUIRE(line);
  REQUIRE(line->options.workloads.size() == 2);
  CHECK(line->options.workloads[0]->name == "fillrandom");
  CHECK(line->options.threads == std::vector<unsigned>{1, 4});
  CHECK(line->options.engines == std::vector<Engine>{Engine::gyre, Engine::rocksdb});
}

TEST_CASE("flags take their values") {
  const auto line = parse_command_line({"--write-buffer", "64M", "--routing=own", "--compression",
                                        "none", "--open-share", "0.5", "--cpus", "1,0",
                                        "--rocksdb-io", "buffered", "--burst-us", "0"});
  REQUIRE(line);
  CHECK(line->options.write_buffer_bytes == 64u << 20);
  CHECK(!line->options.any_core);
  CHECK(!line->options.compress);
  CHECK(!line->options.direct_io);
  CHECK(line->options.open_share == doctest::Approx(0.5));
  CHECK(line->options.burst_us == 0);
  CHECK(line->options.cpus == std::vector<int>{0, 1});
}

TEST_CASE("what is wrong is named, with what is accepted") {
  CHECK(complaint({"--pair", "3"}) == "--pair is not known. Did you mean --pairs?");
  CHECK(complaint({"readrandm"}) == "readrandm is no workload. Did you mean readrandom?");
  CHECK(complaint({"--pairs"}) == "--pairs needs a value");
  CHECK(complaint({"--pairs", "0"}) == "--pairs 0 must be from 1 to 1000");
  CHECK(complaint({"--engines", "leveldb"}) ==
        "--engines leveldb is not known: gyre, rocksdb or gyre,rocksdb");
  CHECK(complaint({"--seconds", "0"}) == "--seconds 0 must be a number over 0 to 86400");
  CHECK(complaint({"--value-bytes", "23"}) == "--value-bytes 23 must be from 24 to 65536");
  CHECK(complaint({"--threads", "1,x"}) ==
        "--threads 1,x must be numbers from 1 to 1024 with commas between");
  CHECK(complaint({"--lanes", "1", "--cpus", "0,1"}) == "--lanes 1 is fewer than CPUs");
}
