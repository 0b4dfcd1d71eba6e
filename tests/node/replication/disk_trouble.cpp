#include "disk_trouble.hpp"

#include <algorithm>
#include <cerrno>

namespace gyre::test {

namespace {

constexpr uint16_t admin_port = 18080;
constexpr Nanos admin_patience = seconds(5);
constexpr Nanos rebuild_patience = seconds(60);

enum class Cure : uint8_t {
  none,           // it goes on by itself, unless a shard has become read-only
  restart,        // whether or not one has
  new_directory,  // what is damaged stays damaged
};

}  // namespace

struct DiskKind {
  const char* name;
  const char* counted;    // as the simulation names it
  const char* path_part;  // of the files that it strikes
  Cure cure;
  void (*begin)(sim::Disk& disk, sim::Prng& prng, const char* path_part);
};

namespace {

template <uint32_t sim::DiskOptions::* chance>
void by_chance(sim::Disk& disk, sim::Prng& prng, const char* path_part) {
  constexpr uint32_t chances[] = {30'000, 300'000, 1'000'000};
  disk.options.*chance = chances[prng.below(3)];
  disk.options.path_part = path_part;
}

// Never always: who gets a part of a page each time does not come to the next one.
template <uint32_t sim::DiskOptions::* chance>
void now_and_then(sim::Disk& disk, sim::Prng& prng, const char*) {
  disk.options.*chance = prng.one_in(2) ? 30'000 : 400'000;
}

void fill_up(sim::Disk& disk, sim::Prng& prng, const char*) {
  const uint64_t used = disk.options.capacity_bytes - disk.free_bytes();
  disk.options.capacity_bytes = used + prng.below(64u << 10);
}

void slow_down(sim::Disk& disk, sim::Prng& prng, const char*) {
  disk.options.stall_ppm = prng.one_in(2) ? 1'000'000 : 100'000;
}

void fail_renames(sim::Disk& disk, sim::Prng& prng, const char* path_part) {
  disk.plan({.code = OpCode::rename,
             .path_part = path_part,
             .error = EIO,
             .times = 1 + static_cast<uint32_t>(prng.below(4))});
}

void nothing(sim::Disk&, sim::Prng&, const char*) {}

constexpr DiskKind damaged_table{"damaged table", "corrupted bytes read", "", Cure::new_directory,
                                 nothing};
constexpr DiskKind lost_directory{"lost directory", "", "", Cure::none, nothing};

using Options = sim::DiskOptions;
constexpr DiskKind kinds[] = {
    damaged_table,
    lost_directory,
    {"failed read", "read error", "", Cure::none, by_chance<&Options::read_error_ppm>},
    {"failed read of a table", "read error", ".table", Cure::none,
     by_chance<&Options::read_error_ppm>},
    {"bit rot in a read", "bit rot", ".table", Cure::none, by_chance<&Options::bit_rot_ppm>},
    {"failed write", "write error", "", Cure::restart, by_chance<&Options::write_error_ppm>},
    {"failed write of a log", "write error", ".log", Cure::restart,
     by_chance<&Options::write_error_ppm>},
    {"failed write of a table", "write error", ".table", Cure::restart,
     by_chance<&Options::write_error_ppm>},
    {"failed sync", "fsync error", "", Cure::restart, by_chance<&Options::fsync_error_ppm>},
    {"failed sync of a table", "fsync error", ".table", Cure::restart,
     by_chance<&Options::fsync_error_ppm>},
    {"failed rename", "other disk error", "", Cure::restart, fail_renames},
    {"full disk", "no space", "", Cure::none, fill_up},
    {"slow disk", "disk stall", "", Cure::none, slow_down},
    {"short read", "short read", "", Cure::none, now_and_then<&Options::short_read_ppm>},
    {"short write", "short write", "", Cure::none, now_and_then<&Options::short_write_ppm>},
};

}  // namespace

DiskTrouble::DiskTrouble(ClusterRig& rig, uint64_t seed, std::string_view only)
    : rig_(rig), prng_(seed, "disk trouble"), only_(only) {}

uint64_t DiskTrouble::count() const {
  const auto faults = rig_.world().faults();
  const auto at = faults.find(kind_->counted);
  return at == faults.end() ? 0 : at->second;
}

void DiskTrouble::step() {
  if (kind_ == nullptr) {
    if (prng_.one_in(3)) begin();
  } else if (--steps_left_ == 0) {
    end();
  }
}

void DiskTrouble::begin() {
  do {
    kind_ = &kinds[prng_.below(std::size(kinds))];
  } while ((lost_one_ && (kind_ == &kinds[0] || kind_ == &kinds[1])) ||
           (!only_.empty() && only_ != kind_->name));
  node_ = static_cast<unsigned>(prng_.below(rig_.size()));
  steps_left_ = 1 + static_cast<unsigned>(prng_.below(8));
  count_before_ = count();
  sim::Disk& disk = rig_.machine(node_).disk();
  kind_->begin(disk, prng_, kind_->path_part);
  if (prng_.one_in(4)) restart(ClusterRig::Disk::fails);
  if (kind_ == &kinds[0]) {
    corrupt_tables();
    lost_one_ = true;
  } else if (kind_ == &kinds[1]) {
    if (rig_.running(node_)) rig_.kill(node_);
    rig_.wipe(node_);
    ++struck_[kind_->name];
    lost_one_ = true;
    // The new disk is not always better.
    if (prng_.one_in(2)) by_chance<&sim::DiskOptions::write_error_ppm>(disk, prng_, "");
    if (prng_.one_in(2)) rig_.start(node_);
  }
}

// A byte each of some tables and value files.
void DiskTrouble::corrupt_tables() {
  sim::Disk& disk = rig_.machine(node_).disk();
  for (unsigned shard = 0; shard < rig_.cores(); ++shard) {
    const std::string directory = fmt::format("{}/shard-{:03}", rig_.directory(node_), shard);
    std::vector<DirEntry> entries;
    disk.list_dir(directory, entries);
    for (const DirEntry& entry : entries) {
      if (!entry.name.ends_with(".table") && !entry.name.ends_with(".values")) continue;
      if (entry.size_bytes == 0 || prng_.one_in(4)) continue;
      disk.corrupt(directory + "/" + entry.name, prng_.below(entry.size_bytes),
                   static_cast<char>(1 << prng_.below(8)));
    }
  }
}

void DiskTrouble::end() {
  if (kind_ == nullptr) return;
  struck_[kind_->name] += *kind_->counted == '\0' ? 0 : count() - count_before_;
  if (kind_->begin == fill_up && rig_.running(node_) && !rig_.wiped(node_))
    CHECK(rig_.refused_start(node_) == "");
  const Cure cure = kind_->cure;
  const bool told_to_stop_before = prng_.one_in(4);
  if (cure == Cure::restart && told_to_stop_before && rig_.running(node_)) {
    rig_.stop(node_, ClusterRig::Disk::fails);
  }
  sim::Disk& disk = rig_.machine(node_).disk();
  disk.options = sim::DiskOptions{};
  disk.clear_plans();
  kind_ = nullptr;
  if (cure == Cure::new_directory) {
    if (rig_.running(node_)) rig_.kill(node_);
    rig_.wipe(node_);
  } else if (cure == Cure::restart || (rig_.running(node_) && !rig_.takes_writes(node_))) {
    restart(ClusterRig::Disk::works);
  }
}

// However the process ends: what it acknowledged must be there.
void DiskTrouble::restart(ClusterRig::Disk disk) {
  if (rig_.running(node_)) {
    switch (prng_.below(3)) {
      case 0:
        rig_.stop(node_, disk);
        break;
      case 1:
        rig_.kill(node_);
        break;
      default:
        rig_.crash(node_, sim::CrashMode::random);
    }
  }
  rig_.start(node_);
}

Task<void> DiskTrouble::work_on_tables(const bool& stop) {
  while (!stop) {
    static_cast<void>(co_await sleep_for(milliseconds(prng_.between(50, 900))));
    const bool of_failing = kind_ != nullptr && prng_.one_in(2);
    const unsigned node = of_failing ? node_ : static_cast<unsigned>(prng_.below(rig_.size()));
    const char* const verb = prng_.one_in(3) ? "/admin/compact" : "/admin/flush";
    http::Client client({rig_.host(node), admin_port}, admin_patience);
    if (!co_await client.connect()) continue;
    client.set_field("Gyre-Admin: 1");
    client.send_request("POST", verb);
    if (co_await client.answer()) static_cast<void>(co_await client.text(1 << 20));
    co_await client.close();
  }
}

void DiskTrouble::name_all(std::map<std::string, uint64_t>& struck) {
  for (const DiskKind& kind : kinds) struck.try_emplace(kind.name, 0);
}

std::string to_text(const std::map<std::string, uint64_t>& struck) {
  std::string out;
  for (const auto& [name, count] : struck)
    out += fmt::format("{}{} {}", out.empty() ? "" : ", ", name, count);
  return out;
}

// --- runs ---------------------------------------------------------------------------------------

namespace {

Task<void> run_all(Task<void> clients, DiskTrouble& trouble, const bool& stop) {
  Scope scope(nullptr, "clients");
  scope.spawn(std::move(clients));
  scope.spawn(trouble.work_on_tables(stop));
  co_await scope.join();
}

}  // namespace

std::map<std::string, uint64_t> run_disturbed(ClusterRig& rig, uint64_t seed, sim::Prng& prng,
                                              const DisturbedRun& run, Task<void> clients,
                                              bool& stop) {
  rig.start_all();
  CHECK(rig.await_ready());
  DiskTrouble trouble(rig, seed, run.only_disk_fault);
  sim::Life client(rig.world(), rig.client());
  client.start(0, run_all(std::move(clients), trouble, stop));
  for (int step = 0; step < run.steps; ++step) {
    rig.world().run_for(milliseconds(20) + prng.between(0, run.pause_max));
    if (run.disks_fail) trouble.step();
    run.disturb();
  }
  trouble.end();
  rig.world().network().heal_all();
  rig.start_all();
  CHECK(rig.await_ready());
  rig.world().run_for(seconds(5));
  CHECK(rig.not_taking_writes() == "");
  stop = true;
  CHECK(rig.world().run_until([&] { return client.ended(); }, seconds(60)) == sim::Stop::satisfied);
  CHECK(rig.world().run_until([&] { return !rig.rebuilding(); }, rebuild_patience) ==
        sim::Stop::satisfied);
  return trouble.struck();
}

}  // namespace gyre::test
