#include <gyre/scope.hpp>
#include <gyre/when.hpp>

#include "base/assert.hpp"

namespace gyre {

Scope::Joined::Joined(Scope& of) : scope(of) {
  run = [](Runnable& self) noexcept {
    Scope& joined = static_cast<Joined&>(self).scope;
    if (joined.size_ == 0) std::exchange(joined.joiner_, nullptr)->self.resume();
  };
}

Scope::Scope(StopSource* parent, const char* name)
    : stop_(parent),
      name_(name),
      background_(Reactor::current().in_background()),
      reactor_(&Reactor::current()) {
  next_scope_ = reactor_->scopes_;
  if (next_scope_ != nullptr) next_scope_->previous_scope_ = this;
  reactor_->scopes_ = this;
}

Scope::~Scope() {
  GYRE_ASSERT(size_ == 0);
  if (next_scope_ != nullptr) next_scope_->previous_scope_ = previous_scope_;
  if (previous_scope_ != nullptr) {
    previous_scope_->next_scope_ = next_scope_;
  } else {
    reactor_->scopes_ = next_scope_;
  }
}

void Scope::spawn(Task<void> task, bool background) {
  PromiseBase& child = task.release();
  child.scope = this;
  if (child.stop == nullptr) child.stop = &stop_;
  child.resume_runnable.background = background;
  child.scope_next = children_;
  if (children_ != nullptr) children_->scope_previous = &child;
  children_ = &child;
  ++size_;
  child.schedule();
}

void Scope::child_ended(PromiseBase& child) noexcept {
  if (child.scope_next != nullptr) child.scope_next->scope_previous = child.scope_previous;
  if (child.scope_previous != nullptr) {
    child.scope_previous->scope_next = child.scope_next;
  } else {
    children_ = child.scope_next;
  }
  --size_;
}

namespace detail {

std::coroutine_handle<> finish_root(PromiseBase& promise) noexcept {
  Scope* scope = promise.scope;
  GYRE_ASSERT(scope != nullptr);
  scope->child_ended(promise);
  promise.self.destroy();
  if (scope->size_ == 0 && scope->joiner_ != nullptr && !scope->joined_.queued) {
    scope->joined_.task = scope->joiner_;
    scope->joined_.background = scope->joiner_->resume_runnable.background;
    Reactor::current().schedule(scope->joined_);
  }
  return std::noop_coroutine();
}

void require_racers(size_t count) noexcept {
  GYRE_ASSERT(count != 0);
}

}  // namespace detail

}  // namespace gyre
