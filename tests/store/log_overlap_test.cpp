// Several frames of the log in flight: when one goes beside another, in which order they are
// answered, what is left of them after errors and power cuts.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cerrno>
#include <deque>

#include "log_image.hpp"
#include "log_writer_rig.hpp"

namespace gyre::test {
namespace {

// Of the log's writes from now on.
void set_latency(sim::Disk& disk, Nanos min, Nanos max) {
  disk.options.sync = {min, max};
}
void set_latency(sim::Disk& disk, Nanos time) {
  set_latency(disk, time, time);
}

struct Overlap {
  Overlap(sim::Disk& on, LogWriterOptions options) : disk(on), notes(on), log(options, notes) {}
  sim::Disk& disk;
  Notes notes;
  LogWriter log;
  NotedWrite first, second, third, open;
};

LogWriterOptions impatient_options() {
  LogWriterOptions options = log_options();
  options.frame_patience = milliseconds(7);
  return options;
}

// The first frame is in flight until 20 ms, the second from 7 ms to `second_lands`, what comes then
// is not sent before 21 ms.
Task<void> send_two(Overlap& on, Nanos second_lands) {
  CO_OK(co_await open_log(on.log));
  co_await sleep_for(milliseconds(300));  // the spare segment is made
  const Nanos begin = Reactor::current().now();
  set_latency(on.disk, milliseconds(20));
  submit(on.log, on.first, "first", noise(1, 100));
  co_await sleep_for(milliseconds(1));
  submit(on.log, on.second, "second", noise(2, 100));
  CHECK(on.log.stats().frames == 1);
  set_latency(on.disk, second_lands - milliseconds(7));
  co_await sleep_for(begin + microseconds(7'500) - Reactor::current().now());
  CHECK(on.log.stats().frames == 2);
  CHECK(on.log.stats().frames_beside == 1);
  submit(on.log, on.open, "open", noise(3, 100));
  set_latency(on.disk, milliseconds(1));
}

Task<void> lands_first(sim::Disk& disk) {
  Overlap on(disk, impatient_options());
  on.notes.check_durable = true;
  co_await send_two(on, milliseconds(9));
  co_await sleep_for(milliseconds(3));
  // The second one is on the disk. Nobody is told, since the first one is not.
  CHECK(on.notes.is_durable(on.second.value));
  CHECK_FALSE(on.notes.is_durable(on.first.value));
  CHECK(on.notes.completions == 0);
  CHECK(on.notes.committed_seq == 0);
  CHECK(on.log.synced_position() == 0);
  co_await sleep_for(milliseconds(40));
  CHECK(on.notes.completions == 3);
  CHECK(on.first.place < on.second.place);
  CHECK(on.second.place < on.open.place);
  CHECK(on.log.synced_position() == on.log.position());
  CO_OK(co_await on.log.close());
}

TEST_CASE("a frame that lands before an older one is answered after it") {
  ShardRig rig(1);
  rig.live(lands_first(rig.disk()));
}

// --- when ----------------------------------------------------------------------------------------

Task<void> count_frames(sim::Disk& disk) {
  Notes notes(disk);
  LogWriter log(log_options(), notes);
  CO_OK(co_await open_log(log));
  co_await sleep_for(milliseconds(300));
  set_latency(disk, milliseconds(200));
  const Nanos begin = Reactor::current().now();
  std::deque<NotedWrite> writes;
  const auto frames_at = [&](int64_t ms) -> Task<uint64_t> {
    while (Reactor::current().now() < begin + milliseconds(ms)) {
      submit(log, writes.emplace_back(), "key", noise(writes.size(), 100));
      co_await sleep_for(microseconds(100));
    }
    co_return log.stats().frames;
  };
  CO_CHECK(co_await frames_at(4) == 1);
  CO_CHECK(co_await frames_at(6) == 2);
  CO_CHECK(co_await frames_at(14) == 2);
  CO_CHECK(co_await frames_at(17) == 3);
  CO_CHECK(co_await frames_at(34) == 3);
  CO_CHECK(co_await frames_at(38) == 4);
  CO_CHECK(co_await frames_at(190) == 4);
  CHECK(notes.completions == 0);
  set_latency(disk, milliseconds(1));
  co_await sleep_for(milliseconds(300));
  CHECK(notes.completions == writes.size());
  CO_OK(co_await log.close());
}

TEST_CASE("of a long stall few frames are made, with growing gaps") {
  ShardRig rig(2);
  rig.live(count_frames(rig.disk()));
}

Task<void> usual_times(sim::Disk& disk, Nanos min, Nanos max, unsigned learns) {
  Notes notes(disk);
  LogWriter log(log_options(), notes);
  CO_OK(co_await open_log(log));
  co_await sleep_for(milliseconds(300));
  set_latency(disk, min, max);
  std::deque<NotedWrite> writes;
  uint64_t beside = 0;
  while (log.stats().frames < 500) {
    if (log.stats().frames < learns) beside = log.stats().frames_beside;
    submit(log, writes.emplace_back(), "key", "value");
    co_await sleep_for(microseconds(200));
  }
  CHECK(log.stats().frames_beside == beside);
  // One that takes longer than any: another goes beside it.
  set_latency(disk, milliseconds(1'000));
  for (const Nanos end = Reactor::current().now() + 40 * max; Reactor::current().now() < end;) {
    submit(log, writes.emplace_back(), "key", "value");
    co_await sleep_for(microseconds(200));
  }
  CHECK(log.stats().frames_beside > beside);
  CO_OK(co_await log.close());
  CHECK(notes.completions == writes.size());
}

TEST_CASE("where the disk is as slow as ever, no frame goes beside another") {
  ShardRig fast(3);
  fast.live(usual_times(fast.disk(), microseconds(300), microseconds(4'000), 0));
  ShardRig slow(4);
  slow.live(usual_times(slow.disk(), milliseconds(10), milliseconds(30), 60));
}

Task<void> full_frames(sim::Disk& disk, Durability durability, bool small_first) {
  Notes notes(disk);
  LogWriterOptions options = log_options();
  options.durability = durability;
  options.sync_interval = seconds(100);
  options.segment_bytes_min = 8u << 20;
  LogWriter log(options, notes);
  CO_OK(co_await open_log(log));
  co_await sleep_for(milliseconds(300));
  set_latency(disk, milliseconds(3));
  disk.options.write = {milliseconds(3), milliseconds(3)};
  NotedWrite small;
  if (small_first) {
    submit(log, small, "key", "value");
    co_await sleep_for(milliseconds(2));
    CHECK(log.stats().frames == 1);
  }
  std::vector<NotedWrite> writes(50);
  for (size_t i = 0; i < writes.size(); ++i) submit(log, writes[i], "key", noise(i, 100'000));
  co_await sleep_for(microseconds(500));
  CHECK(log.stats().frames == 2);  // 5 MB: the third one is full, too, and waits
  CHECK(log.stats().frames_beside == 1);
  CHECK(log.stats().written_bytes > 900'000);
  co_await sleep_for(milliseconds(60));
  CHECK(notes.completions == writes.size() + small_first);
  CHECK(log.stats().frames <= 8);
  CO_OK(co_await log.close());
}

TEST_CASE("a full frame goes beside one in flight, since it can't grow") {
  for (const Durability durability : {Durability::group, Durability::none}) {
    for (const bool small_first : {false, true}) {
      ShardRig rig(5);
      rig.live(full_frames(rig.disk(), durability, small_first));
    }
  }
}

// A small record waits for the frames in flight, so no pieces of large ones are sent ahead of it.
Task<void> pieces_wait(sim::Disk& disk) {
  Notes notes(disk);
  LogWriterOptions options = log_options();
  options.segment_bytes_min = 8u << 20;
  LogWriter log(options, notes);
  CO_OK(co_await open_log(log));
  co_await sleep_for(milliseconds(300));
  set_latency(disk, milliseconds(3));
  NotedWrite large;
  NotedWrite small;
  submit(log, large, "large", noise(1, 4'500'000));
  co_await sleep_for(milliseconds(1));
  CHECK(log.stats().frames == 1);
  submit(log, small, "small", "value");
  CHECK(small.logged);
  co_await sleep_for(milliseconds(6));
  CHECK(small.completed);
  CHECK_FALSE(large.completed);
  CO_OK(co_await log.close());
  CHECK(large.status == Errc::ok);
}

TEST_CASE("pieces of a large record don't go beside a frame") {
  ShardRig rig(6);
  rig.live(pieces_wait(rig.disk()));
}

Task<void> next_segment(sim::Disk& disk) {
  LogWriterOptions options = impatient_options();
  options.segment_bytes_max = 1u << 20;
  Overlap on(disk, options);
  CO_OK(co_await open_log(on.log));
  co_await sleep_for(milliseconds(300));
  NotedWrite before[4];
  for (NotedWrite& write : before) submit(on.log, write, "key", noise(9, 240'000));
  co_await sleep_for(milliseconds(30));
  CHECK(before[3].completed);
  const uint64_t frames = on.log.stats().frames;
  set_latency(disk, milliseconds(20));
  submit(on.log, on.first, "first", noise(1, 100));  // the last that fits
  co_await sleep_for(milliseconds(1));
  submit(on.log, on.second, "second", noise(2, 100'000));
  co_await sleep_for(milliseconds(15));
  CHECK(on.log.stats().frames == frames + 1);
  co_await sleep_for(milliseconds(45));
  CHECK(on.second.completed);
  CHECK(on.log.stats().frames == frames + 2);
  CHECK(on.log.stats().frames_beside == 0);
  CHECK(disk.content("log/000002.log").find(on.second.value) != std::string::npos);
  CO_OK(co_await on.log.close());
}

TEST_CASE("the first frame of a segment waits for everything before it") {
  ShardRig rig(7);
  rig.live(next_segment(rig.disk()));
}

// --- errors --------------------------------------------------------------------------------------

Task<void> expect_failure(Overlap& on) {
  CHECK(on.log.failed());
  // They may be on the disk, or one of them may; what was not sent is not.
  CHECK(on.first.status == Errc::io);
  CHECK(on.second.status == Errc::io);
  CHECK(on.open.status == Errc::read_only);
  CHECK(on.notes.completions == 3);
  CHECK(on.first.place < on.second.place);
  CHECK(on.second.place < on.open.place);
  CHECK(on.notes.committed_seq == 0);
  on.disk.clear_plans();
  const uint64_t frames = on.log.stats().frames;
  co_await sleep_for(milliseconds(200));
  CHECK(on.log.stats().frames == frames);
  CHECK(on.notes.completions == 3);
  CHECK(!co_await on.log.close());
}

enum class Fails : uint8_t { first, second, first_after_second };

Task<void> one_fails(sim::Disk& disk, Fails fails) {
  Overlap on(disk, impatient_options());
  co_await send_two(on, milliseconds(fails == Fails::first ? 30 : 9));
  disk.plan({.code = OpCode::write,
             .path_part = ".log",
             .nth = fails == Fails::first_after_second ? 2u : 1u,
             .error = EIO});
  co_await sleep_for(milliseconds(3));
  CHECK(on.log.failed() == (fails == Fails::second));
  CHECK(on.notes.completions == (fails == Fails::second ? 3 : 0));
  co_await sleep_for(milliseconds(17));
  co_await expect_failure(on);
}

TEST_CASE("when one of two frames in flight fails nothing of both is answered as written") {
  for (const Fails fails : {Fails::first, Fails::second, Fails::first_after_second}) {
    CAPTURE(static_cast<int>(fails));
    ShardRig rig(8);
    rig.live(one_fails(rig.disk(), fails));
  }
}

Task<void> close_with_two(sim::Disk& disk, bool fails) {
  Overlap on(disk, impatient_options());
  on.notes.check_durable = !fails;
  co_await send_two(on, milliseconds(30));
  if (fails) disk.plan({.code = OpCode::write, .path_part = ".log", .error = EIO});
  const Result<void> closed = co_await on.log.close();
  CHECK(closed.has_value() == !fails);
  CHECK(on.notes.completions == 3);
  if (fails) co_return;
  CHECK(on.open.status == Errc::ok);
  CHECK(on.log.synced_position() == on.log.position());
}

TEST_CASE("a close waits for everything in flight") {
  for (const bool fails : {false, true}) {
    ShardRig rig(9);
    rig.live(close_with_two(rig.disk(), fails));
  }
}

// --- the bytes -----------------------------------------------------------------------------------

struct Random {
  uint64_t seed;
  std::deque<NotedWrite> writes;
  LogStats stats;
};

Task<void> write_at_random(sim::Disk& disk, Random& run) {
  sim::Prng prng(run.seed, "writes");
  Notes notes(disk);
  LogWriterOptions options = log_options();
  options.frame_patience = milliseconds(1);
  options.segment_bytes_max = 2u << 20;
  LogWriter log(options, notes);
  CO_OK(co_await open_log(log));
  for (unsigned i = 0; i < 400; ++i) {
    const uint64_t dice = prng.below(100);
    const size_t size = dice == 0   ? prng.below(900'000)
                        : dice < 20 ? prng.below(120'000)
                                    : prng.below(2'000);
    submit(log, run.writes.emplace_back(), fmt::format("key{}", i), noise(prng.next(), size));
    if (prng.one_in(3)) {
      co_await sleep_for(microseconds(static_cast<int64_t>(prng.below(3'000))));
    }
  }
  CO_OK(co_await log.close());
  CHECK(notes.completions == run.writes.size());
  run.stats = log.stats();
}

TEST_CASE("in whatever order frames land, the log reads back as it was written") {
  uint64_t beside = 0;
  for (uint64_t seed = 1; seed <= scaled(20, 5); ++seed) {
    CAPTURE(seed);
    sim::DiskOptions disk;
    disk.sync = {microseconds(100), milliseconds(12)};
    disk.short_write_ppm = seed % 3 == 0 ? 100'000 : 0;
    ShardRig rig(seed, disk);
    Random run{.seed = seed};
    rig.live(write_at_random(rig.disk(), run));
    beside += run.stats.frames_beside;
    std::vector<DirEntry> entries;
    rig.disk().list_dir("log", entries);
    std::vector<testing::SegmentImage> segments;
    for (const DirEntry& entry : entries) {
      std::string bytes = rig.disk().durable_content("log/" + entry.name);
      segments.push_back({std::strtoull(entry.name.c_str(), nullptr, 10), std::move(bytes), 0});
    }
    std::sort(segments.begin(), segments.end(),
              [](const auto& a, const auto& b) { return a.id < b.id; });
    std::vector<std::string> expected(run.writes.size());
    for (const NotedWrite& write : run.writes) {
      expected[write.seq - 1] = testing::LogImage::describe(
          write.seq, Kind::value, write.record.version, 0, write.key, write.value);
    }
    const testing::ReadBack back = testing::read_back(segments, {.salt = 3});
    REQUIRE(back.end);
    CHECK(back.records == expected);
  }
  MESSAGE(fmt::format("frames beside others: {}", beside));
  CHECK(beside > 100);
}

// --- power cuts ----------------------------------------------------------------------------------

struct Cut {
  ShardOptions options;
  size_t next_value_bytes = 0;  // of what is written in the place of the lost frame
  bool goes_on = false;         // the life after the cut writes
};

Task<void> put_later(Shard& shard, std::string key, std::string value) {
  static_cast<void>(co_await put(shard, std::move(key), std::move(value)));
}

// The second of two frames lands, then the power is cut.
Task<void> life_with_two_frames(sim::Disk& disk, Cut& cut) {
  ShardHome home;
  auto shard = co_await Shard::open(cut.options, home.context());
  CO_OK(shard);
  CO_OK(co_await put(**shard, "kept", "1"));
  co_await sleep_for(milliseconds(300));
  set_latency(disk, milliseconds(20));
  Scope scope(co_await current_stop(), "writers");
  scope.spawn(put_later(**shard, "lost", noise(1, 9'000)));
  co_await sleep_for(milliseconds(1));
  scope.spawn(put_later(**shard, "stale", noise(2, 9'000)));
  set_latency(disk, milliseconds(2));
  co_await sleep_for(milliseconds(3));
  CHECK((*shard)->log_stats().frames_beside == 1);
  CHECK((*shard)->visible_seq() == 1);
  disk.stop_at(disk.write_points() + 1, sim::CrashPhase::before);  // the first one's landing
  co_await scope.join();
  static_cast<void>(co_await (*shard)->close(false));
}

// What is durable is all that a check of the log looks at, though more lies on the disk.
Task<void> verify_meanwhile(sim::Disk& disk) {
  ShardHome home;
  ShardOptions options = small_shard_options();
  options.log_frame_patience = milliseconds(1);
  auto shard = co_await Shard::open(options, home.context());
  CO_OK(shard);
  CO_OK(co_await put(**shard, "kept", "1"));
  co_await sleep_for(milliseconds(300));
  set_latency(disk, milliseconds(500));
  Scope scope(co_await current_stop(), "writers");
  scope.spawn(put_later(**shard, "first", noise(1, 9'000)));
  co_await sleep_for(milliseconds(1));
  scope.spawn(put_later(**shard, "second", noise(2, 9'000)));
  set_latency(disk, milliseconds(2));
  co_await sleep_for(milliseconds(10));
  CHECK((*shard)->log_stats().frames_beside == 1);
  const Result<VerifyReport> report = co_await (*shard)->verify();
  CO_OK(report);
  CHECK(report->damage_count == 0);
  CHECK((*shard)->visible_seq() == 1);
  co_await scope.join();
  CHECK((*shard)->visible_seq() == 3);
  CO_OK(co_await (*shard)->close(false));
}

TEST_CASE("a check of the log while a frame has landed before an older one finds no damage") {
  ShardRig rig(12);
  CHECK(rig.live(verify_meanwhile(rig.disk())) == LifeEnd::finished);
}

Task<void> life_that_looks(Cut& cut, Contents& expected) {
  ShardHome home;
  auto shard = co_await Shard::open(cut.options, home.context());
  CO_OK(shard);
  const auto found = co_await scan_all(**shard);
  CO_OK(found);
  CHECK(*found == expected);
  if (cut.goes_on) {
    expected["next"] = noise(3, cut.next_value_bytes);
    CO_OK(co_await put(**shard, "next", expected["next"]));
  }
  static_cast<void>(co_await (*shard)->close(false));
}

// A frame of 12 KiB was lost and one behind it was not; what comes next is shorter, as long, longer.
TEST_CASE("a whole frame behind a lost one is never seen again, whatever takes its place") {
  for (const size_t next_value_bytes : {100u, 9'000u, 30'000u}) {
    for (unsigned cuts = 0; cuts < 3; ++cuts) {
      CAPTURE(next_value_bytes);
      CAPTURE(cuts);
      ShardRig rig(11);
      Cut cut{.options = small_shard_options(), .next_value_bytes = next_value_bytes};
      cut.options.log_frame_patience = milliseconds(1);
      CHECK(rig.live(life_with_two_frames(rig.disk(), cut), sim::CrashMode::lost) ==
            LifeEnd::power_cut);
      set_latency(rig.disk(), milliseconds(1));
      rig.disk().stop_at(0, sim::CrashPhase::before);
      Contents expected{{"kept", "1"}};
      const std::string first = rig.disk().content("shard/000001.log");
      CHECK(first.find(noise(1, 9'000).substr(0, 1'000)) == std::string::npos);
      CHECK(first.find(noise(2, 9'000)) != std::string::npos);
      // Again and again without a write, then with one that is answered.
      for (unsigned i = 0; i < cuts; ++i) {
        CHECK(rig.live(life_that_looks(cut, expected)) == LifeEnd::finished);
        rig.cut_power(sim::CrashMode::lost);
      }
      cut.goes_on = true;
      CHECK(rig.live(life_that_looks(cut, expected)) == LifeEnd::finished);
      rig.cut_power(sim::CrashMode::lost);
      cut.goes_on = false;
      CHECK(rig.live(life_that_looks(cut, expected)) == LifeEnd::finished);
    }
  }
}

}  // namespace
}  // namespace gyre::test
