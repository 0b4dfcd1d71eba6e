#include "scan_world.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "cluster/scan_merge.hpp"
#include "sim/prng.hpp"

namespace gyre::cluster {

namespace {

using Nanos = int64_t;
constexpr Nanos ms = 1'000'000;
constexpr Nanos delay_max = 5 * ms;
constexpr uint32_t window_bytes = 400;

struct Written {
  Version version;
  bool removes = false;
  bool is_long = false;
  std::string value;
};

enum class Temper : uint8_t { sound, breaks_once, dead, hangs, hangs_later, talks_nonsense };

struct Node {
  Temper temper = Temper::sound;
  std::map<std::string, Written> holds;
};

struct Stream {
  NodeIndex node = 0;
  std::vector<std::string> pages;
  size_t sent = 0;
  int64_t credit = window_bytes;
  Nanos due = 0;  // of the next event
  bool closed = false;
  bool hangs = false;
  size_t breaks_at = SIZE_MAX;  // before that page
};

class World {
 public:
  explicit World(uint64_t seed) : prng_(seed, "scan world") {
    node_count_ = static_cast<unsigned>(prng_.between(1, 6));
    from_ = static_cast<unsigned>(prng_.between(1, std::min(node_count_, 5u)));
    ack_ = prng_.one_in(2) ? from_ / 2 + 1 : static_cast<unsigned>(prng_.between(1, from_));
    table_ = random_slot_table(seed, node_count_, std::min(node_count_, 5u));
    nodes_.resize(node_count_);
    const bool all_sound = prng_.one_in(4);
    for (Node& node : nodes_) {
      const bool sound = all_sound || !prng_.one_in(3);
      node.temper = sound ? Temper::sound : static_cast<Temper>(prng_.between(1, 5));
    }
    write();
    start_ = prng_.one_in(2) ? "a" : key_of(prng_.below(keys_));
    if (prng_.one_in(2)) end_ = key_of(prng_.below(keys_));
  }

  ScanRun run();

 private:
  static std::string key_of(uint64_t number) { return fmt::format("k{:03}", number); }
  bool in_range(const std::string& key) const {
    return key >= start_ && (end_.empty() || key < end_);
  }
  void write();
  void open(const ScanMerge& merge, const ScanMerge::Step& step);
  void deliver(ScanMerge& merge);
  Nanos next_due() const;
  std::string judge(const std::map<std::string, ScanEntry>& seen, bool complete) const;
  bool enough_sound() const;

