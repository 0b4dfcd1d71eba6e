#include "load/checker.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace gyre::load {

namespace {
// The largest value that can be asked for, and in a range the key before it.
constexpr size_t bytes_max = (16u << 20) + 1024;
}  // namespace

void Checker::begin(const Request& request) {
  request_ = request;
  ranges_ = request.operation == Operation::range;
  bytes_.clear();
  previous_.clear();
  wrong_.clear();
  records_ = 0;
}

void Checker::body(std::string_view bytes, bool chunk_ends) {
  if (!ranges_ && request_.operation != Operation::get) return;
  if (bytes_.size() + bytes.size() > bytes_max) {  // and a server may send for ever
    wrong_ = "more bytes than any value has";
    return bytes_.clear();
  }
  bytes_.append(bytes);
  if (ranges_ && chunk_ends) {
    check_record();
    bytes_.clear();
  }
}

std::string Checker::text_of(uint64_t key) const {
  char digits[key_digits];
  write_key_digits(digits, key);
  return options_.prefix + std::string(digits, key_digits);
}

void Checker::check_record() {
  if (!wrong_.empty()) return;
  ++records_;
  const std::string_view record = bytes_;
  const size_t newline = record.find('\n');
  if (newline == std::string_view::npos) {
    wrong_ = "a record without a newline behind its key";
    return;
  }
  const std::string_view key = record.substr(0, newline);
  if (key < text_of(request_.key) || key >= text_of(request_.key + options_.range_records)) {
    wrong_ = fmt::format("the record {} lies outside of the range", key);
  } else if (!previous_.empty() && key <= previous_) {
    wrong_ = fmt::format("the record {} comes after {}", key, previous_);
  } else if (!check_value(key, record.substr(newline + 1)).right) {
    wrong_ = fmt::format("the value of {} fails its check", key);
  }
  previous_ = key;
}

Finding Checker::check_get(unsigned status) const {
  if (status == 404) {
    if (options_.stays(request_.key)) return {.checked = true, .wrong = "not found, but stored"};
    if (!ledger_.may_be_absent(request_.key, request_.barrier)) {
      return {.checked = true, .wrong = "not found, but stored and not deleted"};
    }
    return {};  // as nothing was known of the key, nothing was checked
  }
  if (status != 200) return {.checked = true, .wrong = fmt::format("answered {}", status)};
  return {.checked = true, .wrong = check_value_of_get()};
}

std::string Checker::check_value_of_get() const {
  if (!wrong_.empty()) return wrong_;
  const ValueCheck check = check_value(text_of(request_.key), bytes_);
  if (!check.right) return fmt::format("the value ({} bytes) fails its check", bytes_.size());
  const ValueSizes& sizes = options_.values;
  if (options_.stays(request_.key) &&
      (bytes_.size() < sizes.smallest() || bytes_.size() > sizes.high)) {
    return fmt::format("the value has {} bytes, as none that was stored", bytes_.size());
  }
  if (!ledger_.may_be(request_.key, request_.barrier, check.sequence)) {
    return "an old value, although a newer one had been acknowledged";
  }
  return {};
}

Finding Checker::check_range(unsigned status) const {
  if (status != 200) return {.checked = true, .wrong = fmt::format("answered {}", status)};
  if (!wrong_.empty()) return {.checked = true, .wrong = wrong_};
  if (!bytes_.empty()) return {.checked = true, .wrong = "bytes that are not a chunked record"};
  uint64_t expected = 0;
  if (options_.stays(request_.key)) {
    expected = std::min(options_.range_records, options_.stored() - request_.key);
  }
  Finding finding{.checked = records_ + expected > 0, .wrong = {}};
  if (records_ < expected) {
    finding.wrong = fmt::format("{} records instead of {}", records_, expected);
  }
  return finding;
}

Finding Checker::finish(unsigned status) {
  Finding finding;
  if (request_.operation == Operation::get && (status < 400 || status == 404)) {
    finding = check_get(status);
  } else if (ranges_ && status < 400) {
    finding = check_range(status);
  }
  if (!finding.wrong.empty()) {
    finding.wrong = fmt::format("{} {}: {}", to_string(request_.operation), text_of(request_.key),
                                finding.wrong);
  }
  return finding;
}

}  // namespace gyre::load
