// Every bug that can be planted (store/test_faults.hpp, and a disk that lies), and what catches it.
// A checker that would pass over one of them would pass over the real one too.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <functional>

#include "../sim/crash_sweep.hpp"
#include "log_image.hpp"
#include "model_rig.hpp"
#include "order_rig.hpp"
#include "removal_support.hpp"
#include "store/test_faults.hpp"
#include "table_support.hpp"

namespace gyre::test {
namespace {

// --- checkers: "" or what they found -------------------------------------------------------------

std::string crash_sweep_finds(CrashSweep sweep) {
  sweep.ends_at_first = true;
  for (sweep.seed = 1; sweep.seed <= 3 && sweep.failures.empty(); ++sweep.seed) {
    sweep_points(sweep, sweep.seed == 1 ? 5 : 1);
  }
  if (sweep.failures.empty()) return "";
  return fmt::format("{} crash points: {}", sweep.cases, sweep.failures.front());
}
std::string log_crashes() {
  return crash_sweep_finds({.script = &log_script});
}
std::string merge_crashes() {
  return crash_sweep_finds({.script = &merge_script});
}

std::string overlap_crashes() {
  return crash_sweep_finds({.script = &overlap_script});
}
std::string modify_crashes() {
  return crash_sweep_finds({.script = &modify_script});
}

std::string value_crashes() {
  return crash_sweep_finds({.script = &value_script});
}

std::string log_kills() {
  CrashSweep sweep{.durability = Durability::none, .ends_at_first = true};
  sweep_kills(sweep, 100);
  if (sweep.failures.empty()) return "";
  return fmt::format("{} kills: {}", sweep.cases, sweep.failures.front());
}
std::string merge_events() {
  CrashSweep sweep{.script = &merge_script, .ends_at_first = true};
  sweep_events(sweep);
  if (sweep.failures.empty()) return "";
  return fmt::format("{} events: {}", sweep.cases, sweep.failures.front());
}

std::string model() {
  ModelCounts counts;
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    std::string wrong = run_model(seed, 2'000, counts);
    if (!wrong.empty()) return "the model: " + wrong;
  }
  return "";
}

std::string orders() {
  OrderCounts counts;
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    std::string wrong = run_order(seed, counts);
    if (!wrong.empty()) return "the orders: " + wrong;
  }
  return "";
}

std::string table_flips() {
  TestRandom random(5);
  const auto entries = random_entries(random, 200, 8, 100);
  TableOptions options;
  options.block_bytes_target = 500;
  std::string file = build_table(options, entries);
  for (size_t bit = 0; bit < file.size() * 8; bit += 31) {
    file[bit / 8] = static_cast<char>(file[bit / 8] ^ (1 << (bit % 8)));
    const auto table = TableReader::open(file);
    const auto all = table ? table->scan() : Result<std::vector<OwnedEntry>>(fail(table.error()));
    file[bit / 8] = static_cast<char>(file[bit / 8] ^ (1 << (bit % 8)));
    if (all && *all != entries) return fmt::format("bit flips: bit {} of a table", bit);
  }
  return "";
}

std::string log_flips() {
  testing::LogImage log;
  log.add_segment(32u << 10);
  for (uint64_t i = 0; i < 5; ++i) {
    WriteRecord record;
    record.version = {i + 1, 1};
    record.key = "key";
    record.value = "value";
    log.frame({record});
  }
  for (size_t frame = 0; frame + 1 < log.frames.size(); ++frame) {
    char& byte = log.segments[0].bytes[log.frames[frame].offset + 10];
    byte = static_cast<char>(byte ^ 1);
    const testing::ReadBack back = testing::read_back(log.segments);
    byte = static_cast<char>(byte ^ 1);
    if (back.end) return fmt::format("bit flips: frame {} of a log", frame);
  }
  return "";
}

// --- the list ------------------------------------------------------------------------------------

struct Bug {
  const char* name;
  bool StoreTestFaults::* fault;
  uint8_t disk = sim::skip_nothing;  // or a lie of the disk
  std::string (*catches)();
};

std::string lying_disk(uint8_t lie) {
  return crash_sweep_finds({.disk = {.skip_durability = lie}});
}

const Bug bugs[] = {
    {"writes are acknowledged before their frame is written",
     &StoreTestFaults::acknowledge_before_written, 0, log_crashes},
    {"readers see a write before it is durable", &StoreTestFaults::show_before_durable, 0,
     log_crashes},
    {"frames are written without a sync", &StoreTestFaults::skip_log_sync, 0, log_crashes},
    {"frames go to a segment whose name is not durable",
     &StoreTestFaults::skip_segment_directory_sync, 0, log_crashes},
    {"a frame on the disk commits those before it, which are not",
     &StoreTestFaults::trust_later_frame, 0, overlap_crashes},
    {"a start takes a whole frame behind a lost one", &StoreTestFaults::read_behind_gap, 0,
     overlap_crashes},
    {"a start does not sync what it replays", &StoreTestFaults::trust_replayed_frames, 0,
     log_kills},
    {"a flush claims the next memtable's part of the log", &StoreTestFaults::flush_claims_log, 0,
     model},
    {"a table is installed before it is durable", &StoreTestFaults::install_before_table_durable, 0,
     log_crashes},
    {"a table is installed before its name is durable", &StoreTestFaults::skip_table_directory_sync,
     0, log_crashes},
    {"a manifest edit is not synced", &StoreTestFaults::skip_manifest_sync, 0, log_crashes},
    {"a start uses file numbers again", &StoreTestFaults::reuse_file_numbers, 0, merge_crashes},
    {"merged tables are removed before the edit is durable", &StoreTestFaults::remove_inputs_early,
     0, merge_events},
    {"a value file is removed while tables name it", &StoreTestFaults::drop_values_early, 0,
     value_crashes},
    {"a removed file loses its bytes in checkpoints, too", &StoreTestFaults::cut_linked_files, 0,
     linked_file_is_cut},
    {"the clock is forgotten at open", &StoreTestFaults::forget_clock, 0, log_crashes},
    {"a merge takes the older version", &StoreTestFaults::merge_takes_older, 0, model},
    {"tombstones are dropped too early", &StoreTestFaults::drop_tombstones_early, 0, model},
    {"expired values are dropped and show older ones", &StoreTestFaults::drop_expired_early, 0,
     model},
    {"a scan sees writes that came after it", &StoreTestFaults::scan_sees_later_writes, 0, orders},
    {"increments are made of what readers see", &StoreTestFaults::modify_sees_visible, 0,
     modify_crashes},
    {"a key is written while a modify of it reads", &StoreTestFaults::modify_holds_nobody, 0,
     model},
    {"a modify that writes nothing is answered at once", &StoreTestFaults::leave_before_durable, 0,
     modify_crashes},
    {"checksums of blocks are not looked at", &StoreTestFaults::trust_blocks, 0, table_flips},
    {"damage to acknowledged frames passes for a torn tail", &StoreTestFaults::ignore_promises, 0,
     log_flips},
    {"the disk does not keep DSYNC writes", nullptr, sim::skip_dsync, nullptr},
    {"the disk does not keep what fsync promised", nullptr, sim::skip_fsync, nullptr},
    {"the disk does not keep synced names", nullptr, sim::skip_dir_fsync, nullptr},
};

TEST_CASE("planted bugs are caught") {
  for (const auto& [name, catches] : std::vector<std::pair<const char*, std::string (*)()>>{
           {"flips of a table", table_flips}, {"flips of a log", log_flips}}) {
    CAPTURE(name);
    CHECK(catches() == "");  // the others have suites of their own
  }
  size_t caught = 0;
  for (const Bug& bug : bugs) {
    const std::string name = bug.name;
    if (bug.fault != nullptr) store_test_faults.*bug.fault = true;
    const std::string found = bug.fault != nullptr ? bug.catches() : lying_disk(bug.disk);
    if (bug.fault != nullptr) store_test_faults.*bug.fault = false;
    CHECK_MESSAGE(!found.empty(), name);
    if (found.empty()) continue;
    ++caught;
    MESSAGE(name << "\n    " << found);
  }
  MESSAGE(fmt::format("planted bugs caught: {} of {}", caught, std::size(bugs)));
}

TEST_CASE("every fault that the store knows is in the list") {
  CHECK(std::size(bugs) == sizeof(StoreTestFaults) + 3);
  for (size_t i = 0; i < sizeof(StoreTestFaults); ++i) {
    bool listed = false;
    StoreTestFaults faults;
    reinterpret_cast<bool*>(&faults)[i] = true;
    for (const Bug& bug : bugs) listed |= bug.fault != nullptr && faults.*bug.fault;
    CHECK_MESSAGE(listed, "fault " << i);
  }
}

}  // namespace
}  // namespace gyre::test
