#include <doctest/doctest.h>

#include <cerrno>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "rig.hpp"

namespace {

using namespace gyre;
using namespace gyre::testing;

alignas(4096) char aligned[3 * 4096];

}  // namespace

TEST_CASE("a direct file refuses what is not aligned") {
  sim::World world({.seed = 3});
  SimRig rig(world, world.add_node());
  const int fd = rig.open("f", flag_read | flag_write | flag_create | flag_direct);
  REQUIRE(fd >= 0);
  std::memset(aligned, 'x', sizeof aligned);
  CHECK(rig.write(fd, 0, {aligned, 4096}) == 4096);
  CHECK(rig.write(fd, 512, {aligned, 4096}) == -EINVAL);
  CHECK(rig.write(fd, 0, {aligned, 512}) == -EINVAL);
  CHECK(rig.write(fd, 0, {aligned + 512, 4096}) == -EINVAL);
  TestOp read(OpCode::read);
  read.fd = fd;
  read.data = aligned + 1;
  read.len = 4096;
  CHECK(rig.run(read) == -EINVAL);
  read.data = aligned;
  read.offset = 4096;
  CHECK(rig.run(read) == 0);  // the end of the file
  rig.close(fd);
  CHECK(world.check_quiescent(rig.node()) == "");
}

TEST_CASE("a read holds noise until it completes") {
  sim::World world({.seed = 4});
  SimRig rig(world, world.add_node());
  const int fd = rig.open("f", flag_read | flag_write | flag_create);
  rig.write(fd, 0, "the content");
  char memory[11] = {};
  TestOp read(OpCode::read);
  read.fd = fd;
  read.data = memory;
  read.len = sizeof memory;
  rig.backend().submit(read);
  CHECK(std::string_view(memory, 11) == std::string(11, '\xdb'));
  rig.wait([&] { return read.ended; });
  CHECK(std::string_view(memory, 11) == "the content");
  rig.close(fd);
}

TEST_CASE("memory changed while its write is in flight shows in the file, in some worlds") {
  bool as_submitted = false;
  bool as_changed = false;
  bool mixed = false;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    sim::World world({.seed = seed});
    SimRig rig(world, world.add_node());
    const int fd = rig.open("f", flag_write | flag_create);
    std::string data(1000, 'a');
    TestOp write(OpCode::write);
    write.fd = fd;
    write.data = data.data();
    write.len = 1000;
    rig.backend().submit(write);
    data.assign(1000, 'b');
    rig.wait([&] { return write.ended; });
    const std::string content = rig.node().disk().content("f");
    as_submitted |= content == std::string(1000, 'a');
    as_changed |= content == std::string(1000, 'b');
    mixed |= content.front() == 'a' && content.back() == 'b';
    rig.close(fd);
  }
  CHECK(as_submitted);
  CHECK(as_changed);
  CHECK(mixed);
}

TEST_CASE("operations in flight complete in any order") {
  bool swapped = false;
  for (uint64_t seed = 1; seed <= 20 && !swapped; ++seed) {
    sim::World world({.seed = seed});
    SimRig rig(world, world.add_node());
    TestOp first(OpCode::make_dir);
    TestOp second(OpCode::make_dir);
    first.path = "a";
    second.path = "b";
    rig.backend().submit(first);
    rig.backend().submit(second);
    rig.wait([&] { return second.ended; });
    swapped = !first.ended;
    rig.wait([&] { return first.ended; });
  }
  CHECK(swapped);
}

TEST_CASE("a crash ends operations, releases locks and keeps what was durable") {
  sim::World world({.seed = 5});
  sim::Node& node = world.add_node();
  {
    SimRig rig(world, node);
    const int lock = rig.named(OpCode::lock_file, "LOCK");
    REQUIRE(lock >= 0);
    CHECK(rig.named(OpCode::lock_file, "LOCK") == -EWOULDBLOCK);
    const int fd = rig.open("f", flag_write | flag_create);
    const int dir = rig.open("", flag_read | flag_directory);
    CHECK(rig.write(fd, 0, "durable", flag_dsync) == 7);
    CHECK(rig.fsync(dir) == 0);
    CHECK(rig.write(fd, 0, "VOLATILE") == 8);
    TestOp pending(OpCode::fsync);
    pending.fd = fd;
    rig.backend().submit(pending);
    world.crash(node, sim::CrashMode::lost);
    REQUIRE(rig.wait([&] { return pending.ended; }));
    CHECK(pending.result() == -EIO);
    // The dead program goes on for a while; nothing it does has an effect.
    CHECK(rig.write(fd, 0, "zombie", flag_dsync) == -EIO);
    CHECK(rig.close(fd) == 0);
  }
  world.power_on(node);
  SimRig rig(world, node);
  CHECK(node.disk().content("f") == "durable");
  const int lock = rig.named(OpCode::lock_file, "LOCK");
  CHECK(lock >= 0);
  rig.close(lock);
  CHECK(world.check_quiescent(node) == "");
}

