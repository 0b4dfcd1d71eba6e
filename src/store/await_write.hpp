// A StoreWrite or StoreModify as an awaitable: `co_await write` hands it to the shard and answers how
// it ended. Afterwards `record.version` and `seq` are what it got; a charge that is left was not
// taken over.
#pragma once

#include <coroutine>

#include <gyre/task.hpp>

#include "store/shard.hpp"

namespace gyre {

template <class Write>
struct AwaitStore : Write {
  explicit AwaitStore(Shard& to) : shard(to) {}
  bool await_ready() const noexcept { return false; }
  template <class Promise>
  bool await_suspend(std::coroutine_handle<Promise> handle) {
    this->done = [](StoreWrite& self, Errc result) noexcept {
      auto& wait = static_cast<AwaitStore&>(self);
      wait.status = result;
      wait.finished = true;
      if (wait.task != nullptr) wait.task->schedule();
    };
    const Errc verdict = shard.write(*this);
    if (verdict != Errc::ok) {
      status = verdict;
      return false;
    }
    if (finished) return false;
    task = &handle.promise();
    return true;
  }
  Errc await_resume() const noexcept { return status; }

  Shard& shard;
  PromiseBase* task = nullptr;
  Errc status = Errc::ok;
  bool finished = false;
};

using AwaitWrite = AwaitStore<StoreWrite>;
using AwaitModify = AwaitStore<StoreModify>;

}  // namespace gyre
