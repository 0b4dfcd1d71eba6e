#include "cluster_rig.hpp"

#include <algorithm>
#include <set>

#include "../resp/resp_line.hpp"
#include "node/replication/peer_registry.hpp"

namespace gyre::test {

// --- the oracle ---------------------------------------------------------------------------------

size_t Oracle::acknowledged() const {
  return static_cast<size_t>(std::ranges::count_if(
      writes_, [](const WriteEvent& write) { return write.outcome == Outcome::acknowledged; }));
}

size_t Oracle::unknown() const {
  return static_cast<size_t>(std::ranges::count_if(
      writes_, [](const WriteEvent& write) { return write.outcome == Outcome::unknown; }));
}

std::vector<std::string> Oracle::violations() const {
  std::vector<std::string> out;
  std::map<int, std::vector<const WriteEvent*>> writes;
  std::map<int, std::vector<const ReadEvent*>> reads;
  for (const WriteEvent& write : writes_) writes[write.key].push_back(&write);
  for (const ReadEvent& read : reads_) reads[read.key].push_back(&read);
  for (auto& [key, of_key] : reads) {
    std::ranges::sort(of_key, {}, [](const ReadEvent* read) { return read->begun; });
    std::map<std::string, std::string> value_of;
    for (const ReadEvent* read : of_key) {
      // What must not be undone: acknowledged before the read began, or read before.
      std::string least;
      bool least_removes = true;  // nothing there is as good as a removal
      std::string why = "nothing";
      for (const WriteEvent* write : writes[key]) {
        if (write->outcome != Outcome::acknowledged || write->ended > read->begun ||
            write->version <= least) {
          continue;
        }
        least = write->version;
        least_removes = write->removes;
        why = fmt::format("a write acknowledged at {}", write->ended);
      }
      for (const ReadEvent* before : of_key) {
        if (!before->found || before->ended > read->begun || before->version <= least) continue;
        least = before->version;
        least_removes = false;
        why = fmt::format("a read that ended at {}", before->ended);
      }
      const auto tell = [&](std::string_view what) {
        out.push_back(
            fmt::format("key{}: the read of {} to {} {}: found {} \"{}\" version {}; {} "
                        "had version {}",
                        key, read->begun, read->ended, what, read->found, read->value,
                        read->version, why, least));
      };
      if (!read->found) {
        // Some removal must be able to have a version above.
        const bool removed =
            least_removes || std::ranges::any_of(writes[key], [&](const WriteEvent* write) {
              if (!write->removes || write->begun > read->ended ||
                  write->outcome == Outcome::not_done) {
                return false;
              }
              return write->outcome == Outcome::unknown || write->version > least;
            });
        if (!removed) tell("lost what was there");
        continue;
      }
      if (read->version < least) tell("went back");
      const auto origin = std::ranges::find_if(writes[key], [&](const WriteEvent* write) {
        return !write->removes && write->value == read->value;
      });
      if (origin == writes[key].end()) {
        tell("returned what nobody wrote");
      } else if ((*origin)->begun > read->ended) {
        tell("returned what was written later");
      } else if ((*origin)->outcome == Outcome::acknowledged &&
                 read->version > (*origin)->version) {
        // Below it is the stamp that it had before it was stamped again, which others may have seen.
        tell(fmt::format("(its write: {} to {}, version {}) returned a later version of it",
                         (*origin)->begun, (*origin)->ended, (*origin)->version));
      } else if ((*origin)->outcome == Outcome::not_done) {
        tell("returned a write that was refused");
      }
      const auto [known, fresh] = value_of.try_emplace(read->version, read->value);
      if (!fresh && known->second != read->value) tell("returned another value of its version");
    }
  }
  for (const auto& [key, of_key] : writes) {
    for (const WriteEvent* later : of_key) {
      for (const WriteEvent* before : of_key) {
        if (later->outcome != Outcome::acknowledged || before->outcome != Outcome::acknowledged ||
            before->ended > later->begun || before->version < later->version) {
          continue;
        }
        out.push_back(fmt::format(
            "key{}: the write of {} to {} was acknowledged with version {}, "
            "under that of one that ended at {}: {}",
            key, later->begun, later->ended, later->version, before->ended, before->version));
      }
    }
  }
  std::set<std::string> versions;
  for (const WriteEvent& write : writes_) {
    if (write.outcome == Outcome::acknowledged && !versions.insert(write.version).second) {
      out.push_back("two writes have version " + write.version);
    }
  }
  return out;
}

// --- the cluster --------------------------------------------------------------------------------

ClusterRig::ClusterRig(ClusterOptions options)
    : options_(std::move(options)), world_(sim::WorldOptions{.seed = options_.seed}) {
  sim::Prng prng(options_.seed, "cluster");
  for (unsigned i = 0; i < options_.nodes; ++i) {
    sim::NodeOptions machine{.cores = options_.cores};
    if (options_.skewed_clocks) {
      machine.wall_offset_us = static_cast<int64_t>(prng.below(400'000)) - 200'000;
      machine.drift_ppm = static_cast<int64_t>(prng.below(200)) - 100;
    }
    if (i < options_.clock_offsets_us.size()) machine.wall_offset_us = options_.clock_offsets_us[i];
    members_.push_back({.machine = &world_.add_node(std::move(machine)), .node = {}, .life = {}});
  }
  client_ = &world_.add_node();
}

ClusterRig::~ClusterRig() {
  for (unsigned i = 0; i < size(); ++i) {
    if (running(i)) kill(i);
  }
}

ServeConfig ClusterRig::config_of(unsigned node) const {
  std::string peers;
  for (const Member& member : members_) {
    peers += (peers.empty() ? "" : ",") + ("http://" + member.machine->address() + ":8080");
  }
  if (options_.last_has_more_peers && node + 1 == size()) peers += ",http://10.9.9.9:8080";
  ConfigInput input;
  input.machine = {
      .cpus = options_.cores, .cpus_online = options_.cores, .memory_bytes = 4ull << 30};
  const std::pair<std::string, std::string> flags[] = {
      {"listen", "0.0.0.0:8080"},
      {"data", directory(node)},
      {"memory", "128M"},
      {"max-value", "1M"},
      {"admin", options_.admin},
      {"advertise", "http://" + members_[node].machine->address() + ":8080"},
      {"peers", peers},
      {"durability", options_.durability},
  };
  for (const auto& [name, text] : flags) input.flags.push_back({Layer::flag, name, text, ""});
  auto config = load_serve_config(input);
  if (!config) FAIL(config.error().lines.front());
  if (options_.resp) config->resp = Address{"0.0.0.0", resp_port};
  return *config;
}

// True if the node has ended by itself, which it does only then.
bool ClusterRig::take_refused_start(unsigned node) {
  Member& member = members_[node];
  if (!member.life || !member.life->ended()) return false;
  CHECK(member.node->exit_code() == 1);
  CHECK(world_.check_quiescent(*member.machine) == "");
  member.life.reset();
  member.node.reset();
  return true;
}

void ClusterRig::start(unsigned node) {
  Member& member = members_[node];
  take_refused_start(node);
  if (member.life) return;
  member.node = std::make_unique<Node>(config_of(node), environment);
  member.life = std::make_unique<sim::Life>(world_, *member.machine);
  for (unsigned core = 0; core < options_.cores; ++core) {
    member.life->start(core, member.node->run(core));
  }
}

void ClusterRig::start_all() {
  for (unsigned i = 0; i < size(); ++i) start(i);
}

std::string ClusterRig::last_line(unsigned node) const {
  const auto& lines = members_[node].machine->log_lines();
  return lines.empty() ? "nothing" : lines.back();
}

std::string ClusterRig::refused_start(unsigned node) const {
  const Member& member = members_[node];
  return member.life && member.life->ended() ? last_line(node) : "";
}

bool ClusterRig::takes_writes(unsigned node) const {
  const Member& member = members_[node];
  if (!member.life || member.life->ended()) return false;
  for (unsigned core = 0; core < options_.cores; ++core) {
    if (member.node->core(core).state() != NodeState::serving) return false;
  }
  for (uint32_t shard = 0; shard < options_.cores; ++shard) {
    if (member.node->core(member.node->owner_of(shard)).shard(shard).read_only()) return false;
  }
  return true;
}

bool ClusterRig::rebuilding() const {
  return std::ranges::any_of(members_, [](const Member& member) {
    return member.life && !member.life->ended() &&
           member.node->core(0).state() == NodeState::serving &&
           member.node->registry().state() == cluster::JoinState::rebuilding;
  });
}

std::string ClusterRig::not_taking_writes() const {
  std::string out;
  for (unsigned node = 0; node < size(); ++node) {
    if (!takes_writes(node)) out += fmt::format(" node {}: {}", node, last_line(node));
  }
  return out;
}

bool ClusterRig::ready(unsigned node) const {
  const Member& member = members_[node];
  return !member.life || member.life->ended() || member.node->core(0).state() == NodeState::serving;
}

bool ClusterRig::await_ready(Nanos limit) {
  return world_.run_until(
             [&] {
               for (unsigned i = 0; i < size(); ++i) {
                 if (!ready(i)) return false;
               }
               return true;
             },
             limit) == sim::Stop::satisfied;
}

void ClusterRig::kill(unsigned node) {
  Member& member = members_[node];
  CHECK(member.life->kill());
  member.life.reset();
  member.node.reset();
}

void ClusterRig::wipe(unsigned node) {
  CHECK(!running(node));
  ++members_[node].directory;
}

void ClusterRig::crash(unsigned node, sim::CrashMode mode) {
  Member& member = members_[node];
  CHECK(member.life->crash(mode));
  member.life.reset();
  member.node.reset();
}

void ClusterRig::stop(unsigned node, Disk disk) {
  Member& member = members_[node];
  if (take_refused_start(node)) return;
  const bool well = disk == Disk::works && takes_writes(node);  // its start may be failing just now
  member.machine->signal(SIGTERM);
  REQUIRE(world_.run_until([&] { return member.life->ended(); }, seconds(120)) ==
          sim::Stop::satisfied);
  if (well) CHECK_MESSAGE(member.node->exit_code() == 0, last_line(node));
  CHECK(world_.check_quiescent(*member.machine) == "");
  member.life.reset();
  member.node.reset();
}

void ClusterRig::stop_all() {
  for (unsigned i = 0; i < size(); ++i) {
    if (running(i)) stop(i);
  }
}

// --- clients ------------------------------------------------------------------------------------

Task<ClusterAnswer> ask_node(std::string host, std::string method, std::string target,
                             std::string body) {
  ClusterAnswer answer;
  http::Client client({host, port}, seconds(10));
  if (!co_await client.connect()) co_return answer;
  client.send_request(method, target,
                      method == "PUT" ? std::optional<std::string_view>(body) : std::nullopt);
  if (co_await client.answer()) {
    const uint16_t status = client.status();
    const std::string version(client.field("etag"));
    Result<std::string> text = co_await client.text(1 << 20);
    if (text) answer = {status, version, std::move(*text)};
  }
  co_await client.close();
  co_return answer;
}

}  // namespace gyre::test
