#include "cluster/scan_merge.hpp"

#include <algorithm>
#include <utility>

#include "base/assert.hpp"
#include "cluster/test_faults.hpp"

namespace gyre::cluster {

namespace {
constexpr unsigned failures_max = 2;  // in a row, without a key
// Above all of a plan.
constexpr Reluctance reluctance_of_stalled = 32;
constexpr Reluctance reluctance_of_failed = 33;
}  // namespace

ScanMerge::ScanMerge(const ScanPlan& plan, ScanMergeOptions options)
    : options_(std::move(options)),
      cover_(plan.cover()),
      reluctance_(plan.reluctance()),
      parts_(plan.parts()),
      trouble_(reluctance_.size()) {
  GYRE_ASSERT(!options_.start.empty());
}

ScanMerge::Stream* ScanMerge::find(StreamId id) const {
  const auto at = std::ranges::find_if(streams_, [&](const auto& s) { return s->id == id; });
  return at == streams_.end() ? nullptr : at->get();
}

const SlotSet& ScanMerge::slots(StreamId stream) const {
  const Stream* found = find(stream);
  GYRE_ASSERT(found != nullptr);
  return found->part.slots;
}

const std::string& ScanMerge::resume_key(StreamId stream) const {
  const Stream* found = find(stream);
  GYRE_ASSERT(found != nullptr);
  return found->resume_key;
}

size_t ScanMerge::held_bytes() const {
  size_t bytes = 0;
  for (const auto& stream : streams_) {
    for (const std::string& page : stream->pages) bytes += page.size();
  }
  return bytes;
}

// --- what happens ---------------------------------------------------------------------------------
// Only noted: a record that the driver works on points into pages.

void ScanMerge::page(StreamId stream, std::string bytes, int64_t now) {
  Stream* to = find(stream);
  if (to == nullptr || to->failed) return;
  to->silent_since = now;
  if (!bytes.empty()) to->pages.push_back(std::move(bytes));
}

void ScanMerge::ended(StreamId stream) {
  if (Stream* of = find(stream)) of->ended = true;
}

void ScanMerge::failed(StreamId stream) {
  if (Stream* of = find(stream)) of->failed = true;
}

// --- who covers what ------------------------------------------------------------------------------

// Who has failed may have been cut off by chance, and is asked again if nobody else is left.
std::vector<Reluctance> ScanMerge::reluctance(bool skip_stalled) const {
  std::vector<Reluctance> out = reluctance_;
  for (size_t node = 0; node < out.size(); ++node) {
    const NodeTrouble& trouble = trouble_[node];
    if (trouble.failures >= failures_max || (skip_stalled && trouble.stalled)) {
      out[node] = never_asked;
    }
    if (out[node] == never_asked) continue;
    if (trouble.stalled) out[node] = reluctance_of_stalled;
    if (trouble.failures != 0) out[node] = reluctance_of_failed;
  }
  return out;
}

void ScanMerge::open(std::vector<ScanPart> parts, int64_t now) {
  for (ScanPart& part : parts) {
    auto& stream = streams_.emplace_back(std::make_unique<Stream>());
    stream->id = ++last_id_;
    stream->part = std::move(part);
    // What comes right behind a key.
    stream->resume_key = position_.empty() ? options_.start : position_ + '\0';
    stream->silent_since = now;
    steps_.push_back({.what = Do::open, .stream = stream->id, .node = stream->part.node});
  }
}

// Others go on where `stream` is given up. False: nobody can.
bool ScanMerge::replace(Stream& stream, bool skip_stalled, int64_t now) {
  std::optional<std::vector<ScanPart>> parts =
      cover_.replace(stream.part, reluctance(skip_stalled));
  if (!parts) return false;
  if (cluster_test_faults.scan_drops_uncovered) parts->clear();
  steps_.push_back({.what = Do::close, .stream = stream.id, .node = stream.part.node});
  if (cluster_test_faults.scan_resumes_behind_what_came && stream.has_head) {
    position_ = stream.head.key;
  }
  std::erase_if(streams_, [&](const auto& at) { return at.get() == &stream; });
  replaced_ += parts->size();
  open(std::move(*parts), now);
  return true;
}

// --- merging --------------------------------------------------------------------------------------

// Finds the stream's next entry in its pages. False: they make no sense.
bool ScanMerge::refresh(Stream& stream, int64_t now) {
  while (!stream.has_head && !stream.pages.empty()) {
    if (!std::exchange(stream.page_open, true)) {
      stream.rest = stream.pages.front();
      stream.page_bytes = stream.rest.size();
    }
    if (stream.rest.empty()) {
      stream.pages.pop_front();
      stream.page_open = false;
      stream.silent_since = std::max(stream.silent_since, now);
      if (!stream.ended) {
        steps_.push_back({.what = Do::credit,
                          .stream = stream.id,
                          .node = stream.part.node,
                          .bytes = static_cast<uint32_t>(stream.page_bytes)});
      }
      continue;
    }
    if (!ScanEntry::take(stream.rest, stream.head)) return false;
    const bool in_order = stream.head.key > position_ && stream.head.key >= stream.resume_key;
    if (!in_order) return false;
    stream.has_head = true;
  }
  return true;
}

bool ScanMerge::is_newer(const ScanEntry& entry, const ScanEntry& than) const {
  if (cluster_test_faults.scan_keeps_first_version) return than.kind == ScanKind::passed;
  if (entry.version != than.version) return entry.version > than.version;
  // Its time came between two looks, or one keeps the value elsewhere.
  if (entry.kind == ScanKind::dead) return than.kind != ScanKind::dead;
  return entry.kind == ScanKind::value && than.kind == ScanKind::long_value;
}

// Everything up to `key` is decided.
void ScanMerge::consume(std::string_view key, int64_t now) {
  position_.assign(key);
  for (auto& stream : streams_) {
    if (!stream->has_head || stream->head.key != position_) continue;
    stream->has_head = false;
    stream->irreplaceable = false;
    trouble_[stream->part.node] = {};
    if (!refresh(*stream, now)) stream->failed = true;
  }
}

ScanMerge::Step ScanMerge::next(int64_t now) {
  if (!std::exchange(begun_, true)) {
    is_failed_ = !parts_;
    if (parts_) open(std::move(*parts_), now);
    parts_.reset();
  }
  if (std::exchange(on_record_, false)) consume(record_.key, now);
  for (;;) {
    if (is_failed_) return {.what = Do::fail};
    if (!steps_.empty()) {
      const Step step = steps_.front();
      steps_.pop_front();
      // It was given up before this was told.
      if (step.what != Do::close && find(step.stream) == nullptr) continue;
      return step;
    }
    Stream* broken = nullptr;
    Stream* stalled = nullptr;
    bool waiting = false;
    int64_t until = INT64_MAX;
    for (auto& stream : streams_) {
      if (!stream->failed && !stream->has_head && !refresh(*stream, now)) stream->failed = true;
      if (stream->failed) {
        broken = stream.get();
      } else if (!stream->has_head && !stream->ended) {
        waiting = true;
        const int64_t limit = stream->irreplaceable ? options_.patience_ns : options_.stall_max_ns;
        if (now - stream->silent_since >= limit) stalled = stream.get();
        until = std::min(until, stream->silent_since + limit);
      }
    }
    if (broken != nullptr) {
      ++trouble_[broken->part.node].failures;
      is_failed_ = !replace(*broken, false, now);
      continue;
    }
    if (stalled != nullptr) {
      if (stalled->irreplaceable) {
        is_failed_ = true;
        continue;
      }
      trouble_[stalled->part.node].stalled = true;
      if (!replace(*stalled, true, now)) stalled->irreplaceable = true;
      continue;
    }
    if (!steps_.empty()) continue;
    if (waiting) return {.what = Do::wait, .until = until};
    const Stream* least = nullptr;
    for (const auto& stream : streams_) {
      if (stream->has_head && (least == nullptr || stream->head.key < least->head.key)) {
        least = stream.get();
      }
    }
    if (least == nullptr) return {.what = Do::end};
    record_ = least->head;
    for (const auto& stream : streams_) {
      if (stream->has_head && stream->head.key == record_.key && is_newer(stream->head, record_)) {
        record_ = stream->head;
      }
    }
    const bool shows = record_.kind == ScanKind::value || record_.kind == ScanKind::long_value ||
                       (cluster_test_faults.scan_shows_dead && record_.kind == ScanKind::dead);
    if (shows) {
      on_record_ = true;
      return {.what = Do::record};
    }
    consume(std::string(record_.key), now);
  }
}

}  // namespace gyre::cluster
