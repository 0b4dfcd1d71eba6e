// A disk that fills up under load: a small tmpfs, which needs root (or user namespaces). Where
// neither is to be had the test is skipped.
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cstdio>
#include <random>

#include "../contract/http_client.hpp"
#include "chaos.hpp"

namespace gyre::chaos {

namespace fs = std::filesystem;
using test::HttpAnswer;
using test::HttpClient;
using test::NodeProcess;

namespace {

constexpr int exit_code_skip = 77;  // what meson calls a skipped test
constexpr uint64_t disk_bytes = 64u << 20;

// A tmpfs in a mount namespace of this process, so that it goes with it.
void mount_small_disk(const std::string& path) {
  const std::string options = "size=" + std::to_string(disk_bytes);
  const bool own = unshare(CLONE_NEWNS) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0;
  if (own && mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
      mount("tmpfs", path.c_str(), "tmpfs", 0, options.c_str()) == 0) {
    return;
  }
  std::printf("skipped: no tmpfs can be mounted here\n");
  std::fflush(stdout);
  std::_Exit(exit_code_skip);
}

// A start writes what the log has to tables, before it can recycle the log.
void resize_disk(const std::string& path, uint64_t size_bytes) {
  const std::string options = "size=" + std::to_string(size_bytes);
  REQUIRE(mount("tmpfs", path.c_str(), "tmpfs", MS_REMOUNT, options.c_str()) == 0);
}

// Takes room of the disk, until the file is removed.
std::string put_ballast(const std::string& directory, uint64_t size_bytes) {
  const std::string path = directory + "/ballast";
  const int fd = open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
  REQUIRE(fd >= 0);
  REQUIRE(posix_fallocate(fd, 0, static_cast<off_t>(size_bytes)) == 0);
  close(fd);
  return path;
}

// Writes until nothing is taken any more; then reads go on, and the node says that it is not well.
void fill_up(NodeProcess& node, Load& load) {
  load.start(node.port());
  REQUIRE(eventually([&] { return load.counts().refused >= 200; }));
  load.stop();
  check_no(load.take_problems());
  CHECK(load.counts().acknowledged > 0);
  MESSAGE(load.counts().acknowledged.load() << " writes acknowledged; then: " << load.refusal());
  check_no(load.look(node.port(), false));
  HttpClient client(node.port());
  // Of two shards one may still have room, and a log that finds none for its next segment has some in
  // the present one, at most as many frames as that holds.
  unsigned refused = 0;
  for (unsigned i = 0; i < 16 || (refused == 0 && i < 20'000); ++i) {
    const HttpAnswer answer = client.put(test::entity("probe-" + std::to_string(i)), "value");
    if (answer.status == 201) continue;
    ++refused;
    CHECK(answer.status == 503);
    CHECK(answer.body.find("No space left") != std::string::npos);
    CHECK(answer.has("retry-after"));
  }
  CHECK(refused > 0);
  const HttpAnswer ready = client.get("/readyz");
  CHECK(ready.status == 503);
  CHECK(ready.body.find("No space left") != std::string::npos);
  const std::string log = node.error_output();
  CHECK((log.find("without_space") != std::string::npos ||
         log.find("event=compaction_failed") != std::string::npos ||
         log.find("event=read_only") != std::string::npos));
}

// Somebody makes room. Unless an error made a shard read-only, the node goes on by itself.
void go_on_with_room(NodeProcess& node, Load& load) {
  if (node.error_output().find("event=read_only") != std::string::npos) return;
  REQUIRE(eventually([&] { return HttpClient(node.port()).get("/readyz").status == 200; }));
  load.start(node.port());
  REQUIRE(writes_acknowledged(load, 100));
  load.stop();
  check_no(load.take_problems());
  check_no(load.look(node.port(), false));
}

// It may start or refuse to, with the reason; it must not make things worse.
void start_while_full(NodeProcess& node) {
  node.launch();
  test::Exit exit;
  REQUIRE(eventually([&] { return !node.ready_line().empty() || (exit = node.wait(0)).ended; }));
  if (exit.ended) {
    CHECK(exit.code == 1);
    CHECK(node.error_output().find("No space left") != std::string::npos);
  }
  node.kill();
}

void check_whole_again(NodeProcess& node, Load& load) {
  node.start();
  check_no(load.look(node.port(), true));
  check_healthy(node);
  load.start(node.port());
  REQUIRE(writes_acknowledged(load, 100));
  load.stop();
  check_no(load.take_problems());
  node.kill();
  node.start();
  check_no(load.look(node.port(), true));
  CHECK(node.stop().code == 0);
}

}  // namespace

TEST_CASE("a full disk refuses writes with a reason, serves reads, and loses nothing") {
  const uint64_t seed = chaos_seed(6);
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  NodeProcess node({}, false);
  const std::string disk = node.root() + "/disk";
  fs::create_directory(disk);
  mount_small_disk(disk);
  node.flags = small_node_flags();
  node.flags.insert(node.flags.end(), {"--data", disk + "/data"});
  for (uint64_t round = 0; round < test::scaled(6, 1); ++round) {
    CAPTURE(round);
    // How much room there is decides what meets the end of it: log, table or manifest.
    const std::string ballast = put_ballast(disk, (16u << 20) + random() % (24u << 20));
    node.start();
    // A write that was refused because the disk failed under it may have reached the disk.
    Load load({.seed = seed + round, .disk_may_fail = true});
    fill_up(node, load);
    const bool room_at_once = round % 3 == 0;
    if (room_at_once) {
      fs::remove(ballast);
      go_on_with_room(node, load);
    }
    if (round % 2 == 0) {
      const test::Exit exit = node.stop();
      CHECK_MESSAGE(exit.code == 0, node.error_output());
    } else {
      node.kill();
    }
    if (!room_at_once) {
      start_while_full(node);
      fs::remove(ballast);
      resize_disk(disk, 4 * disk_bytes);
    }
    check_whole_again(node, load);
    fs::remove_all(disk + "/data");
    resize_disk(disk, disk_bytes);
  }
  umount2(disk.c_str(), MNT_DETACH);
}

}  // namespace gyre::chaos
