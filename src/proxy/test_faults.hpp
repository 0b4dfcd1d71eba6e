// Bugs that a test can plant in the proxy, to show that the suite would find them:
// tests/proxy/front_planted_bugs_test lists them with what catches each. All are off and nothing but
// a test sets them.
#pragma once

namespace gyre::proxy {

struct ProxyTestFaults {
  bool drop_invalidation = false;      // Redis says that a key has changed, and nothing happens
  bool late_fill_lands = false;        // a value is remembered though its key was invalidated since
  bool overtaken_fill_lands = false;   // … or a client of ours has written it
  bool old_fill_beside_fetch = false;  // … or is found while others wait for a later fetch of it
  bool keep_after_loss = false;        // what a lost connection tracked is still believed
  bool forget_write = false;           // a write is answered before its keys are invalidated
  bool forget_exec = false;            // … or the keys of a transaction
  bool answer_out_of_turn = false;     // what is answered at once overtakes what waits
  bool read_past_write = false;        // a read does not wait for an earlier write of its key
  bool transaction_survives_loss = false;   // its rest is carried out by itself
  bool transaction_begins_unasked = false;  // … though Redis could not be asked to begin it
  bool subscribe_ends_early = false;        // what follows is answered before a subscription is
  bool keep_lost_subscriber = false;        // who may have missed messages isn't told
};

inline ProxyTestFaults proxy_test_faults;

}  // namespace gyre::proxy
