#include "node/replication/key_modifiers.hpp"

#include <algorithm>
#include <utility>

#include "base/assert.hpp"
#include "base/hash.hpp"
#include "node/core.hpp"
#include "node/replication/await_replicated.hpp"
#include "node/replication/coordinator.hpp"
#include "node/replication/test_faults.hpp"

namespace gyre {

namespace {

// More than a plain write takes until it is acknowledged or given up, and clocks may differ by.
constexpr Nanos stamp_behind = replica_patience + seconds(1);
static_assert(stamp_behind > replica_patience + microseconds(clock_ahead_max_us));
// Others take this node for dead after its silence only (quiet_max and silence_max of its links).
constexpr Nanos takeover_min = seconds(1);
// A plain writer could come between again and again.
constexpr unsigned tries_max = 4;
// What a batch makes of values and answers before it is ended.
constexpr size_t batch_bytes_max = 4u << 20;

constexpr std::string_view unreadable =
    "NOREPLICAS Not enough good replicas to read from: nothing was written.";
constexpr std::string_view no_memory = "TRYAGAIN no memory for the value now: nothing was written";
constexpr std::string_view too_many =
    "TRYAGAIN too many commands wait for this node's replicas: nothing was written";
constexpr std::string_view too_late =
    "TRYAGAIN the key's first replica did not come to it in time: nothing was written";
constexpr std::string_view overtaken =
    "TRYAGAIN the key is written all the time by others: nothing was written";
constexpr std::string_view future_stamp =
    "TRYAGAIN the key has a value that a clock far ahead has stamped: nothing was written, and "
    "nothing will be until that time has come";
constexpr std::string_view not_first_now =
    "TRYAGAIN another node has become the key's first replica: nothing was written";
constexpr std::string_view too_long =
    "ERR string exceeds maximum allowed size (proto-max-bulk-len)";
constexpr std::string_view unknown =
    "NOREPLICAS Not enough good replicas answered the write: whether it took effect is unknown. "
    "Read the key before you try again.";

std::string failure_of(const WriteResult& result) {
  switch (result.status) {
    case 409:
      return std::string(overtaken);
    case 413:
      return std::string(too_long);
    case 503:
      return "TRYAGAIN " + result.reason;
    default:
      return std::string(unknown);
  }
}

}  // namespace

// --- one command ----------------------------------------------------------------------------------

bool ReplicaModify::start(std::string_view payload, Nanos deadline) {
  if (!cluster::ModifyRequest::decode(payload, request_)) return false;
  const ModifySpec spec{.kind = static_cast<ModifyKind>(request_.kind),
                        .number = request_.number,
                        .expire_at_ms = request_.expire_at_ms,
                        .flags = request_.flags};
  words_.resize(2);
  words_.insert(words_.end(), request_.words.begin(), request_.words.end());
  if (!Modification::makes_sense(spec, words_)) return false;
  modification_ =
      std::make_unique<Modification>(spec, static_cast<resp::Protocol>(request_.protocol),
                                     request_.value_bytes_max, record_, buffer_);
  modification_->take_words(words_);
  deadline_ = deadline;
  go(request_.key);
  return true;
}

void ReplicaModify::work(Core& owner) {
  owner.coordinator().modifiers().add(*this);
}

void ReplicaModify::fail(std::string_view text) {
  failure_ = text;
}

cluster::ModifyReply ReplicaModify::reply() const {
  if (!failure_.empty()) {
    return {.outcome = cluster::ModifyOutcome::failed, .answer = failure_};
  }
  return {.outcome = cluster::ModifyOutcome::done,
          .changed = modification_->changed(),
          .answer = modification_->answer()};
}

// --- those of one core ----------------------------------------------------------------------------

struct KeyModifiers::State {
  bool present = false;
  Version version;  // zero: what it is now was not written yet
  uint64_t expire_at_ms = 0;
  std::string value;
  bool changed = false;

