// Looks at the bytes of an answer while they come (--verify): is it the value of that key, is the
// range in order, complete and made of right records.
#pragma once

#include <string>
#include <string_view>

#include "load/ledger.hpp"
#include "load/options.hpp"
#include "load/workload.hpp"

namespace gyre::load {

struct Finding {
  bool checked = false;  // there was something that could have been wrong
  std::string wrong;     // what is wrong, or empty
};

class Checker {
 public:
  Checker(const Options& options, Ledger& ledger) : options_(options), ledger_(ledger) {}

  void begin(const Request& request);
  void body(std::string_view bytes, bool chunk_ends);
  // Answers of 5xx and the like, and those to writes, say nothing that could be checked.
  Finding finish(unsigned status);

 private:
  std::string text_of(uint64_t key) const;
  Finding check_get(unsigned status) const;
  std::string check_value_of_get() const;
  Finding check_range(unsigned status) const;
  void check_record();

  const Options& options_;
  Ledger& ledger_;
  Request request_;
  bool ranges_ = false;
  std::string bytes_;     // the value, or the record that is coming
  std::string previous_;  // of a range: the key before
  uint64_t records_ = 0;
  std::string wrong_;
};

}  // namespace gyre::load
