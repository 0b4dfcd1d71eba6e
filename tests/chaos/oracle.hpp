// What may be found under a key, given what was sent and what was answered.
//
//   settled   the last operation that was acknowledged, or found at a look after a start: from then
//             on it or something newer must be there
//   in doubt  operations sent after it whose answer never came: each may or may not have happened
//
// A value is made from its key and its sequence number alone, and is compared byte by byte, so a
// lost write, an older value, a mixture of two or a removed key that came back can't hide. Values
// shorter than their header are the exception: two empty ones look the same.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace gyre::chaos {

struct Operation {
  uint64_t sequence = 0;  // grows with every operation on the key
  size_t size_bytes = 0;
  bool removes = true;
};

// "KEY SEQUENCE CHECKSUM\n", then bytes that depend on both, cut to the size. Every second value
// compresses well.
std::string value_of(std::string_view key, const Operation& operation);

class KeyHistory {
 public:
  explicit KeyHistory(std::string key) : key_(std::move(key)) {}

  const std::string& key() const { return key_; }
  uint64_t sequence_next() const { return sequence_next_; }
  bool in_doubt() const { return !in_doubt_.empty(); }
  // The last operation sent and not refused.
  const Operation& last() const { return in_doubt_.empty() ? settled_ : in_doubt_.back(); }

  // In the order of the sequence numbers.
  void sent(const Operation& operation);
  void acknowledged(uint64_t sequence);
  // Refused without any effect.
  void refused(uint64_t sequence);

  // Why `found` (nothing: absent) can't be; empty if it can.
  std::string objection(const std::optional<std::string>& found) const;
  // As objection, after a start of the node: nothing is under way any more, so what was found is
  // what stays.
  std::string settle(const std::optional<std::string>& found);

 private:
  const Operation* explanation(const std::optional<std::string>& found) const;

  std::string key_;
  uint64_t sequence_next_ = 1;
  Operation settled_;  // at first: never written
  std::vector<Operation> in_doubt_;
};

}  // namespace gyre::chaos
