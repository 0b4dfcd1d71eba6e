// The log's writer with a client that only takes notes: what is told when, how frames gather, what
// is on the disk by then.
#include "store/log_writer.hpp"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cerrno>
#include <span>

#include "log_writer_rig.hpp"

namespace gyre::test {
namespace {

Task<void> durable_when_completed(sim::Disk& disk) {
  Notes notes(disk);
  notes.check_durable = true;
  LogWriter log(log_options(), notes);
  CO_OK(co_await open_log(log));
  NotedWrite writes[40];
  for (unsigned i = 0; i < 40; ++i) {
    submit(log, writes[i], fmt::format("key{}", i), noise(i, 40 + i * 13));
    CHECK(writes[i].logged);      // there is room: applied at once …
    CHECK(!writes[i].completed);  // … but not answered
    if (i % 3 == 0) co_await sleep_for(microseconds(50));
  }
  CO_OK(co_await log.close());
  CHECK(notes.completions == 40);
  for (const NotedWrite& write : writes) CHECK(write.status == Errc::ok);
  CHECK(log.stats().records == 40);
  CHECK(log.stats().frames < 40);
}

TEST_CASE("a write is answered when its bytes are durable, not before") {
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    ShardRig rig(seed);
    rig.live(durable_when_completed(rig.disk()));
  }
}

Task<void> group_commit(sim::Disk& disk) {
  Notes notes(disk);
  LogWriter log(log_options(), notes);
  CO_OK(co_await open_log(log));
  std::vector<NotedWrite> writes(3000);
  for (size_t i = 0; i < writes.size(); ++i) {
    submit(log, writes[i], fmt::format("key{}", i), std::string(1000, 'v'));
  }
  CHECK(notes.logged_seq < writes.size());  // more than a frame holds: the rest waits, in order
  CHECK(log.stats().frames == 0);
  co_await sleep_for(milliseconds(90));
  CHECK(notes.completions == writes.size());
  CHECK(log.stats().frames >= 3);
  CHECK(log.stats().frames <= 4);
  for (size_t i = 1; i < writes.size(); ++i) CHECK(writes[i].seq == writes[i - 1].seq + 1);
  CO_OK(co_await log.close());
}

TEST_CASE("everything of a tick shares a frame, what does not fit the next ones") {
  ShardRig rig(1);
  rig.live(group_commit(rig.disk()));
}

// Clients that ask again after an answer, one in each of the next ticks.
Task<void> ask_again(Notes& notes, LogWriter& log, std::span<NotedWrite> next) {
  static_cast<void>(co_await notes.first_completion.wait());
  for (NotedWrite& write : next) {
    CHECK(co_await sleep_for(1));  // in the tick after
    submit(log, write, "next", "v");
  }
}

Task<void> answers_bring_more(sim::Disk& disk) {
  Notes notes(disk);
  LogWriter log(log_options(), notes);
  CO_OK(co_await open_log(log));
  NotedWrite first;
  NotedWrite waiting;
  NotedWrite next[5];
  Scope scope(co_await current_stop(), "client");
  scope.spawn(ask_again(notes, log, next));
  submit(log, first, "first", "v");
  co_await sleep_for(microseconds(10));
  CHECK(log.stats().frames == 1);
  submit(log, waiting, "waiting", "v");
  co_await sleep_for(milliseconds(30));
  for (const NotedWrite& write : next) CHECK(write.completed);
  CHECK(waiting.completed);
  CHECK(log.stats().frames == 2);
  // Nobody follows: no frame waits for anything.
  NotedWrite last[2];
  submit(log, last[0], "last", "v");
  co_await sleep_for(microseconds(10));
  CHECK(log.stats().frames == 3);
  submit(log, last[1], "last", "v");
  co_await sleep_for(milliseconds(30));
  CHECK(last[1].completed);
  co_await scope.join();
  CO_OK(co_await log.close());
}

TEST_CASE("a frame that waited for another takes what the answers to that one bring") {
  ShardRig rig(9, {.write = {microseconds(60), microseconds(100)}});
  rig.live(answers_bring_more(rig.disk()));
}

Task<void> answers_bring_ever_more(sim::Disk& disk) {
  Notes notes(disk);
  LogWriter log(log_options(), notes);
  CO_OK(co_await open_log(log));
  NotedWrite first;
  NotedWrite waiting;
  std::vector<NotedWrite> next(500);  // ticks of 1 to 10 us
  Scope scope(co_await current_stop(), "client");
  scope.spawn(ask_again(notes, log, next));
  submit(log, first, "first", "v");
  co_await sleep_for(microseconds(10));
  submit(log, waiting, "waiting", "v");
  while (!waiting.completed && !next.back().logged) co_await sleep_for(microseconds(50));
  CHECK(waiting.completed);
  CHECK(!next.back().logged);
  co_await scope.join();
  CO_OK(co_await log.close());
  CHECK(notes.completions == next.size() + 2);
}

TEST_CASE("a frame does not wait for ever while more comes") {
  ShardRig rig(10, {.write = {microseconds(60), microseconds(100)}});
  rig.live(answers_bring_ever_more(rig.disk()));
}

Task<void> large_and_small(sim::Disk& disk) {
  Notes notes(disk);
  notes.check_durable = true;
  LogWriter log(log_options(), notes);
  CO_OK(co_await open_log(log));
  NotedWrite large[2];
  submit(log, large[0], "large0", noise(1, 2'500'000));
  submit(log, large[1], "large1", noise(2, 300'000));
  CHECK(!large[0].logged);
  const uint64_t floor = log.position_floor();
  std::vector<NotedWrite> small(60);
  uint64_t before_large = 0;
  for (size_t i = 0; i < small.size(); ++i) {
    submit(log, small[i], fmt::format("small{}", i), noise(100 + i, 50));
    co_await sleep_for(microseconds(200));
    before_large += small[i].logged && !large[0].logged;
    if (!large[0].logged) CHECK(log.position_floor() == floor);
  }
  CO_OK(co_await log.close());
  CHECK(before_large > 0);  // small ones don't wait for a large one's end
  CHECK(large[0].status == Errc::ok);
  CHECK(large[0].seq < large[1].seq);
  CHECK(notes.completions == small.size() + 2);
}

TEST_CASE("a large record goes in by fragments, small ones overtake it") {
  ShardRig rig(2, {.write = {milliseconds(1), milliseconds(2)}});
  rig.live(large_and_small(rig.disk()));
}

Task<void> idle(sim::Disk& disk) {
  Notes notes(disk);
  LogWriter log(log_options(), notes);
  CO_OK(co_await open_log(log));
  co_await sleep_for(seconds(1));
  CHECK(log.stats().frames == 0);  // nothing to promise
  for (uint64_t round = 1; round <= 3; ++round) {
    NotedWrite write;
    submit(log, write, "key", "value");
    co_await sleep_for(milliseconds(50));
    CHECK(write.completed);
    CHECK(log.stats().frames == 2 * round - 1);
    co_await sleep_for(seconds(2));
    CHECK(log.stats().frames == 2 * round);  // the promise, once
    CHECK(log.synced_position() == log.position());
  }
  CO_OK(co_await log.close());
}

TEST_CASE("an idle log promises its last record, once") {
  ShardRig rig(3);
  rig.live(idle(rig.disk()));
}

// What nobody syncs nobody can vouch for: an idle log stays as it is.
Task<void> idle_without_syncs(sim::Disk& disk, Durability durability) {
  Notes notes(disk);
  LogWriterOptions options = log_options();
  options.durability = durability;
  options.sync_interval = seconds(5);
  LogWriter log(options, notes);
  CO_OK(co_await open_log(log));
  NotedWrite write;
  submit(log, write, "key", "value");
  co_await sleep_for(seconds(4));
  CHECK(log.stats().frames == 1);
  co_await sleep_for(seconds(60));
  CHECK(log.stats().frames == (durability == Durability::interval ? 2 : 1));
  CO_OK(co_await log.close());
}

TEST_CASE("an idle log that is not synced, or rarely, writes no frames for ever") {
  for (const Durability durability : {Durability::interval, Durability::none}) {
    ShardRig rig(3);
    rig.live(idle_without_syncs(rig.disk(), durability));
  }
}

Task<void> gather(sim::Disk& disk, Durability durability) {
  Notes notes(disk);
  LogWriterOptions options = log_options();
  options.durability = durability;
  options.sync_interval = seconds(100);
  LogWriter log(options, notes);
  CO_OK(co_await open_log(log));
  const auto written = [&](const std::string& bytes) {
    return disk.content("log/000001.log").find(bytes) != std::string::npos;
  };
  // One by one, each in a tick of its own: answered at once, and together in few frames.
  std::vector<NotedWrite> writes(100);
  for (size_t i = 0; i < writes.size(); ++i) {
    submit(log, writes[i], fmt::format("key{}", i), noise(i, 50));
    CHECK(writes[i].completed);
    CHECK(notes.committed_seq == writes[i].seq);
    co_await sleep_for(microseconds(50));
  }
  CHECK(log.stats().frames >= 2);
  CHECK(log.stats().frames <= 8);
  // Nothing more comes: the rest goes out all the same.
  co_await sleep_for(milliseconds(10));
  for (const NotedWrite& write : writes) CHECK(written(write.value));
  // Enough for a write, or more than a frame holds, waits for nothing.
  const uint64_t frames = log.stats().frames;
  NotedWrite full[2];
  for (unsigned i = 0; i < 2; ++i) submit(log, full[i], "full", noise(i, 40'000));
  NotedWrite large;
  submit(log, large, "large", noise(7, 2'500'000));
  CHECK(!large.completed);
  co_await sleep_for(microseconds(10));
  CHECK(log.stats().frames == frames + 1);
  co_await sleep_for(milliseconds(50));
  CHECK(large.completed);
  CHECK(large.status == Errc::ok);
  // What is gathered at the end is written before the close.
  NotedWrite last;
  submit(log, last, "last", noise(8, 50));
  CO_OK(co_await log.close());
  CHECK(notes.is_durable(last.value));
  CHECK(notes.completions == writes.size() + 4);
}

TEST_CASE("where nobody waits for the disk, writes are answered at once and frames gather") {
  for (const Durability durability : {Durability::interval, Durability::none}) {
    ShardRig rig(6, {.write = {microseconds(60), microseconds(100)}});
    rig.live(gather(rig.disk(), durability));
  }
}

Task<void> recycle(sim::Disk& disk) {
  Notes notes(disk);
  LogWriterOptions options = log_options();
  options.segment_bytes_max = 1u << 20;
  LogWriter log(options, notes);
  CO_OK(co_await open_log(log));
  for (unsigned round = 0; round < 30; ++round) {
    std::vector<NotedWrite> writes(4);
    for (NotedWrite& write : writes) submit(log, write, "key", noise(round, 200'000));
    co_await sleep_for(milliseconds(100));
    for (const NotedWrite& write : writes) CHECK(write.completed);
    log.release_before(log.position());  // all of it was flushed
    CHECK(log.disk_bytes() < 8u << 20);
  }
  std::vector<DirEntry> entries;
  disk.list_dir("log", entries);
  CHECK(entries.size() < 8);
  uint64_t bytes = 0;
  for (const DirEntry& entry : entries) bytes += entry.size_bytes;
  CHECK(bytes == log.disk_bytes());
  CO_OK(co_await log.close());
}

TEST_CASE("released segments are used again, under new names") {
  ShardRig rig(4);
  rig.live(recycle(rig.disk()));
}

// What an earlier life left, of which half was flushed.
Task<void> open_without_room(sim::Disk& disk) {
  CO_OK(co_await make_directories("log"));
  const std::string old_bytes = noise(1, 1u << 20);
  auto old = co_await File::open("log/000001.log", flag_write | flag_create);
  CO_OK(old);
  CO_OK(co_await old->write_full(0, old_bytes));
  CO_OK(co_await old->close());
  disk.plan({.code = OpCode::allocate, .path_part = ".log", .error = ENOSPC, .times = UINT32_MAX});

  Notes notes(disk);
  notes.check_durable = true;
  LogWriterOptions options = log_options();
  options.position = 8192;
  options.segment_id_next = 2;
  LogWriter log(options, notes);
  CO_OK(co_await log.open({{.id = 1, .base = 0, .size_bytes = 1u << 20}}, {}));
  CHECK(log.waits_for_space());
  log.release_before(4096);  // not all of the old segment
  NotedWrite write;
  submit(log, write, "key", "value that waits for a segment");
  co_await sleep_for(seconds(5));
  CHECK(write.logged);
  CHECK_FALSE(write.completed);
  disk.clear_plans();
  co_await sleep_for(seconds(5));
  CHECK_FALSE(log.waits_for_space());
  CHECK(write.completed);
  CHECK(write.status == Errc::ok);
  CHECK(disk.content("log/000001.log") == old_bytes);
  log.release_before(8192);
  NotedWrite more[8];
  for (NotedWrite& each : more) {  // needs a second segment: the old one is free now
    submit(log, each, "key", noise(2, 200'000));
    co_await sleep_for(milliseconds(100));
    CHECK(each.completed);
  }
  CO_OK(co_await log.close());
}

TEST_CASE("a log without room for its first segment keeps the old ones and goes on with room") {
  ShardRig rig(1);
  CHECK(rig.live(open_without_room(rig.disk())) == LifeEnd::finished);
}

Task<void> fails(sim::Disk& disk, bool with_large) {
  Notes notes(disk);
  LogWriter log(log_options(), notes);
  CO_OK(co_await open_log(log));
  disk.plan({.code = OpCode::write, .path_part = ".log", .nth = 3, .error = EIO, .times = 100});
  unsigned unknown = 0;
  std::vector<NotedWrite> writes(20);
  NotedWrite large;
  for (size_t i = 0; i < writes.size() && !log.failed(); ++i) {
    submit(log, writes[i], fmt::format("key{}", i), "value");
    if (i == 4 && with_large) submit(log, large, "large", noise(1, 3'000'000));
    co_await sleep_for(milliseconds(1));
  }
  CHECK(log.failed());
  CAPTURE(notes.failure);
  CHECK(notes.failure.find("log/00000") != std::string::npos);
  for (const NotedWrite& write : writes) {
    if (write.key.empty()) continue;
    CHECK(write.completed);
    if (write.status == Errc::ok) {
      CHECK(write.seq <= notes.committed_seq);
    } else if (write.status == Errc::io) {
      ++unknown;
    } else {
      CHECK(write.status == Errc::read_only);
    }
  }
  if (!with_large) CHECK(unknown > 0);  // of the frame that failed
  if (!large.key.empty()) CHECK(large.status == Errc::read_only);
  disk.clear_plans();
  const Result<void> closed = co_await log.close();
  CHECK(!closed);
}

TEST_CASE("a log that fails answers everything that waits, once, and takes nothing more") {
  for (const bool with_large : {false, true}) {
    ShardRig rig(5);
    rig.live(fails(rig.disk(), with_large));
  }
}

}  // namespace
}  // namespace gyre::test
