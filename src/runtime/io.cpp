#include <cerrno>

#include <gyre/io.hpp>

namespace gyre {

IoWait::OnStop::OnStop(IoWait& of)
    : StopCallback([](StopCallback& self) noexcept {
        Reactor::current().cancel(static_cast<OnStop&>(self).wait.op_);
      }),
      wait(of) {}

IoWait::IoWait(const OpSpec& spec, std::string path, std::string path2)
    : path_(std::move(path)),
      path2_(std::move(path2)),
      op_(*this),
      cancellable_(spec.cancellable),
      on_stop_(*this) {
  op_.code = spec.code;
  op_.flags = spec.flags;
  op_.fd = spec.fd;
  op_.len = spec.len;
  op_.offset = spec.offset;
  if (spec.out != nullptr) {
    op_.out = spec.out;
  } else {
    op_.length = spec.length;
  }
  op_.data = spec.data;
  op_.on_complete = &IoWait::completed;
}

bool IoWait::suspend(PromiseBase& task) noexcept {
  if (cancellable_ && task.stop_requested()) {
    result_ = -ECANCELED;
    return false;
  }
  task_ = &task;
  op_.path = path_.c_str();
  op_.path2 = path2_.c_str();
  if (cancellable_ && task.stop != nullptr) task.stop->add(on_stop_);
  Reactor::current().submit(op_);
  return true;
}

void IoWait::completed(Op& op, Completion completion) noexcept {
  IoWait& wait = static_cast<OwnOp&>(op).wait;
  wait.result_ = completion.result;
  wait.on_stop_.unlink();
  wait.task_->schedule();
}

std::string IoCount::describe() const {
  std::string text(to_string(op_.code));
  if (!path_.empty()) text.append(" ").append(path_);
  return text;
}

namespace {
struct DetachedClose : Op {
  static void completed(Op& op, Completion) noexcept { delete static_cast<DetachedClose*>(&op); }
};
}  // namespace

void close_detached(Reactor& reactor, int fd) {
  auto* op = new DetachedClose;
  op->code = OpCode::close;
  op->fd = fd;
  op->on_complete = &DetachedClose::completed;
  reactor.submit(*op);
}

Descriptor::Descriptor(int fd) : fd_(fd) {
  ++Reactor::current().descriptors_open;
}

Descriptor::~Descriptor() {
  if (fd_ >= 0) close_detached(Reactor::current(), release());
}

int Descriptor::release() noexcept {
  --Reactor::current().descriptors_open;
  return std::exchange(fd_, -1);
}

Result<Descriptor> IoDescriptor::await_resume() const {
  Result<uint32_t> fd = IoCount::await_resume();
  if (!fd) return fail(std::move(fd.error()));
  return Descriptor(static_cast<int>(*fd));
}

}  // namespace gyre
