// A temporary directory, and programs that run in it on the kernel's own io_uring.
#pragma once

#include <doctest/doctest.h>
#include <stdlib.h>

#include <filesystem>
#include <string>

#include <gyre/reactor.hpp>
#include <gyre/task.hpp>

#include "runtime/uring/backend.hpp"

namespace gyre::test {

class RealRig {
 public:
  RealRig() {
    std::string pattern = std::filesystem::temp_directory_path() / "gyre-store-XXXXXX";
    REQUIRE(::mkdtemp(pattern.data()) != nullptr);
    directory_ = pattern;
  }
  ~RealRig() { std::filesystem::remove_all(directory_); }
  RealRig(const RealRig&) = delete;
  RealRig& operator=(const RealRig&) = delete;

  std::string path(const std::string& name) const { return directory_ + "/" + name; }

  // One life of a program. Nothing may be left of it.
  void run(Task<void> main) {
    const int64_t frames_before = frames_live() - 1;  // `main` is one
    {
      uring::UringNode node{1};
      uring::UringOptions options;
      options.node = &node;
      uring::UringBackend backend(options);
      Reactor reactor(backend, {});
      reactor.run(std::move(main));
      CHECK(reactor.operations_in_flight() == 0);
      CHECK(reactor.descriptors_open == 0);
    }
    CHECK(frames_live() == frames_before);
  }

 private:
  std::string directory_;
};

}  // namespace gyre::test
