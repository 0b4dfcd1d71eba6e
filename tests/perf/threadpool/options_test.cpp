#include "options.hpp"

#include <doctest/doctest.h>

using namespace gyre;
using namespace gyre::threadpool;

TEST_CASE("flags are read in both spellings, after an optional serve") {
  const CommandLine line = parse_command_line(
      {"serve", "--listen", "127.0.0.1:9000", "--cores=2", "--durability", "none",
       "--overflow=block", "--memory", "512M", "--queue", "7", "--pin", "--direct"});
  CHECK(line.problem.empty());
  CHECK(line.options.listen.port == 9000);
  CHECK(line.options.cores == 2);
  CHECK(line.options.durability == Durability::none);
  CHECK(line.options.overflow == Overflow::block);
  CHECK(line.options.memory_bytes == 512u << 20);
  CHECK(line.options.queue_tasks_max == 7);
  CHECK(line.options.pin);
  CHECK(line.options.direct);
  CHECK_FALSE(parse_command_line({}).options.direct);
}

TEST_CASE("defaults follow cores and durability, and the split fits the budget") {
  const Options group = parse_command_line({"--cores", "4", "--memory", "1G"}).options;
  const Options none =
      parse_command_line({"--cores", "4", "--memory", "1G", "--durability", "none"}).options;
  CHECK(group.workers > none.workers);
  CHECK(group.selectors >= 1);
  CHECK(group.cache_bytes + group.memtable_bytes + group.transit_bytes < group.memory_bytes);
  CHECK(group.cache_bytes > group.memtable_bytes);
}

TEST_CASE("what makes no sense is said in a line that names the flag") {
  for (const std::vector<std::string>& arguments : {std::vector<std::string>{"--queue", "0"},
                                                    {"--workers", "many"},
                                                    {"--memory", "1X"},
                                                    {"--overflow", "drop"},
                                                    {"--durability", "maybe"},
                                                    {"--idle-timeout", "5"},
                                                    {"--data"}}) {
    const CommandLine line = parse_command_line(arguments);
    CHECK(line.problem.find(arguments[0]) != std::string::npos);
  }
  CHECK(parse_command_line({"--worker", "2"}).problem.find("--workers?") != std::string::npos);
  CHECK(!parse_command_line({"somewhere"}).problem.empty());
  CHECK(parse_command_line({"--memory", "8M"}).problem.find("--memory") != std::string::npos);
  CHECK(parse_command_line({"--help"}).help);
}

TEST_CASE("a cluster is all its nodes, and this one among them") {
  const std::string one = "http://127.0.0.1:1";
  const std::string two = "http://127.0.0.1:2";
  const CommandLine line =
      parse_command_line({"--advertise", two, "--peers", one + "," + two, "--replication", "2",
                          "--admin", "off", "--durability", "none", "--cores", "1"});
  CHECK(line.problem.empty());
  CHECK(line.options.peers == std::vector<std::string>{one, two});
  CHECK(line.options.advertise == two);
  CHECK(line.options.replication == 2);
  CHECK(line.options.workers >
        parse_command_line({"--durability", "none", "--cores", "1"}).options.workers);
  CHECK(line.options.threads_per_peer >= 4);
  for (const std::vector<std::string>& wrong :
       std::vector<std::vector<std::string>>{{"--peers", one},
                                             {"--advertise", one},
                                             {"--peers", one, "--advertise", two},
                                             {"--peers", one + "," + one, "--advertise", one},
                                             {"--peers", "nonsense", "--advertise", "nonsense"},
                                             {"--replication", "6"},
                                             {"--admin", "127.0.0.1:1"}}) {
    CHECK_FALSE(parse_command_line(wrong).problem.empty());
  }
}
