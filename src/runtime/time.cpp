#include <gyre/time.hpp>

namespace gyre {

Sleep::SleepTimer::SleepTimer(Sleep& of)
    : Timer([](Timer& self) noexcept {
        Sleep& sleep = static_cast<SleepTimer&>(self).sleep;
        sleep.elapsed_ = true;
        sleep.on_stop_.unlink();
        sleep.task_->schedule();
      }),
      sleep(of) {}

Sleep::OnStop::OnStop(Sleep& of)
    : StopCallback([](StopCallback& self) noexcept {
        Sleep& sleep = static_cast<OnStop&>(self).sleep;
        Reactor::current().disarm(sleep.timer_);
        sleep.task_->schedule();
      }),
      sleep(of) {}

bool Sleep::suspend(PromiseBase& task) noexcept {
  if (task.stop_requested()) return false;
  task_ = &task;
  if (task.stop != nullptr) task.stop->add(on_stop_);
  Reactor::current().arm(timer_, deadline_);
  return true;
}

}  // namespace gyre