TEST_CASE("a kill keeps the page cache") {
  sim::World world({.seed = 6});
  sim::Node& node = world.add_node();
  {
    SimRig rig(world, node);
    const int fd = rig.open("f", flag_write | flag_create);
    rig.write(fd, 0, "not synced");
    world.kill(node);
  }
  world.power_on(node);
  CHECK(node.disk().content("f") == "not synced");
}

TEST_CASE("a write in flight at the power cut arrives, tears or is lost") {
  std::map<std::string, int> outcomes;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    sim::World world({.seed = seed});
    sim::Node& node = world.add_node();
    SimRig rig(world, node);
    const int fd = rig.open("f", flag_write | flag_create);
    const int dir = rig.open("", flag_read | flag_directory);
    rig.write(fd, 0, std::string(1024, 'o'), flag_dsync);
    rig.fsync(dir);
    const std::string data(1024, 'n');
    TestOp write(OpCode::write);
    write.fd = fd;
    write.flags = flag_dsync;
    write.data = const_cast<char*>(data.data());
    write.len = 1024;
    rig.backend().submit(write);
    world.crash(node, sim::CrashMode::torn);
    const std::string after = node.disk().content("f");
    ++outcomes[std::string{after[0], after[512]}];
    rig.wait([&] { return write.ended; });
  }
  CHECK(outcomes.size() == 4);  // oo, on, no, nn
}

TEST_CASE("run_until stops exactly at a write point") {
  sim::World world({.seed = 8});
  sim::Node& node = world.add_node();
  SimRig rig(world, node);
  const int fd = rig.open("f", flag_write | flag_create);
  node.disk().stop_at(node.disk().write_points() + 1, sim::CrashPhase::after);
  TestOp write(OpCode::write);
  char byte = 'x';
  write.fd = fd;
  write.data = &byte;
  write.len = 1;
  rig.backend().submit(write);
  CHECK(world.run_until([&] { return write.ended; }, seconds(1)) == sim::Stop::crash_point);
  CHECK_FALSE(write.ended);
  CHECK(node.disk().stop_description() == "write /f at write point 2");
  world.crash(node, sim::CrashMode::lost);
  CHECK(rig.wait([&] { return write.ended; }));
  CHECK(write.result() == -EIO);
}

TEST_CASE("disk faults by chance reach the program") {
  sim::World world({.seed = 9});
  sim::Node& node = world.add_node({.disk = {.read_error_ppm = 200'000,
                                             .write_error_ppm = 200'000,
                                             .short_read_ppm = 200'000,
                                             .short_write_ppm = 200'000}});
  SimRig rig(world, node);
  const int fd = rig.open("f", flag_read | flag_write | flag_create);
  const std::string data(4096, 'x');
  std::string into;
  for (int i = 0; i < 100; ++i) {
    rig.write(fd, 0, data);
    rig.read(fd, 0, into, 4096);
  }
  for (const char* kind : {"read error", "write error", "short read", "short write"}) {
    CAPTURE(kind);
    CHECK(world.faults()[kind] > 5);
  }
  rig.close(fd);
}

TEST_CASE("descriptors run out") {
  sim::World world({.seed = 10});
  SimRig rig(world, world.add_node({.descriptors_max = 2}));
  const int a = rig.open("a", flag_write | flag_create);
  const int b = rig.open("b", flag_write | flag_create);
  CHECK(rig.open("c", flag_write | flag_create) == -EMFILE);
  CHECK(rig.listen("0.0.0.0", 80) == -EMFILE);
  rig.close(a);
  CHECK(rig.open("c", flag_write | flag_create) > b);
}

TEST_CASE("a cancelled file operation ends as cancelled or as done") {
  bool cancelled = false;
  bool done = false;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    sim::World world({.seed = seed});
    SimRig rig(world, world.add_node());
    TestOp op(OpCode::make_dir);
    op.path = "d";
    rig.backend().submit(op);
    rig.backend().cancel(op);
    rig.wait([&] { return op.ended; });
    FileStatus status;
    rig.stat("d", status);
    CHECK(status.exists == (op.result() == 0));
    cancelled |= op.result() == -ECANCELED;
    done |= op.result() == 0;
  }
  CHECK(cancelled);
  CHECK(done);
}
