// What clients did to a cluster and what they were told, and what of that can't be.
//
// Every write has a value that no other has, and every answer names a version; versions are totally
// ordered. With ack_w + ack_r > from, last write wins promises:
//   - a read that began after a write was acknowledged returns that write, or a newer version
//   - of two reads, one after the other, the later one does not return an older version, nor a value
//     again after it was seen to be gone
//   - a write that began after another was acknowledged gets a greater version
//   - a version has one value, and a value that is read was sent before, to this key
// A write that was not answered, or with 504 or 500, may have happened, now or later; one that was
// refused with 503 has not.
//
// Events are checked per key in O(n log n), after the run. A write may have been stamped a second
// time before it was acknowledged, so reads may see its value under a smaller version than the
// acknowledged one, never under a greater.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace gyre::chaos {

enum class Outcome : uint8_t { acknowledged, unknown, refused };

struct QuorumWrite {
  unsigned key = 0;
  uint64_t value = 0;  // unique; 0: a removal
  int64_t begun = 0;   // of one clock for all clients, ns
  int64_t ended = 0;
  Outcome outcome = Outcome::unknown;
  std::string version;  // if acknowledged; the order of the text is that of versions
};

// One that was answered with 200 or 404.
struct QuorumRead {
  unsigned key = 0;
  std::optional<uint64_t> value;  // nothing: absent
  int64_t begun = 0;
  int64_t ended = 0;
  std::string version;  // "" if absent
};

class QuorumHistory {
 public:
  void add(const QuorumWrite& write) { keys_[write.key].writes.push_back(write); }
  void add(const QuorumRead& read) { keys_[read.key].reads.push_back(read); }
  void add(const QuorumHistory& other);

  size_t acknowledged() const;
  size_t unknown() const;
  size_t reads() const;
  // How many acknowledged writes what is found now (as QuorumRead) proves to be lost: it has an older
  // version, or nothing is there and no removal can have done it.
  size_t lost(const std::vector<QuorumRead>& found) const;
  // Every violation, as a line. Empty: there is none.
  std::vector<std::string> violations() const;

 private:
  struct OfKey {
    std::vector<QuorumWrite> writes;
    std::vector<QuorumRead> reads;
  };
  static void check_key(unsigned key, const OfKey& events, std::vector<std::string>& out);

  std::map<unsigned, OfKey> keys_;
};

}  // namespace gyre::chaos
