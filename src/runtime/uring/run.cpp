#include <exception>
#include <memory>

#include <gyre/file.hpp>
#include <gyre/reactor.hpp>
#include <gyre/run.hpp>
#include <gyre/socket.hpp>

#include "runtime/uring/backend.hpp"
#include "runtime/uring/node.hpp"

namespace gyre {

Result<void> run_event_loop(Task<void> main) {
  uring::UringNode node(1);
  std::unique_ptr<uring::UringBackend> backend;
  try {
    backend = std::make_unique<uring::UringBackend>(uring::UringOptions{.node = &node});
  } catch (const std::exception& error) {
    return fail(Errc::unsupported, error.what());
  }
  {
    Reactor reactor(*backend, {});
    reactor.run(std::move(main));
  }
  backend.reset();
  release_frame_pool();
  release_aligned_pool();
  release_output_pool();
  return {};
}

}  // namespace gyre
