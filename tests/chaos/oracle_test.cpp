// The judge of the chaos tests is itself judged: each kind of loss must be objected to.
#include "oracle.hpp"

#include <doctest/doctest.h>

namespace gyre::chaos {

namespace {

struct OneKey {
  KeyHistory history{"key"};
  Operation put(size_t size_bytes, bool acknowledge) {
    return send({history.sequence_next(), size_bytes, false}, acknowledge);
  }
  Operation remove(bool acknowledge) {
    return send({history.sequence_next(), 0, true}, acknowledge);
  }
  Operation send(Operation operation, bool acknowledge) {
    history.sent(operation);
    if (acknowledge) history.acknowledged(operation.sequence);
    return operation;
  }
  bool accepts(const Operation& operation) const {
    return history.objection(value_of("key", operation)).empty();
  }
  bool accepts_nothing() const { return history.objection(std::nullopt).empty(); }
};

}  // namespace

TEST_CASE("an acknowledged value must be there, whole") {
  OneKey key;
  CHECK(key.accepts_nothing());
  const Operation first = key.put(5000, true);
  const Operation second = key.put(5000, true);
  CHECK(key.accepts(second));
  CHECK_FALSE(key.accepts(first));
  CHECK_FALSE(key.accepts_nothing());
  std::string torn = value_of("key", second);
  torn.replace(4096, std::string::npos, value_of("key", first).substr(4096));
  CHECK_FALSE(key.history.objection(torn).empty());
  CHECK_FALSE(key.history.objection(value_of("key", second).substr(0, 4999)).empty());
  CHECK_FALSE(key.history.objection(value_of("yek", second)).empty());
}

TEST_CASE("a removed key stays removed, also when it never had a value") {
  OneKey key;
  const Operation value = key.put(0, true);
  CHECK(key.accepts(value));
  key.remove(true);
  CHECK(key.accepts_nothing());
  CHECK_FALSE(key.accepts(value));
}

TEST_CASE("without an answer both are possible, until a look after the start has shown which") {
  OneKey key;
  const Operation old = key.put(100, true);
  const Operation sent = key.put(200, false);
  key.remove(false);
  CHECK(key.history.in_doubt());
  CHECK(key.accepts(old));
  CHECK(key.accepts(sent));
  CHECK(key.accepts_nothing());
  CHECK(key.history.settle(value_of("key", sent)).empty());
  CHECK_FALSE(key.history.in_doubt());
  CHECK(key.accepts(sent));
  CHECK_FALSE(key.accepts(old));
  CHECK_FALSE(key.accepts_nothing());
}

TEST_CASE("a refused write must not have happened") {
  OneKey key;
  const Operation old = key.put(100, true);
  const Operation refused = key.put(300, false);
  key.history.refused(refused.sequence);
  CHECK_FALSE(key.history.in_doubt());
  CHECK(key.accepts(old));
  CHECK_FALSE(key.accepts(refused));
}

}  // namespace gyre::chaos
