// A histogram of durations or sizes with a fixed relative precision (the High Dynamic Range layout
// by Gil Tene): recording is a shift and an increment, memory is fixed, merging is addition.
//
// Values below `sub_buckets` have a counter each; every further power of two is divided into
// sub_buckets / 2 counters, so that a counter's width is at most 1/1000 of its values for 3
// significant digits (2048 sub-buckets):
//
//   index   0 ........ 2047 | 2048 ... 3071 | 3072 ... 4095 | ...
//   value   0 ........ 2047 | 2048 ... 4095 | 4096 ... 8191 | ...
//   width          1        |       2       |       4       | ...
//
// A value that was recorded is known afterwards only as its counter's range [lowest, highest];
// percentiles answer `highest`, mean and deviation use the middle, as the format's other
// implementations do. Values above the largest are counted in the last counter.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace gyre {

class Histogram {
 public:
  // Values 0 … largest_value at least, with `digits` (1 to 5) significant decimal digits.
  explicit Histogram(uint64_t largest_value, unsigned digits = 3);

  void record(uint64_t value, uint64_t count = 1) {
    size_t index = index_of(value);
    if (index >= counts_.size()) index = counts_.size() - 1;
    counts_[index] += count;
    total_ += count;
    if (value < min_) min_ = value;
    if (value > max_) max_ = value;
  }
  // Adds what `other` holds; its layout may differ, then its counters count as their middles.
  void add(const Histogram& other);
  // Adds what `other` holds, with every value divided by `divisor`.
  void add_scaled(const Histogram& other, uint64_t divisor);
  void clear();

  uint64_t total() const { return total_; }
  bool empty() const { return total_ == 0; }
  // Exact while everything was recorded here or merged from the same layout; 0 when empty.
  uint64_t min() const { return empty() ? 0 : min_; }
  uint64_t max() const { return max_; }
  double mean() const;
  double standard_deviation() const;
  // The smallest counter's highest value that at least `percent` % of all values don't exceed.
  // 0 when empty.
  uint64_t at_percentile(double percent) const;
  // How many values are in counters that begin above `value`.
  uint64_t count_above(uint64_t value) const;
  // Percent of the values within one standard deviation of the mean, as wrk2 counts them.
  double percent_within_deviation() const;

  uint64_t lowest_equivalent(uint64_t value) const;
  uint64_t highest_equivalent(uint64_t value) const;
  uint64_t middle_equivalent(uint64_t value) const;

  unsigned digits() const { return digits_; }
  uint64_t largest_value() const { return largest_value_; }
  unsigned bucket_count() const { return bucket_count_; }
  uint64_t sub_bucket_count() const { return sub_bucket_count_; }
  size_t counter_count() const { return counts_.size(); }
  uint64_t count_at_index(size_t index) const { return counts_[index]; }
  uint64_t value_at_index(size_t index) const;  // the counter's lowest

  // Calls visit(lowest value, count) for every counter that is not 0, in ascending order.
  template <class Visit>
  void each(Visit visit) const {
    if (empty()) return;
    // Values above the largest lie in the last counter, whatever their index would be.
    const size_t first = index_of(min_) < counts_.size() ? index_of(min_) : counts_.size() - 1;
    for (size_t i = first; i < counts_.size() && i <= index_of(max_); ++i) {
      if (counts_[i] != 0) visit(value_at_index(i), counts_[i]);
    }
  }

 private:
  size_t index_of(uint64_t value) const {
    const unsigned bucket = bucket_of(value);
    return (size_t{bucket} << half_magnitude_) + (value >> bucket);
  }
  // How often the value has to be halved to fit into the sub-buckets.
  unsigned bucket_of(uint64_t value) const {
    return 64 - half_magnitude_ - 1 -
           static_cast<unsigned>(__builtin_clzll(value | (sub_bucket_count_ - 1)));
  }

  uint64_t largest_value_;
  unsigned digits_;
  unsigned half_magnitude_;    // log2 of half the sub-buckets
  uint64_t sub_bucket_count_;  // a power of two
  unsigned bucket_count_;
  std::vector<uint64_t> counts_;
  uint64_t total_ = 0;
  uint64_t min_ = UINT64_MAX;
  uint64_t max_ = 0;
};

// One row of the percentile spectrum.
struct PercentileRow {
  uint64_t value;     // highest of its counter
  double percentile;  // 0 … 1, the step that this row stands for
  uint64_t count;     // values up to here
};
// Rows at steps that halve their distance to 1 each time, `ticks` per halving, until the largest
// value is reached, and a last one for 1.
std::vector<PercentileRow> percentile_rows(const Histogram& histogram, unsigned ticks = 5);

// The text of an .hgrm file, and of wrk2's "Detailed Percentile spectrum": values divided by
// `unit`. `lowest_max` prints the maximum as its counter's lowest value, as wrk2 does, instead of
// its highest.
std::string percentile_text(const Histogram& histogram, double unit, unsigned ticks = 5,
                            bool lowest_max = false);

// The V2 encoding (uncompressed) in base64: what HistogramLogReader and its kin decode.
//   cookie 0x1c849313 | payload bytes | 0 | digits | lowest 1 (8) | highest (8) | 1.0 (8)
//   payload: counters as ZigZag LEB128; a negative one is a run of zeros
std::string encode_base64(const Histogram& histogram);

}  // namespace gyre
