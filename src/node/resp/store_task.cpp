#include "node/resp/store_task.hpp"

#include <utility>

#include "node/node.hpp"
#include "node/resp/resp_server.hpp"

namespace gyre {

StoreTask::StoreTask(RespServer& server, std::string_view key)
    : server_(server),
      shard_(server.node().shard_for(key)),
      owner_(server.node().owner_of(shard_)) {}

Core& StoreTask::home() const {
  return server_.core();
}

bool StoreTask::at_home() const {
  return owner_ == home().index();
}

void StoreTask::go() {
  if (at_home()) {
    work(home());
  } else {
    ++home().stats().requests_forwarded;
    server_.post(*this);
  }
}

void StoreTask::done() {
  if (at_home()) return completed();
  if (batch_ != nullptr) return batch_->add(*this);
  deliver = [](Message& self, Reactor&) noexcept { static_cast<StoreTask&>(self).completed(); };
  Reactor::current().send(home().index(), *this);
}

void TaskBatch::add(StoreTask& task) {
  task.next_task_ = nullptr;
  (tail_ != nullptr ? tail_->next_task_ : head_) = &task;
  tail_ = &task;
}

void TaskBatch::send() {
  deliver = [](Message& self, Reactor&) noexcept {
    auto& batch = static_cast<TaskBatch&>(self);
    batch.work(batch.home_.node().core(batch.owner_));
  };
  Reactor::current().send(owner_, *this);
}

void TaskBatch::work(Core& owner) {
  StoreTask* task = std::exchange(head_, nullptr);
  tail_ = nullptr;
  while (task != nullptr) {
    StoreTask* next = task->next_task_;
    task->batch_ = this;
    task->work(owner);
    // A task that is done lies in the batch, one that is not is still alive: it comes back by itself.
    task->batch_ = nullptr;
    task = next;
  }
  // Always, so that its memory goes back to where it came from.
  deliver = [](Message& self, Reactor&) noexcept { static_cast<TaskBatch&>(self).completed(); };
  Reactor::current().send(home_.core().index(), *this);
}

void TaskBatch::completed() {
  for (StoreTask* task = head_; task != nullptr;) {
    StoreTask* next = task->next_task_;
    task->completed();  // may be its end
    task = next;
  }
  delete this;
}

}  // namespace gyre
