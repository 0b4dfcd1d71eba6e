#include "removal_support.hpp"

#include <fmt/format.h>

#include <gyre/file.hpp>
#include <gyre/scope.hpp>

#include "sim_rig.hpp"
#include "store/file_remover.hpp"

namespace gyre::test {

Task<bool> write_whole(std::string path, uint64_t size_bytes) {
  Result<File> file = co_await File::open(path, flag_write | flag_create);
  if (!file) co_return false;
  const bool written = bool(co_await file->write_full(0, std::string(size_bytes, 'x'))) &&
                       bool(co_await file->sync()) && bool(co_await file->close());
  co_return written&& bool(co_await sync_directory("d"));
}

namespace {

Task<void> remove_one_name(uint64_t size_bytes) {
  Scope scope;
  FileRemover remover(scope, "d", size_bytes / 8);
  co_await make_directory("d");
  REQUIRE_OR_RETURN(co_await write_whole("d/table", size_bytes));
  REQUIRE_OR_RETURN(bool(co_await link_file("d/table", "copy")));
  remover.remove({}, "table", size_bytes);
  co_await scope.join();
}

}  // namespace

std::string linked_file_is_cut() {
  constexpr uint64_t size_bytes = 512u << 10;
  SimRig rig;
  rig.run(remove_one_name(size_bytes));
  const uint64_t left = rig.disk().content("copy").size();
  if (left == size_bytes) return "";
  return fmt::format("a file with two names was removed by one: {} of {} bytes are left", left,
                     size_bytes);
}

}  // namespace gyre::test
