// The completion table fed by hand, without a kernel.
#include <doctest/doctest.h>
#include <liburing.h>

#include <deque>

#include "runtime/uring/completion_table.hpp"
#include "uring_fixture.hpp"

using namespace gyre;
using namespace gyre::uring;

namespace {
uint32_t with_buffer(uint16_t id, uint32_t flags = 0) {
  return flags | IORING_CQE_F_BUFFER | uint32_t{id} << IORING_CQE_BUFFER_SHIFT;
}
}  // namespace

TEST_CASE("a completion without F_MORE ends the operation before the owner hears of it") {
  CompletionTable table(1);
  TestOp op(OpCode::read);
  const uint64_t token = table.add(op);
  CHECK(op.in_flight);
  CHECK(table.in_flight() == 1);
  CHECK(table.feed(token, 42, 0));
  CHECK(op.ended());
  CHECK(op.result() == 42);
  CHECK(table.in_flight() == 0);
}

TEST_CASE("a second completion of an ended operation is dropped and counted") {
  CompletionTable table(1);
  TestOp op(OpCode::read);
  const uint64_t token = table.add(op);
  CHECK(table.feed(token, 1, 0));
  CHECK_FALSE(table.feed(token, 2, 0));
  CHECK(op.completions.size() == 1);
  CHECK(table.stale() == 1);
}

TEST_CASE("a late completion never reaches the next user of its slot") {
  CompletionTable table(1);
  TestOp first(OpCode::read), second(OpCode::read);
  const uint64_t old_token = table.add(first);
  CHECK(table.feed(old_token, 1, 0));
  const uint64_t new_token = table.add(second);
  CHECK(first.backend_slot == second.backend_slot);
  CHECK(old_token != new_token);
  CHECK_FALSE(table.feed(old_token, -ECANCELED, 0));
  CHECK(second.in_flight);
  CHECK(second.completions.empty());
  CHECK(table.feed(new_token, 7, 0));
  CHECK(second.result() == 7);
}

TEST_CASE("tokens that were never given out are stale") {
  CompletionTable table(1);
  CHECK_FALSE(table.feed(0, 0, 0));
  CHECK_FALSE(table.feed(uint64_t{1} << 32 | table.capacity(), 0, 0));
  CHECK_FALSE(table.feed(UINT64_MAX, 0, 0));
  CHECK(table.stale() == 3);
}

TEST_CASE("a multishot operation lives until a completion without F_MORE") {
  CompletionTable table(1);
  TestOp op(OpCode::recv);
  const uint64_t token = table.add(op);
  for (uint16_t id : {3, 65535, 0})
    CHECK(table.feed(token, 100, with_buffer(id, IORING_CQE_F_MORE)));
  CHECK(op.in_flight);
  CHECK(table.feed(token, 0, 0));
  CHECK_FALSE(op.in_flight);
  REQUIRE(op.completions.size() == 4);
  CHECK(op.completions[0].buffer == 3);
  CHECK(op.completions[1].buffer == 65535);
  CHECK(op.completions[2].buffer == 0);
  for (int i = 0; i < 3; ++i) {
    CHECK(op.completions[i].more);
    CHECK(op.completions[i].has_buffer);
  }
  CHECK_FALSE(op.completions[3].more);
  CHECK_FALSE(op.completions[3].has_buffer);
}

TEST_CASE("a multishot that a full queue ended reports its data and that it is over") {
  CompletionTable table(1);
  TestOp op(OpCode::recv);
  const uint64_t token = table.add(op);
  CHECK(table.feed(token, 512, with_buffer(9, IORING_CQE_F_MORE)));
  CHECK(table.feed(token, 512, with_buffer(10)));  // no F_MORE, and yet data
  CHECK(op.ended());
  CHECK(op.completions.back().has_buffer);
  CHECK(op.completions.back().buffer == 10);
  const uint64_t again = table.add(op);  // the receiver arms it again
  CHECK_FALSE(table.feed(token, 512, with_buffer(11, IORING_CQE_F_MORE)));
  CHECK(table.feed(again, 1, with_buffer(12)));
}

TEST_CASE("an operation that succeeded after it was cancelled reports its result") {
  CompletionTable table(1);
  TestOp op(OpCode::accept);
  const uint64_t token = table.add(op);
  op.cancel_requested = true;
  CHECK(table.feed(token, 17, IORING_CQE_F_MORE));  // a connection came first
  CHECK(op.in_flight);
  CHECK(table.feed(token, -ECANCELED, 0));
  CHECK(op.completions[0].result == 17);
  CHECK(op.result() == -ECANCELED);
  const uint64_t next = table.add(op);
  CHECK_FALSE(op.cancel_requested);
  CHECK(table.feed(next, -ECANCELED, 0));
}

TEST_CASE("an owner may submit again from its completion, also when the table grows by it") {
  struct Chain : Op {
    CompletionTable* table = nullptr;
    std::deque<TestOp>* more = nullptr;
  } op;
  CompletionTable table(1);
  std::deque<TestOp> more;
  op.code = OpCode::nop;
  op.table = &table;
  op.more = &more;
  op.on_complete = [](Op& done, Completion) noexcept {
    auto& chain = static_cast<Chain&>(done);
    for (int i = 0; i < 2000; ++i) {
      chain.more->emplace_back(OpCode::nop);
      chain.table->add(chain.more->back());
    }
  };
  CHECK(table.feed(table.add(op), 0, 0));
  CHECK(table.in_flight() == 2000);
  CHECK(table.capacity() >= 2000);
  for (TestOp& each : more) CHECK(table.feed(table.token_of(each), 5, 0));
  CHECK(table.in_flight() == 0);
  const size_t capacity = table.capacity();
  for (TestOp& each : more) table.add(each);
  CHECK(table.capacity() == capacity);  // slots come back from the free list
  for (TestOp& each : more) table.feed(table.token_of(each), 5, 0);
}

TEST_CASE("entries stay where they are while the table grows") {
  CompletionTable table(1);
  TestOp first(OpCode::send);
  table.add(first);
  CompletionTable::Entry* entry = &table.entry_of(first);
  std::deque<TestOp> others;
  for (int i = 0; i < 5000; ++i) table.add(others.emplace_back(OpCode::nop));
  CHECK(entry == &table.entry_of(first));
  size_t seen = 0;
  table.each_in_flight([&](Op&) { ++seen; });
  CHECK(seen == 5001);
  table.feed(table.token_of(first), 0, 0);
  for (TestOp& each : others) table.feed(table.token_of(each), 0, 0);
}
