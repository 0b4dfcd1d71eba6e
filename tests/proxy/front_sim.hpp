// A seeded run of the proxy's RESP side: the whole proxy on two cores in front of a model of Redis,
// several clients that send pipelines of reads, writes, transactions, blocking commands and
// subscriptions, somebody who writes straight to Redis, and trouble: connections that are cut, Redis
// slow, silent, gone and back, clients that leave in the middle.
//
// What is checked:
//   - every command is answered, once, in its place
//   - who wrote reads what it wrote or something newer; no client sees a key go back
//   - no answer is older than what the link to Redis can take to tell of a change
//   - once nobody writes any more, every key is answered as Redis has it
//   - transactions are carried out whole or not at all, WATCH lets no update be lost, counters give
//     every number once, an element of a list comes to one client
//   - a subscriber that stays connected hears every message, once, in order
//   - nothing is left over: connections, tasks, descriptors
#pragma once

#include <cstdint>
#include <string>

namespace gyre::test {

struct FrontRun {
  std::string wrong;      // the first thing that was; "": nothing
  uint64_t answers = 0;   // as Redis would give them
  uint64_t failures = 0;  // that say that Redis, or its answer, could not be had
  uint64_t hits = 0;
  uint64_t transactions = 0;
  uint64_t messages = 0;
};

// `directed`: a case that chance hardly ever comes to, instead.
FrontRun run_front(uint64_t seed, bool directed = false);

}  // namespace gyre::test
