#include <gyre/op.hpp>

#include "base/assert.hpp"

namespace gyre {

Op::~Op() {
  GYRE_ASSERT(!in_flight);
}

std::string_view to_string(OpCode code) noexcept {
  switch (code) {
    case OpCode::nop:
      return "nop";
    case OpCode::listen:
      return "listen";
    case OpCode::accept:
      return "accept";
    case OpCode::connect:
      return "connect";
    case OpCode::recv:
      return "recv";
    case OpCode::recv_into:
      return "recv_into";
    case OpCode::send:
      return "send";
    case OpCode::shutdown:
      return "shutdown";
    case OpCode::open:
      return "open";
    case OpCode::close:
      return "close";
    case OpCode::read:
      return "read";
    case OpCode::write:
      return "write";
    case OpCode::fsync:
      return "fsync";
    case OpCode::allocate:
      return "allocate";
    case OpCode::truncate:
      return "truncate";
    case OpCode::rename:
      return "rename";
    case OpCode::link:
      return "link";
    case OpCode::unlink:
      return "unlink";
    case OpCode::make_dir:
      return "make_dir";
    case OpCode::remove_dir:
      return "remove_dir";
    case OpCode::list_dir:
      return "list_dir";
    case OpCode::stat:
      return "stat";
    case OpCode::free_space:
      return "free_space";
    case OpCode::lock_file:
      return "lock_file";
    case OpCode::resolve:
      return "resolve";
    case OpCode::signal:
      return "signal";
  }
  return "unknown";
}

}  // namespace gyre
