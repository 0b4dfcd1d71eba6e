// How many reads may ask one replica more than they need: a share of all reads, so that slowness
// everywhere does not double the load (Dean and Barroso, "The Tail at Scale", 2013). One per core.
#pragma once

#include <cstdint>

#include "cluster/test_faults.hpp"

namespace gyre::cluster {

class HedgeBudget {
 public:
  static constexpr uint32_t reads_per_hedge = 20;    // 5 %
  static constexpr uint32_t hedges_saved_max = 100;  // what quiet times leave for a slow moment
  static constexpr uint32_t hedges_at_start = 10;

  // A read that may be hedged has begun.
  void earn() {
    if (credit_ < hedges_saved_max * reads_per_hedge) ++credit_;
  }
  // Takes one hedge; false: there is none.
  bool spend() {
    if (cluster_test_faults.hedge_without_budget) return true;
    if (credit_ < reads_per_hedge) return false;
    credit_ -= reads_per_hedge;
    return true;
  }

 private:
  uint32_t credit_ = hedges_at_start * reads_per_hedge;  // in reads
};

}  // namespace gyre::cluster
