// A range over the whole cluster as a pure state machine: streams of entries from nodes, each in the
// order of keys and for some slots, become one, in which every key is as a read from `ack` of its
// `from` replicas would have shown it. The driver does what next() says, until record, wait, end or
// fail, and feeds in what happens.
//
//   - Every slot is covered by streams of `ack` different nodes (ScanCover), always. A key is decided
//     when every stream has come to it or passed it: the newest version wins, a dead one hides.
//   - A stream that breaks is replaced at once: others of its slots' replicas, or the same node once
//     more, go on behind the last key that was decided. What had come of it is forgotten.
//   - A stream that is waited for and silent for `stall_max` is replaced if there are other nodes for
//     all of its slots. If not, it is waited for until `patience` is over.
//   - A slot for which nobody is left ends the range with `fail`: nothing is left out silently.
//
// Credit is given back page by page, when all of a page is decided: what is held of a stream is a
// window and what the last page exceeds it by.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cluster/scan_cover.hpp"
#include "cluster/scan_messages.hpp"

namespace gyre::cluster {

struct ScanMergeOptions {
  std::string start;  // of the range
  int64_t stall_max_ns = 500'000'000;
  int64_t patience_ns = 5'000'000'000;
};

class ScanMerge {
 public:
  using StreamId = uint32_t;
  enum class Do : uint8_t {
    open,    // a stream from `node` of slots(stream), beginning at resume_key(stream)
    close,   // forget `stream`; what still comes of it is ignored
    credit,  // `bytes` more of pages may come from `stream`
    record,  // record() is the next key of the range; the following next() goes on behind it
    wait,    // until something comes, or `until`
    end,     // the range is complete
    fail,    // it can't be completed
  };
  struct Step {
    Do what = Do::wait;
    StreamId stream = 0;
    NodeIndex node = no_node;
    uint32_t bytes = 0;
    int64_t until = 0;
  };

  // The plan's reluctance must lie below 32 or be never_asked. What it needs of the plan is copied;
  // the plan's table must outlive this. Times are of one monotonic clock, in nanoseconds.
  ScanMerge(const ScanPlan& plan, ScanMergeOptions options);

  // A page has come: whole entries; or an empty one, which only shows that the node lives.
  void page(StreamId stream, std::string bytes, int64_t now);
  // Nothing follows its pages.
  void ended(StreamId stream);
  // It broke, or could not be opened.
  void failed(StreamId stream);

  Step next(int64_t now);

  // During `record`, until next(): of kind value or long_value.
  const ScanEntry& record() const { return record_; }
  const SlotSet& slots(StreamId stream) const;
  const std::string& resume_key(StreamId stream) const;
  // Streams that were opened in place of others.
  uint64_t replaced() const { return replaced_; }
  size_t held_bytes() const;  // of pages

 private:
  struct Stream {
    StreamId id = 0;
    ScanPart part;
    std::string resume_key;
    std::deque<std::string> pages;
    size_t page_bytes = 0;  // of the first page
    std::string_view rest;  // of the first page, behind the head
    bool page_open = false;
    bool has_head = false;
    ScanEntry head;
    bool ended = false;
    bool failed = false;
    bool irreplaceable = false;  // nobody could take over from it when it stalled
    int64_t silent_since = 0;
  };
  struct NodeTrouble {
    bool stalled = false;
    uint8_t failures = 0;
  };

  Stream* find(StreamId id) const;
  void open(std::vector<ScanPart> parts, int64_t now);
  bool refresh(Stream& stream, int64_t now);
  void consume(std::string_view key, int64_t now);
  bool replace(Stream& stream, bool skip_stalled, int64_t now);
  std::vector<Reluctance> reluctance(bool skip_stalled) const;
  bool is_newer(const ScanEntry& entry, const ScanEntry& than) const;

  ScanMergeOptions options_;
  ScanCover cover_;
  std::vector<Reluctance> reluctance_;          // of the plan
  std::optional<std::vector<ScanPart>> parts_;  // of the plan, until they are opened
  std::vector<std::unique_ptr<Stream>> streams_;
  std::deque<Step> steps_;  // to be told
  std::vector<NodeTrouble> trouble_;
  StreamId last_id_ = 0;
  std::string position_;  // the last key that was decided; empty: none was
  bool on_record_ = false;
  bool begun_ = false;
  bool is_failed_ = false;
  ScanEntry record_;
  uint64_t replaced_ = 0;
};

}  // namespace gyre::cluster
