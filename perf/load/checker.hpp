// Looks at the bytes of an answer while they come (--verify): is it the value of that key, is the
// range in order, complete and made of right records.
#pragma once

#include <string>
#include <string_view>

#include "load/ledger.hpp"
#include "load/options.hpp"
#include "load/workload.hpp"

namespace gyre::load {

class Checker {
 public:
  // `ledger` may be null: then only the values themselves are checked.
  Checker(const Options& options, Ledger* ledger) : options_(options), ledger_(ledger) {}

  void begin(const Request& request);
  void body(std::string_view bytes, bool chunk_ends);
  // What is wrong, or an empty text. Answers of 5xx and the like say nothing and are not wrong.
  std::string finish(unsigned status);

 private:
  std::string text_of(uint64_t key) const;
  std::string check_get(unsigned status) const;
  std::string check_range() const;
  void check_record();

  const Options& options_;
  Ledger* ledger_;
  Request request_;
  bool ranges_ = false;
  std::string bytes_;     // the value, or the record that is coming
  std::string previous_;  // of a range: the key before
  uint64_t records_ = 0;
  std::string wrong_;
};

}  // namespace gyre::load
