// Checked against published examples of the format: the spectrum in wrk2's README (its own
// histogram printed it), and the numbers that HdrHistogram_c's tests state.
#include "base/histogram.hpp"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cmath>
#include <sstream>
#include <string>
#include <vector>

namespace gyre {
namespace {

constexpr uint64_t day_us = 86'400'000'000;

struct Row {
  std::string value, percentile, count, inverse;
};

// wrk2's README, "Detailed Percentile spectrum": milliseconds, percentile, count, 1/(1-percentile).
constexpr const char* published_rows = R"(0.921 0.000000 1 1.00
4.053 0.100000 3951 1.11
4.935 0.200000 7921 1.25
5.627 0.300000 11858 1.43
6.179 0.400000 15803 1.67
6.671 0.500000 19783 2.00
6.867 0.550000 21737 2.22
7.079 0.600000 23733 2.50
7.287 0.650000 25698 2.86
7.519 0.700000 27659 3.33
7.783 0.750000 29644 4.00
7.939 0.775000 30615 4.44
8.103 0.800000 31604 5.00
8.271 0.825000 32597 5.71
8.503 0.850000 33596 6.67
8.839 0.875000 34571 8.00
9.015 0.887500 35070 8.89
9.143 0.900000 35570 10.00
9.335 0.912500 36046 11.43
9.575 0.925000 36545 13.33
9.791 0.937500 37032 16.00
9.903 0.943750 37280 17.78
10.015 0.950000 37543 20.00
10.087 0.956250 37795 22.86
10.167 0.962500 38034 26.67
10.279 0.968750 38268 32.00
10.343 0.971875 38390 35.56
10.439 0.975000 38516 40.00
10.535 0.978125 38636 45.71
10.647 0.981250 38763 53.33
10.775 0.984375 38884 64.00
10.887 0.985938 38951 71.11
11.007 0.987500 39007 80.00
11.135 0.989062 39070 91.43
11.207 0.990625 39135 106.67
11.263 0.992188 39193 128.00
11.303 0.992969 39226 142.22
11.335 0.993750 39255 160.00
11.367 0.994531 39285 182.86
11.399 0.995313 39319 213.33
11.431 0.996094 39346 256.00
11.455 0.996484 39365 284.44
11.471 0.996875 39379 320.00
11.495 0.997266 39395 365.71
11.535 0.997656 39408 426.67
11.663 0.998047 39423 512.00
11.703 0.998242 39431 568.89
11.743 0.998437 39439 640.00
11.807 0.998633 39447 731.43
12.271 0.998828 39454 853.33
12.311 0.999023 39463 1024.00
12.327 0.999121 39467 1137.78
12.343 0.999219 39470 1280.00
12.359 0.999316 39473 1462.86
12.375 0.999414 39478 1706.67
12.391 0.999512 39482 2048.00
12.399 0.999561 39484 2275.56
12.407 0.999609 39486 2560.00
12.415 0.999658 39489 2925.71
12.415 0.999707 39489 3413.33
12.423 0.999756 39491 4096.00
12.431 0.999780 39493 4551.11
12.431 0.999805 39493 5120.00
12.439 0.999829 39495 5851.43
12.439 0.999854 39495 6826.67
12.447 0.999878 39496 8192.00
12.447 0.999890 39496 9102.22
12.455 0.999902 39497 10240.00
12.455 0.999915 39497 11702.86
12.463 0.999927 39498 13653.33
12.463 0.999939 39498 16384.00
12.463 0.999945 39498 18204.44
12.479 0.999951 39499 20480.00
12.479 0.999957 39499 23405.71
12.479 0.999963 39499 27306.67
12.479 0.999969 39499 32768.00
12.479 0.999973 39499 36408.89
12.503 0.999976 39500 40960.00
12.503 1.000000 39500 inf
)";

std::vector<Row> published() {
  std::vector<Row> rows;
  std::istringstream lines(published_rows);
  for (Row row; lines >> row.value >> row.percentile >> row.count >> row.inverse;) {
    rows.push_back(row);
  }
  return rows;
}

TEST_CASE("a published spectrum comes out of its own values again") {
  Histogram histogram(day_us);
  uint64_t before = 0;
  for (const Row& row : published()) {
    const uint64_t count = std::stoull(row.count) - before;
    before += count;
    if (count > 0) {
      histogram.record(static_cast<uint64_t>(std::llround(std::stod(row.value) * 1000)), count);
    }
  }
  std::string expected = "       Value   Percentile   TotalCount 1/(1-Percentile)\n\n";
  for (const Row& row : published()) {
    expected += fmt::format("{:>12} {:>12} {:>12} {:>12}\n", row.value, row.percentile, row.count,
                            row.inverse);
  }
  const std::string text = percentile_text(histogram, 1000.0, 5, true);
  CHECK(text.substr(0, text.find('#')) == expected);
  // The footer names 12.496 beside the 12.503 of the last row: the counter's two ends.
  CHECK(text.find("#[Max     =       12.496, Total count    =        39500]\n"
                  "#[Buckets =           27, SubBuckets     =         2048]\n") !=
        std::string::npos);
  CHECK(percentile_text(histogram, 1000.0).find("#[Max     =       12.503,") != std::string::npos);
}

// 10,000 values of 1,000 and one of 100,000,000; and the same as an open loop would have seen it,
// with a value every 10,000.
Histogram raw_example(uint64_t scale = 1) {
  Histogram histogram(3'600'000'000 * scale);
  histogram.record(1000 * scale, 10'000);
  histogram.record(100'000'000 * scale);
  return histogram;
}
Histogram corrected_example() {
  Histogram histogram = raw_example();
  for (uint64_t value = 100'000'000 - 10'000; value >= 10'000; value -= 10'000) {
    histogram.record(value);
  }
  return histogram;
}

TEST_CASE("the layout has the size that the format gives it") {
  CHECK(Histogram(3'600'000'000).counter_count() == 23'552);
  CHECK(Histogram(day_us).bucket_count() == 27);
  CHECK(Histogram(day_us).sub_bucket_count() == 2048);
}

TEST_CASE("percentiles of the published examples") {
  const Histogram raw = raw_example();
  CHECK(raw.total() == 10'001);
  CHECK(raw.min() == 1000);
  CHECK(raw.max() == 100'000'000);
  for (double percent : {30.0, 99.0, 99.99}) CHECK(raw.at_percentile(percent) == 1000);
  for (double percent : {99.999, 100.0}) {
    CHECK(raw.at_percentile(percent) == raw.highest_equivalent(100'000'000));
  }
  const Histogram corrected = corrected_example();
  CHECK(corrected.total() == 20'000);
  CHECK(corrected.at_percentile(50) == 1000);
  const auto near = [&](double percent, double value) {
    return std::abs(static_cast<double>(corrected.at_percentile(percent)) - value) < value / 1000;
  };
  CHECK(near(75, 50e6));
  CHECK(near(90, 80e6));
  CHECK(near(99, 98e6));
  CHECK(near(99.999, 100e6));
}

TEST_CASE("every counter's range holds the values that are counted in it") {
  const Histogram histogram(day_us);
  for (size_t i = 1; i < histogram.counter_count(); ++i) {
    const uint64_t lowest = histogram.value_at_index(i);
    REQUIRE(lowest == histogram.highest_equivalent(histogram.value_at_index(i - 1)) + 1);
    REQUIRE(histogram.lowest_equivalent(histogram.highest_equivalent(lowest)) == lowest);
    // Three digits: the range is at most a thousandth of the value.
    REQUIRE((histogram.highest_equivalent(lowest) - lowest) * 1000 <= lowest);
  }
  CHECK(histogram.value_at_index(histogram.counter_count() - 1) >= day_us / 2);
}

TEST_CASE("mean and deviation are those of the values") {
  Histogram histogram(1'000'000);
  for (uint64_t value : {2, 4, 4, 4, 5, 5, 7, 9}) histogram.record(value);
  CHECK(histogram.mean() == 5);
  CHECK(histogram.standard_deviation() == 2);
  CHECK(histogram.percent_within_deviation() == doctest::Approx(100.0 * 6 / 8));
}

TEST_CASE("merging is as if all had been recorded in one") {
  Histogram one(day_us), other(day_us), both(day_us);
  for (uint64_t i = 0; i < 10'000; ++i) {
    const uint64_t value = i * i * 37 % 50'000'000;
    (i % 3 == 0 ? one : other).record(value);
    both.record(value);
  }
  one.add(other);
  CHECK(percentile_text(one, 1) == percentile_text(both, 1));
  CHECK(one.min() == both.min());
  CHECK(one.max() == both.max());
}

TEST_CASE("nanoseconds become microseconds at the end") {
  Histogram nanoseconds(day_us * 1000), microseconds(day_us);
  for (uint64_t us = 1; us < 200'000; us += 7) {
    nanoseconds.record(us * 1000);
    microseconds.record(us);
  }
  Histogram converted(day_us);
  converted.add_scaled(nanoseconds, 1000);
  CHECK(converted.total() == microseconds.total());
  for (double percent : {1.0, 50.0, 90.0, 99.0, 99.9, 100.0}) {
    const auto a = static_cast<double>(converted.at_percentile(percent));
    const auto b = static_cast<double>(microseconds.at_percentile(percent));
    CHECK(std::abs(a - b) <= std::max(1.0, b / 500));
  }
  CHECK(converted.min() == 1);
}

TEST_CASE("an empty histogram answers zero everywhere") {
  const Histogram histogram(day_us);
  CHECK(histogram.at_percentile(99) == 0);
  CHECK(histogram.min() == 0);
  CHECK(histogram.max() == 0);
  CHECK(histogram.mean() == 0);
  CHECK(histogram.standard_deviation() == 0);
  CHECK(histogram.percent_within_deviation() == 0);
  CHECK(percentile_rows(histogram).size() == 1);
}

TEST_CASE("values above the largest are counted, not lost") {
  Histogram histogram(10'000);
  histogram.record(5);
  histogram.record(1'000'000'000);
  CHECK(histogram.total() == 2);
  CHECK(histogram.max() == 1'000'000'000);
  CHECK(histogram.at_percentile(100) >= 10'000);
  uint64_t seen = 0;
  histogram.each([&](uint64_t, uint64_t count) { seen += count; });
  CHECK(seen == 2);
  CHECK(histogram.count_above(5) == 1);
}

TEST_CASE("the base64 text has the V2 header and its counters") {
  Histogram histogram(3'600'000'000);
  histogram.record(0);
  histogram.record(3, 200);
  // Header: cookie, 4 payload bytes, no offset, 3 digits, 1, 3.6e9, 1.0; then 1, two zeros, 200.
  CHECK(encode_base64(histogram) == "HISTEwAAAAQAAAAAAAAAAwAAAAAAAAABAAAAANaTpAA/8AAAAAAAAAIDkAM=");
}

}  // namespace
}  // namespace gyre