  sim::Prng prng_;
  unsigned node_count_ = 1;
  unsigned from_ = 1;
  unsigned ack_ = 1;
  uint64_t keys_ = 60;
  SlotTable table_;
  std::vector<Node> nodes_;
  std::map<std::string, std::vector<Written>> written_;
  std::map<std::string, Version> acknowledged_;  // the newest
  std::string start_;
  std::string end_;
  Nanos now_ = 1;
  std::map<ScanMerge::StreamId, Stream> streams_;
  std::map<std::string, std::string> kept_;  // keys and values of what was seen
};

// Some writes reach enough replicas to overlap with every read of `ack`, some don't; each version is
// on some replicas, older ones on the others.
void World::write() {
  uint64_t stamp = 0;
  for (uint64_t i = 0; i < 3 * keys_; ++i) {
    const std::string key = key_of(prng_.below(keys_));
    Written write{.version = {++stamp, 7}, .removes = prng_.one_in(4)};
    if (!write.removes) write.value = fmt::format("v{}", stamp);
    write.is_long = !write.removes && prng_.one_in(8);
    std::vector<NodeIndex> replicas;
    for (const NodeIndex node : table_.replicas(slot_of(key), from_)) replicas.push_back(node);
    for (size_t i = 1; i < replicas.size(); ++i)
      std::swap(replicas[i], replicas[prng_.below(i + 1)]);
    const unsigned enough = from_ - ack_ + 1;
    const bool acknowledged = !prng_.one_in(3);
    replicas.resize(acknowledged ? prng_.between(enough, from_) : prng_.below(enough));
    for (const NodeIndex node : replicas) nodes_[node].holds[key] = write;
    if (acknowledged) acknowledged_[key] = write.version;
    written_[key].push_back(std::move(write));
  }
}

void World::open(const ScanMerge& merge, const ScanMerge::Step& step) {
  Stream& stream = streams_[step.stream];
  stream.node = step.node;
  Node& node = nodes_[step.node];
  const SlotSet& slots = merge.slots(step.stream);
  std::string page;
  for (auto at = node.holds.lower_bound(merge.resume_key(step.stream)); at != node.holds.end();
       ++at) {
    const auto& [key, write] = *at;
    if (!end_.empty() && key >= end_) break;
    ScanEntry entry{.kind = ScanKind::passed, .key = key};
    if (slots.contains(slot_of(key))) {
      entry.version = write.version;
      entry.kind = write.removes   ? ScanKind::dead
                   : write.is_long ? ScanKind::long_value
                                   : ScanKind::value;
      if (entry.kind == ScanKind::value) entry.value = write.value;
      entry.value_bytes = write.value.size();
    } else if (!prng_.one_in(3)) {
      continue;
    }
    entry.append_to(page);
    if (prng_.one_in(3)) stream.pages.push_back(std::exchange(page, {}));
  }
  if (!page.empty()) stream.pages.push_back(page);
  stream.due = now_ + static_cast<Nanos>(prng_.below(delay_max));
  switch (node.temper) {
    case Temper::sound:
      break;
    case Temper::breaks_once:
      node.temper = Temper::sound;
      stream.breaks_at = prng_.below(stream.pages.size() + 1);
      break;
    case Temper::dead:
      stream.breaks_at = 0;
      break;
    case Temper::hangs:
      stream.hangs = true;
      break;
    case Temper::hangs_later:
      stream.pages.resize(prng_.below(stream.pages.size() + 1));
      stream.hangs = true;
      break;
    case Temper::talks_nonsense:
      if (!stream.pages.empty()) {
        std::string& some = stream.pages[prng_.below(stream.pages.size())];
        if (prng_.one_in(2)) {
          some.pop_back();
        } else {
          some[0] = 9;
        }
      }
      break;
  }
}

Nanos World::next_due() const {
  Nanos due = INT64_MAX;
  for (const auto& [id, stream] : streams_) {
    if (stream.closed || (stream.hangs && stream.sent == stream.pages.size())) continue;
    const bool blocked =
        stream.credit <= 0 && stream.sent < stream.pages.size() && stream.breaks_at > stream.sent;
    if (!blocked) due = std::min(due, stream.due);
  }
  return due;
}

void World::deliver(ScanMerge& merge) {
  for (auto& [id, stream] : streams_) {
    if (stream.closed || stream.due > now_) continue;
    if (stream.sent == stream.breaks_at) {
      merge.failed(id);
      stream.closed = true;
    } else if (stream.sent < stream.pages.size()) {
      if (stream.credit <= 0) continue;
      const std::string& page = stream.pages[stream.sent++];
      stream.credit -= static_cast<int64_t>(page.size());
      merge.page(id, page, now_);
    } else if (!stream.hangs) {
      merge.ended(id);
      stream.closed = true;
    }
    stream.due = now_ + static_cast<Nanos>(prng_.below(delay_max));
  }
}

std::string World::judge(const std::map<std::string, ScanEntry>& seen, bool complete) const {
  for (const auto& [key, entry] : seen) {
    if (!in_range(key)) return key + " lies outside of the range";
    const auto writes = written_.find(key);
    if (writes == written_.end()) return key + " was never written";
    const auto write = std::ranges::find(writes->second, entry.version, &Written::version);
    if (write == writes->second.end()) return key + " has a version that nobody wrote";
    if (write->removes) return key + " was removed by the version it is shown with";
    const bool right = entry.kind == ScanKind::long_value
                           ? write->is_long && entry.value_bytes == write->value.size()
                           : entry.value == write->value;
    if (!right) return key + " has another value than was written";
  }
  const std::string& last = seen.empty() ? start_ : seen.rbegin()->first;
  for (const auto& [key, version] : acknowledged_) {
    // A range that was cut off is right as far as it goes.
    if (!in_range(key) || (!complete && key > last) || (!complete && seen.empty())) continue;
    const auto at = seen.find(key);
    const bool found = at != seen.end();
    if (found && at->second.version < version) return key + " is older than was acknowledged";
    if (found) continue;
    // Gone by the newest that was acknowledged, or by a removal above it.
    const bool may_be_gone = std::ranges::any_of(written_.at(key), [&](const Written& write) {
      return write.removes && write.version >= version;
    });
    if (!may_be_gone) return key + " is missing";
  }
  return {};
}

bool World::enough_sound() const {
  for (uint32_t slot = 0; slot < slot_count; ++slot) {
    const auto replicas = table_.replicas(slot, from_);
    const auto sound = std::ranges::count_if(replicas, [&](NodeIndex node) {
      return nodes_[node].temper == Temper::sound || nodes_[node].temper == Temper::breaks_once;
    });
    if (static_cast<unsigned>(sound) < ack_) return false;
  }
  return true;
}

ScanRun World::run() {
  ScanRun run;
  run.could_complete = enough_sound();
  const auto self = static_cast<NodeIndex>(prng_.below(node_count_));
  std::vector<Reluctance> reluctance;
  for (const Node& node : nodes_) {
    reluctance.push_back(node.temper != Temper::dead || prng_.one_in(2) ? 1 : 3);
  }
  reluctance[self] = 0;
  ScanMerge merge(ScanPlan(table_, ack_, from_, self, reluctance), {.start = start_});
  std::map<std::string, ScanEntry> seen;
  std::string last;
  for (;;) {
    const ScanMerge::Step step = merge.next(now_);
    size_t page_max = 0;
    for (const auto& [id, stream] : streams_) {
      for (const std::string& page : stream.pages) page_max = std::max(page_max, page.size());
    }
    if (merge.held_bytes() > streams_.size() * (window_bytes + page_max)) {
      run.violation = "more is held than there was credit for";
      return run;
    }
    switch (step.what) {
      case ScanMerge::Do::open:
        open(merge, step);
        continue;
      case ScanMerge::Do::close:
        streams_[step.stream].closed = true;
        continue;
      case ScanMerge::Do::credit:
        streams_[step.stream].credit += step.bytes;
        continue;
      case ScanMerge::Do::record: {
        ++run.records;
        const auto key = kept_.try_emplace(std::string(merge.record().key)).first;
        if (!last.empty() && key->first <= last) run.violation = key->first + " comes too late";
        last = key->first;
        key->second = merge.record().value;
        ScanEntry entry = merge.record();
        entry.key = key->first;
        entry.value = key->second;
        seen[key->first] = entry;
        // The client takes its time; what comes meanwhile must not disturb the record.
        if (prng_.one_in(4)) {
          now_ += static_cast<Nanos>(prng_.below(20 * ms));
          deliver(merge);
          if (merge.record().value != key->second) run.violation = key->first + " changed";
        }
        continue;
      }
      case ScanMerge::Do::wait: {
        const Nanos due = std::min(next_due(), step.until);
        if (due == INT64_MAX) {
          run.violation = "it waits for ever";
          return run;
        }
        now_ = std::max(now_, due);
        deliver(merge);
        continue;
      }
      case ScanMerge::Do::end:
      case ScanMerge::Do::fail:
        break;
    }
    run.complete = step.what == ScanMerge::Do::end;
    break;
  }
  run.replaced = merge.replaced();
  if (run.violation.empty()) run.violation = judge(seen, run.complete);
  if (run.violation.empty() && run.could_complete && !run.complete) {
    run.violation = "it gave up though there were enough nodes";
  }
  if (run.violation.empty() && now_ > 30'000 * ms) run.violation = "it took too long";
  if (run.violation.empty() && run.could_complete && now_ > 5'000 * ms) {
    run.violation = "it waited for a node that hangs though there were others";
  }
  return run;
}

}  // namespace

SlotTable random_slot_table(uint64_t seed, unsigned node_count, unsigned width) {
  sim::Prng prng(seed, "slot table");
  SlotTable table(width);
  std::vector<NodeIndex> nodes(node_count);
  for (unsigned i = 0; i < node_count; ++i) nodes[i] = static_cast<NodeIndex>(i);
  for (uint32_t slot = 0; slot < slot_count; ++slot) {
    for (unsigned rank = 0; rank < width; ++rank) {
      std::swap(nodes[rank], nodes[rank + prng.below(node_count - rank)]);
      table.set(slot, rank, nodes[rank]);
    }
  }
  return table;
}

ScanRun run_scan_world(uint64_t seed) {
  return World(seed).run();
}

}  // namespace gyre::cluster
