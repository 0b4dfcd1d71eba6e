#include "base/histogram.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "base/assert.hpp"

namespace gyre {

namespace {

uint64_t power_of_ten(unsigned exponent) {
  uint64_t power = 1;
  while (exponent-- > 0) power *= 10;
  return power;
}

}  // namespace

Histogram::Histogram(uint64_t largest_value, unsigned digits)
    : largest_value_(largest_value), digits_(digits) {
  GYRE_ASSERT(digits >= 1 && digits <= 5);
  sub_bucket_count_ = std::bit_ceil(2 * power_of_ten(digits));
  half_magnitude_ = static_cast<unsigned>(std::countr_zero(sub_bucket_count_)) - 1;
  GYRE_ASSERT(largest_value <= UINT64_MAX / 2);
  uint64_t covered = sub_bucket_count_ - 1;
  bucket_count_ = 1;
  while (covered < largest_value) {
    covered = covered * 2 + 1;
    ++bucket_count_;
  }
  counts_.resize((size_t{bucket_count_} + 1) << half_magnitude_);
}

void Histogram::add(const Histogram& other) {
  if (other.counts_.size() == counts_.size() && other.sub_bucket_count_ == sub_bucket_count_) {
    for (size_t i = 0; i < counts_.size(); ++i) counts_[i] += other.counts_[i];
    total_ += other.total_;
    min_ = std::min(min_, other.min_);
    max_ = std::max(max_, other.max_);
    return;
  }
  add_scaled(other, 1);
}

void Histogram::add_scaled(const Histogram& other, uint64_t divisor) {
  other.each([&](uint64_t value, uint64_t count) {
    // The middle, but never outside of what was really recorded.
    const uint64_t middle = std::clamp(other.middle_equivalent(value), other.min(), other.max());
    record(middle / divisor, count);
  });
}

void Histogram::clear() {
  std::fill(counts_.begin(), counts_.end(), 0);
  total_ = 0;
  min_ = UINT64_MAX;
  max_ = 0;
}

uint64_t Histogram::value_at_index(size_t index) const {
  const uint64_t half = uint64_t{1} << half_magnitude_;
  if (index < sub_bucket_count_) return index;
  const uint64_t bucket = (index >> half_magnitude_) - 1;
  return ((index & (half - 1)) + half) << bucket;
}

uint64_t Histogram::lowest_equivalent(uint64_t value) const {
  const unsigned bucket = bucket_of(value);
  return value >> bucket << bucket;
}

uint64_t Histogram::highest_equivalent(uint64_t value) const {
  return lowest_equivalent(value) + (uint64_t{1} << bucket_of(value)) - 1;
}

uint64_t Histogram::middle_equivalent(uint64_t value) const {
  return lowest_equivalent(value) + (uint64_t{1} << bucket_of(value)) / 2;
}

double Histogram::mean() const {
  if (empty()) return 0;
  double sum = 0;
  each([&](uint64_t value, uint64_t count) {
    sum += static_cast<double>(middle_equivalent(value)) * static_cast<double>(count);
  });
  return sum / static_cast<double>(total_);
}

double Histogram::standard_deviation() const {
  if (empty()) return 0;
  const double middle = mean();
  double sum = 0;
  each([&](uint64_t value, uint64_t count) {
    const double distance = static_cast<double>(middle_equivalent(value)) - middle;
    sum += distance * distance * static_cast<double>(count);
  });
  return std::sqrt(sum / static_cast<double>(total_));
}

uint64_t Histogram::at_percentile(double percent) const {
  if (empty()) return 0;
  const double share = std::clamp(percent, 0.0, 100.0) / 100 * static_cast<double>(total_);
  const uint64_t wanted = std::max<uint64_t>(1, static_cast<uint64_t>(share + 0.5));
  uint64_t seen = 0;
  for (size_t i = 0; i < counts_.size(); ++i) {
    seen += counts_[i];
    if (seen >= wanted) return highest_equivalent(value_at_index(i));
  }
  return highest_equivalent(max_);
}

uint64_t Histogram::count_above(uint64_t value) const {
  uint64_t above = 0;
  each([&](uint64_t lowest, uint64_t count) {
    if (lowest > value) above += count;
  });
  return above;
}

double Histogram::percent_within_deviation() const {
  if (empty()) return 0;
  const double middle = mean();
  const double deviation = standard_deviation();
  // Truncated towards zero, as there.
  const auto upper = static_cast<int64_t>(middle + deviation);
  const auto lower = static_cast<int64_t>(middle - deviation);
  uint64_t seen = 0;
  uint64_t below = 0;
  uint64_t up_to = total_;
  for (size_t i = 0; i < counts_.size() && seen < total_; ++i) {
    seen += counts_[i];
    const auto lowest = static_cast<int64_t>(value_at_index(i));
    if (lower > lowest) below = seen;
    if (upper < static_cast<int64_t>(highest_equivalent(value_at_index(i)))) {
      up_to = seen;
      break;
    }
  }
  return 100.0 * static_cast<double>(up_to - below) / static_cast<double>(total_);
}

std::vector<PercentileRow> percentile_rows(const Histogram& histogram, unsigned ticks) {
  std::vector<PercentileRow> rows;
  const uint64_t total = histogram.total();
  double percent = 0;  // the step that waits for a row
  uint64_t seen = 0;
  uint64_t value = 0;
  for (size_t i = 0; i < histogram.counter_count() && seen < total; ++i) {
    const uint64_t count = histogram.count_at_index(i);
    if (count == 0) continue;
    seen += count;
    value = histogram.highest_equivalent(histogram.value_at_index(i));
    const double reached = 100.0 * static_cast<double>(seen) / static_cast<double>(total);
    while (percent <= reached) {
      rows.push_back({value, percent / 100, seen});
      const auto halvings = static_cast<int64_t>(std::log2(100 / (100.0 - percent)));
      percent += 100.0 / (ticks * std::ldexp(1.0, static_cast<int>(halvings) + 1));
      if (seen == total) break;  // one row for the largest value, then the last
    }
  }
  rows.push_back({value, 1, seen});
  return rows;
}

std::string percentile_text(const Histogram& histogram, double unit, unsigned ticks,
                            bool lowest_max) {
  std::string text = fmt::format("{:>12} {:>12} {:>12} {:>12}\n\n", "Value", "Percentile",
                                 "TotalCount", "1/(1-Percentile)");
  for (const PercentileRow& row : percentile_rows(histogram, ticks)) {
    const double inverse =
        row.percentile < 1 ? 1 / (1 - row.percentile) : std::numeric_limits<double>::infinity();
    text += fmt::format("{:12.{}f} {:12f} {:12} {:>12.2f}\n", static_cast<double>(row.value) / unit,
                        histogram.digits(), row.percentile, row.count, inverse);
  }
  const uint64_t max = lowest_max ? histogram.lowest_equivalent(histogram.max())
                                  : histogram.highest_equivalent(histogram.max());
  text += fmt::format(
      "#[Mean    = {:12.3f}, StdDeviation   = {:12.3f}]\n"
      "#[Max     = {:12.3f}, Total count    = {:12}]\n"
      "#[Buckets = {:12}, SubBuckets     = {:12}]\n",
      histogram.mean() / unit, histogram.standard_deviation() / unit,
      histogram.empty() ? 0 : static_cast<double>(max) / unit, histogram.total(),
      histogram.bucket_count(), histogram.sub_bucket_count());
  return text;
}

namespace {

void put_big_endian(std::string& out, uint64_t value, unsigned bytes) {
  for (unsigned i = bytes; i-- > 0;) out.push_back(static_cast<char>(value >> (8 * i)));
}

// 7 bits a byte, low ones first; the ninth byte has all 8.
void put_zigzag(std::string& out, int64_t value) {
  auto rest = (static_cast<uint64_t>(value) << 1) ^ static_cast<uint64_t>(value >> 63);
  for (int i = 0; i < 8 && rest >= 0x80; ++i) {
    out.push_back(static_cast<char>(rest | 0x80));
    rest >>= 7;
  }
  out.push_back(static_cast<char>(rest));
}

std::string base64(std::string_view bytes) {
  static constexpr char digits[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t group = 0;
    const size_t size = std::min<size_t>(3, bytes.size() - i);
    for (size_t k = 0; k < 3; ++k) {
      group = group << 8 | (k < size ? static_cast<uint8_t>(bytes[i + k]) : 0u);
    }
    for (size_t k = 0; k < 4; ++k) {
      out.push_back(k <= size ? digits[group >> (18 - 6 * k) & 63] : '=');
    }
  }
  return out;
}

}  // namespace

std::string encode_base64(const Histogram& histogram) {
  size_t end = 0;  // behind the last counter that is not 0
  for (size_t i = 0; i < histogram.counter_count(); ++i) {
    if (histogram.count_at_index(i) != 0) end = i + 1;
  }
  std::string payload;
  for (size_t i = 0; i < end;) {
    if (const uint64_t count = histogram.count_at_index(i); count != 0) {
      put_zigzag(payload, static_cast<int64_t>(count));
      ++i;
      continue;
    }
    const size_t from = i;
    while (i < end && histogram.count_at_index(i) == 0) ++i;
    const auto zeros = static_cast<int64_t>(i - from);
    put_zigzag(payload, zeros == 1 ? 0 : -zeros);
  }
  std::string out;
  put_big_endian(out, 0x1c849313, 4);
  put_big_endian(out, payload.size(), 4);
  put_big_endian(out, 0, 4);
  put_big_endian(out, histogram.digits(), 4);
  put_big_endian(out, 1, 8);
  put_big_endian(out, histogram.largest_value(), 8);
  put_big_endian(out, std::bit_cast<uint64_t>(1.0), 8);
  return base64(out + payload);
}

}  // namespace gyre
