// What was settled (Handoff::settled_before) all through the last while, not only now: the least value
// in that time. A copy that was read from a replica before that had a tombstone may be on its way for
// so long, whatever the tombstone's own age: it may have come to the last replica only now.
//
// Looked at now and then, it takes a value to hold until the next one: a core that stood still does
// not count the time as settled. Up to 18 spans of a sixteenth of the length.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>

#include <gyre/backend.hpp>

namespace gyre::cluster {

class SettledWindow {
 public:
  explicit SettledWindow(Nanos length) : length_(length) {}

  // What is settled from now on.
  void add(Nanos now, uint64_t settled_before) {
    if (spans_.empty() || now - spans_.back().begun >= length_ / 16) {
      spans_.push_back({now, settled_before});
    } else {
      lower(settled_before);
    }
    while (spans_.size() > 1 && spans_[1].begun <= now - length_) spans_.pop_front();
  }
  // Something has come that is not settled.
  void lower(uint64_t settled_before) {
    if (!spans_.empty()) spans_.back().least = std::min(spans_.back().least, settled_before);
  }
  // 0: it was not looked at for so long yet.
  uint64_t least(Nanos now) const {
    if (spans_.empty() || spans_.front().begun > now - length_) return 0;
    return std::ranges::min(spans_, {}, &Span::least).least;
  }

 private:
  struct Span {
    Nanos begun = 0;
    uint64_t least = 0;
  };

  Nanos length_;
  std::deque<Span> spans_;
};

}  // namespace gyre::cluster
