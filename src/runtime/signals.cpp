#include <algorithm>

#include <gyre/reactor.hpp>
#include <gyre/signals.hpp>

#include "base/assert.hpp"

namespace gyre {

Signals::Signals() {
  op_.code = OpCode::signal;
  op_.on_complete = &Signals::completed;
  Reactor::current().submit(op_);
}

Signals::~Signals() {
  GYRE_ASSERT(!op_.in_flight);
}

void Signals::completed(Op& op, Completion completion) noexcept {
  Signals& self = static_cast<OwnOp&>(op).signals;
  if (completion.result > 0 && self.kept_count_ < kept_max) {
    self.kept_[self.kept_count_++] = completion.result;
  }
  if (!completion.more) self.end_error_ = -std::min(completion.result, 0);
  self.changed_.set();
}

Task<Result<int>> Signals::next() {
  while (kept_count_ == 0) {
    if (!op_.in_flight) co_return fail(Error::from_errno(end_error_, "waiting for signals"));
    changed_.reset();
    if (!co_await changed_.wait()) co_return fail(Errc::cancelled);
  }
  const int number = kept_[0];
  std::copy(kept_ + 1, kept_ + kept_count_--, kept_);
  co_return number;
}

Task<void> Signals::close() {
  Reactor::current().cancel(op_);
  while (op_.in_flight) {
    changed_.reset();
    co_await detail::Uninterrupted{changed_};
  }
}

}  // namespace gyre