  bool is_there() const {
    return present && (expire_at_ms == 0 || expire_at_ms > Reactor::current().wall_ms());
  }
  StoreRead read() const {
    StoreRead read;
    read.version = version;
    read.expire_at_ms = expire_at_ms;
    read.size_bytes = value.size();
    read.value = value;
    return read;
  }
  void take(const WriteRecord& record) {
    std::string made = record.value_buffer != nullptr ? record.value_buffer->to_string()
                                                      : std::string(record.value);
    present = record.kind == Kind::value;
    version = {};
    expire_at_ms = record.expire_at_ms;
    value = std::move(made);
    changed = true;
  }
};

KeyModifiers::~KeyModifiers() {
  GYRE_ASSERT(keys_.empty());
}

size_t KeyModifiers::Hash::operator()(std::string_view key) const {
  return hash64(key);
}

void KeyModifiers::add(ReplicaModify& modify) {
  if (waiting_ >= waiting_max) {
    modify.fail(too_many);
    return modify.go_back();
  }
  ++waiting_;
  const auto at = keys_.find(modify.request_.key);
  if (at != keys_.end() && node_test_faults.modifies_not_queued) {
    return coordinator_.core().scope().spawn(run_beside(&modify));
  }
  if (at != keys_.end()) return at->second.push_back(&modify);
  std::string key(modify.request_.key);
  keys_[key].push_back(&modify);
  coordinator_.core().scope().spawn(run(std::move(key)));
}

// Planted.
Task<void> KeyModifiers::run_beside(ReplicaModify* modify) {
  coordinator_.operation_begun();
  Waiting none;
  co_await work_on(std::string(modify->request_.key), {modify}, none);
  coordinator_.operation_ended();
}

void KeyModifiers::answer(ReplicaModify& modify) {
  --waiting_;
  modify.go_back();
}

void KeyModifiers::refuse(Waiting& batch, size_t first, std::string_view text) {
  for (size_t i = first; i < batch.size(); ++i) batch[i]->fail(text);
}

KeyModifiers::Waiting KeyModifiers::take_batch(Waiting& waiting) {
  const size_t count = std::min(waiting.size(), batch_max);
  Waiting batch(waiting.begin(), waiting.begin() + static_cast<std::ptrdiff_t>(count));
  waiting.erase(waiting.begin(), waiting.begin() + static_cast<std::ptrdiff_t>(count));
  return batch;
}

Task<void> KeyModifiers::run(std::string key) {
  coordinator_.operation_begun();
  for (;;) {
    const auto at = keys_.find(key);
    if (at->second.empty()) {
      keys_.erase(at);
      break;
    }
    // Nodes of the map stay where they are.
    co_await work_on(key, take_batch(at->second), at->second);
  }
  coordinator_.operation_ended();
}

// Each on what the one before made. The number of those that fit in a batch.
size_t KeyModifiers::apply_all(Waiting& batch, State& state) {
  size_t bytes = 0;
  size_t count = 0;
  while (count < batch.size() && bytes < batch_bytes_max) {
    ReplicaModify& modify = *batch[count++];
    Modification& modification = *modify.modification_;
    const bool there = state.is_there();
    if (there && modification.spec().wants_value() &&
        state.value.size() > modification.value_bytes_max()) {
      modification.refuse(too_long);
      continue;
    }
    if (modification.apply(state.read(), there) == StoreModify::Act::write) {
      state.take(modify.record_);
      bytes += state.value.size();
    }
    bytes += modification.answer().size();
  }
  return count;
}

Task<void> KeyModifiers::work_on(std::string key, Waiting batch, Waiting& waiting) {
  const Nanos now = Reactor::current().now();
  std::erase_if(batch, [&](ReplicaModify* modify) {
    if (modify->deadline_ > now) return false;
    modify->fail(too_late);
    answer(*modify);
    return true;
  });
  bool again = !batch.empty();
  for (unsigned tries = 1; again; ++tries) {
    again = co_await try_once(key, batch, waiting, tries == tries_max);
  }
  for (ReplicaModify* modify : batch) answer(*modify);
}

bool KeyModifiers::is_first(std::string_view key) const {
  for (const cluster::NodeIndex node :
       coordinator_.replicas(key, coordinator_.default_replicas())) {
    if (node == coordinator_.self()) return true;
    if (coordinator_.state_of(node) != cluster::FailureDetector::State::dead) return false;
  }
  return false;
}

// Above what another first replica, which died, may have left with the next stamp.
Version KeyModifiers::stamp_above(const Version& seen, uint64_t read_begun_hlc,
                                  std::string_view key) const {
  const uint32_t from = coordinator_.default_replicas();
  Version stamp = coordinator_.clock().next(Reactor::current().wall_us(), from);
  if (node_test_faults.modify_stamped_late) return stamp;
  const auto nodes = coordinator_.replicas(key, from);
  const auto rank = std::ranges::find(nodes, coordinator_.self()) - nodes.begin();
  constexpr uint64_t behind = hlc_from_us(stamp_behind / microseconds(1));
  stamp.hlc = std::max(read_begun_hlc - std::min(read_begun_hlc, behind),
                       seen.hlc + 1 + static_cast<uint64_t>(rank));
  return stamp;
}

// True: nothing was done, something newer was written meanwhile. What doesn't fit in the batch goes
// back to those that wait.
Task<bool> KeyModifiers::try_once(const std::string& key, Waiting& batch, Waiting& waiting,
                                  bool last) {
  const uint32_t from = coordinator_.default_replicas();
  const uint32_t majority = from / 2 + 1;
  const Nanos begun = Reactor::current().now();
  const uint64_t begun_hlc = coordinator_.hlc();
  ReadCopy read = co_await read_replicas(
      coordinator_, key, node_test_faults.modify_reads_one ? 1 : majority, from, true);
  if (read.status == 503 || read.status == 504) {
    refuse(batch, 0, read.status == 503 ? no_memory : unreadable);
    co_return false;
  }
  State state{.present = read.status == 200,
              .version = read.version,
              .expire_at_ms = read.expire_at_ms,
              .value = std::move(read.value)};
  const auto behind = batch.begin() + static_cast<std::ptrdiff_t>(apply_all(batch, state));
  waiting.insert(waiting.begin(), behind, batch.end());
  batch.erase(behind, batch.end());
  if (!state.changed) co_return false;
  // Those before the first that writes are answered by what a majority holds.
  const auto first = static_cast<size_t>(
      std::ranges::find_if(batch,
                           [](ReplicaModify* modify) { return modify->modification_->changed(); }) -
      batch.begin());
  if (const std::string reason = coordinator_.clock_refusal(); !reason.empty()) {
    refuse(batch, first, "TRYAGAIN " + reason);
    co_return false;
  }
  if (!coordinator_.is_credible(read.version.hlc)) {
    refuse(batch, first, future_stamp);
    co_return false;
  }
  // One that was dead and is first again may have begun meanwhile.
  if (!is_first(key)) {
    refuse(batch, first, not_first_now);
    co_return false;
  }
  const WriteResult result = co_await write_replicas(
      coordinator_, {.key = key,
                     .value = std::move(state.value),
                     .tombstone = !state.present,
                     .expire_at_ms = state.present ? state.expire_at_ms : 0,
                     .ack = node_test_faults.modify_writes_one ? 1 : majority,
                     .from = from,
                     .stamp = stamp_above(read.version, begun_hlc, key)});
  if (result.status == 409 && !last) co_return true;
  const bool hidden = result.status == 410 && Reactor::current().now() - begun < takeover_min;
  if (result.status != 201 && !hidden) refuse(batch, first, failure_of(result));
  co_return false;
}

}  // namespace gyre
