#include "quorum_history.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <unordered_map>

namespace gyre::chaos {

namespace {

// What a read must not fall short of.
struct Floor {
  std::string version;
  bool gone = true;        // nothing, a removal, or a value that was seen to be gone
  bool exclusive = false;  // what had this version was seen to be gone: only what is newer will do
  std::string why = "nothing was there";

  void raise(const std::string& to, bool removes, const std::string& reason) {
    if (to <= version) return;
    version = to;
    gone = removes;
    exclusive = false;
    why = reason;
  }
};

// Something that raises the floor when it has ended.
struct Step {
  int64_t ended = 0;
  const QuorumWrite* write = nullptr;
  const QuorumRead* read = nullptr;
  Floor absent_under;  // of a read that found nothing: its floor
};

}  // namespace

void QuorumHistory::add(const QuorumHistory& other) {
  for (const auto& [key, events] : other.keys_) {
    OfKey& mine = keys_[key];
    mine.writes.insert(mine.writes.end(), events.writes.begin(), events.writes.end());
    mine.reads.insert(mine.reads.end(), events.reads.begin(), events.reads.end());
  }
}

size_t QuorumHistory::acknowledged() const {
  size_t count = 0;
  for (const auto& [key, events] : keys_) {
    count += static_cast<size_t>(std::ranges::count_if(
        events.writes, [](const auto& each) { return each.outcome == Outcome::acknowledged; }));
  }
  return count;
}

size_t QuorumHistory::unknown() const {
  size_t count = 0;
  for (const auto& [key, events] : keys_) {
    count += static_cast<size_t>(std::ranges::count_if(
        events.writes, [](const auto& each) { return each.outcome == Outcome::unknown; }));
  }
  return count;
}

size_t QuorumHistory::reads() const {
  size_t count = 0;
  for (const auto& [key, events] : keys_) count += events.reads.size();
  return count;
}

size_t QuorumHistory::lost(const std::vector<QuorumRead>& found) const {
  size_t count = 0;
  for (const QuorumRead& read : found) {
    const auto events = keys_.find(read.key);
    if (events == keys_.end()) continue;
    std::string removed;  // the newest removal that there can have been
    bool removed_any = false;
    for (const QuorumWrite& write : events->second.writes) {
      if (write.value != 0 || write.outcome == Outcome::refused) continue;
      if (write.outcome == Outcome::unknown) removed_any = true;
      removed = std::max(removed, write.version);
    }
    for (const QuorumWrite& write : events->second.writes) {
      if (write.outcome != Outcome::acknowledged || write.ended >= read.begun) continue;
      const bool gone =
          read.value ? write.version > read.version : !removed_any && write.version > removed;
      count += gone;
    }
  }
  return count;
}

std::vector<std::string> QuorumHistory::violations() const {
  std::vector<std::string> out;
  std::set<std::string> versions;
  for (const auto& [key, events] : keys_) {
    check_key(key, events, out);
    for (const QuorumWrite& write : events.writes) {
      if (write.outcome != Outcome::acknowledged || versions.insert(write.version).second) continue;
      out.push_back(fmt::format("two writes have version {}", write.version));
    }
  }
  return out;
}

void QuorumHistory::check_key(unsigned key, const OfKey& events, std::vector<std::string>& out) {
  std::unordered_map<uint64_t, const QuorumWrite*> writes_by_value;
  std::vector<const QuorumWrite*> removals;
  std::vector<Step> steps;
  for (const QuorumWrite& write : events.writes) {
    if (write.value != 0) writes_by_value[write.value] = &write;
    if (write.value == 0 && write.outcome != Outcome::refused) removals.push_back(&write);
    if (write.outcome == Outcome::acknowledged)
      steps.push_back({.ended = write.ended, .write = &write});
  }
  std::vector<const QuorumRead*> reads;
  for (const QuorumRead& read : events.reads) reads.push_back(&read);
  std::ranges::sort(reads, {}, &QuorumRead::begun);
  for (const QuorumRead& read : events.reads) steps.push_back({.ended = read.ended, .read = &read});
  std::ranges::sort(steps, {}, &Step::ended);
  std::unordered_map<const QuorumRead*, size_t> step_of;
  for (size_t i = 0; i < steps.size(); ++i) {
    if (steps[i].read != nullptr) step_of[steps[i].read] = i;
  }

  std::unordered_map<std::string, uint64_t> value_of;
  Floor floor;
  size_t next_step = 0;
  const auto raise_until = [&](int64_t moment) {
    for (; next_step < steps.size() && steps[next_step].ended < moment; ++next_step) {
      const Step& step = steps[next_step];
      if (step.write != nullptr) {
        floor.raise(step.write->version, step.write->value == 0,
                    fmt::format("a write acknowledged at {}", step.write->ended));
      } else if (step.read->value) {
        floor.raise(step.read->version, false, fmt::format("a read that ended at {}", step.ended));
      } else if (!step.absent_under.gone && step.absent_under.version >= floor.version) {
        floor = step.absent_under;
        floor.gone = floor.exclusive = true;
        floor.why = fmt::format("a read that ended at {} found nothing above", step.ended);
      }
    }
  };
  for (const QuorumRead* read : reads) {
    raise_until(read->begun);
    steps[step_of[read]].absent_under = floor;
    const auto tell = [&](const std::string& what) {
      out.push_back(fmt::format("key {}: the read of {} to {} {}: found {} version '{}'; {}, '{}'",
                                key, read->begun, read->ended, what,
                                read->value ? std::to_string(*read->value) : "nothing",
                                read->version, floor.why, floor.version));
    };
    if (!read->value) {
      const bool removed =
          floor.gone || std::ranges::any_of(removals, [&](const QuorumWrite* write) {
            return write->begun < read->ended &&
                   (write->outcome == Outcome::unknown || write->version > floor.version);
          });
      if (!removed) tell("lost what was there");
      continue;
    }
    if (read->version < floor.version) tell("went back");
    if (read->version == floor.version && floor.exclusive) tell("saw again what was gone");
    const auto origin = writes_by_value.find(*read->value);
    if (origin == writes_by_value.end()) {
      tell("returned what nobody wrote to it");
    } else if (const QuorumWrite& write = *origin->second; write.begun > read->ended) {
      tell("returned what was written later");
    } else if (write.outcome == Outcome::refused) {
      tell("returned a write that was refused");
    } else if (write.outcome == Outcome::acknowledged && read->version > write.version) {
      tell(fmt::format("returned a later version of what was acknowledged as '{}'", write.version));
    }
    const auto [known, fresh] = value_of.try_emplace(read->version, *read->value);
    if (!fresh && known->second != *read->value) tell("returned another value of its version");
  }

  // The greatest version acknowledged before each write began.
  std::vector<const QuorumWrite*> by_begin;
  std::vector<const QuorumWrite*> by_end;
  for (const QuorumWrite& write : events.writes) {
    if (write.outcome == Outcome::acknowledged) by_begin.push_back(&write);
  }
  by_end = by_begin;
  std::ranges::sort(by_begin, {}, &QuorumWrite::begun);
  std::ranges::sort(by_end, {}, &QuorumWrite::ended);
  size_t before = 0;
  const QuorumWrite* greatest = nullptr;
  for (const QuorumWrite* write : by_begin) {
    for (; before < by_end.size() && by_end[before]->ended < write->begun; ++before) {
      if (greatest == nullptr || by_end[before]->version > greatest->version) {
        greatest = by_end[before];
      }
    }
    if (greatest != nullptr && write->version <= greatest->version) {
      out.push_back(fmt::format(
          "key {}: the write of {} to {} was acknowledged with version '{}', not above that of one "
          "that ended at {}: '{}'",
          key, write->begun, write->ended, write->version, greatest->ended, greatest->version));
    }
  }
}

}  // namespace gyre::chaos
