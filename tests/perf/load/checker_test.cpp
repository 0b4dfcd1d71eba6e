#include "load/checker.hpp"

#include <doctest/doctest.h>

#include <string>

namespace gyre::load {
namespace {

std::string key_of(uint64_t key) {
  std::string text(key_digits, ' ');
  write_key_digits(text.data(), key);
  return "key" + text;
}
std::string value_of(uint64_t key, uint64_t sequence = 1) {
  std::string bytes(40, ' ');
  write_value(bytes.data(), bytes.size(), key_of(key), sequence);
  return bytes;
}
std::string record_of(uint64_t key) {
  return key_of(key) + "\n" + value_of(key);
}
bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

struct Fixture {
  Options options;
  Ledger ledger{10, 7};
  Request request;
  int checked = 0;
  Fixture() {
    options.keys = 10;
    options.range_records = 3;
    request.key = 4;
  }
  std::string get(unsigned status, const std::string& body) {
    Checker checker(options, ledger);
    request.operation = Operation::get;
    checker.begin(request);
    // In two pieces, as large bodies come.
    checker.body(body.substr(0, body.size() / 2), false);
    checker.body(body.substr(body.size() / 2), false);
    const Finding finding = checker.finish(status);
    checked += finding.checked ? 1 : 0;
    return finding.wrong;
  }
  std::string range(const std::vector<std::string>& records) {
    Checker checker(options, ledger);
    request.operation = Operation::range;
    checker.begin(request);
    for (const std::string& record : records) {
      checker.body(record.substr(0, 5), false);
      checker.body(record.substr(5), true);
    }
    return checker.finish(200).wrong;
  }
};

TEST_CASE_FIXTURE(Fixture, "a value of the key is right, of another key or damaged it is wrong") {
  CHECK(get(200, value_of(4)).empty());
  CHECK(contains(get(200, value_of(5)), "fails its check"));
  CHECK(contains(get(200, ""), "fails its check"));
  CHECK(checked == 3);
  CHECK(get(503, "overloaded").empty());
  CHECK(checked == 3);  // it says nothing
}

TEST_CASE_FIXTURE(Fixture, "not found is wrong only where the key must be there") {
  CHECK(get(404, "").empty());
  CHECK(checked == 0);  // nothing is known of it
  ledger.write_ended(4, ledger.write_sent(4, false), Ledger::End::acknowledged);
  request.barrier = ledger.barrier(4);
  CHECK(contains(get(404, ""), "not found"));
  CHECK(contains(get(200, value_of(4, 6)), "old value"));
  CHECK(get(200, value_of(4, 7)).empty());
  request.barrier = 0;
  options.fill = 10;
  CHECK(contains(get(404, ""), "not found, but stored"));
  CHECK(checked == 4);
}

TEST_CASE_FIXTURE(Fixture, "a key of an earlier run is there, with a value of these settings") {
  options.filled = 5;
  options.values.low = options.values.high = 40;
  CHECK(contains(get(404, ""), "not found, but stored"));
  CHECK(get(200, value_of(4)).empty());
  options.values.high = options.values.low = 41;
  CHECK(contains(get(200, value_of(4)), "40 bytes"));
  request.key = 5;
  CHECK(get(404, "").empty());
  CHECK(get(200, value_of(5)).empty());
}

TEST_CASE_FIXTURE(Fixture, "a range is in order, inside its bounds, and of right records") {
  CHECK(range({record_of(4), record_of(5), record_of(6)}).empty());
  CHECK(range({record_of(5)}).empty());
  CHECK(contains(range({record_of(5), record_of(4)}), "comes after"));
  CHECK(contains(range({record_of(5), record_of(5)}), "comes after"));
  CHECK(contains(range({record_of(7)}), "outside"));
  CHECK(contains(range({record_of(3)}), "outside"));
  CHECK(contains(range({key_of(4) + "\n" + value_of(5)}), "fails its check"));
  CHECK(contains(range({"no newline at all"}), "newline"));
}

TEST_CASE_FIXTURE(Fixture, "of a filled set no record may be missing") {
  options.fill = 10;
  CHECK(range({record_of(4), record_of(5), record_of(6)}).empty());
  CHECK(contains(range({record_of(4), record_of(6)}), "2 records instead of 3"));
  request.key = 8;  // only two are left
  CHECK(range({record_of(8), record_of(9)}).empty());
}

}  // namespace
}  // namespace gyre::load
