#include "cluster/topology_file.hpp"

#include <fmt/format.h>

#include <functional>

#include <gyre/file.hpp>

#include "base/limits.hpp"
#include "cluster/topology_text.hpp"

namespace gyre::cluster {

namespace {

unexpected<Error> about(std::string_view path, Error error) {
  if (error.code == Errc::too_large) {
    error.detail = fmt::format("{} has more than {} bytes: it is no topology", path,
                               limits::topology_bytes_max);
  } else if (error.code == Errc::not_found) {
    error.detail = fmt::format("{} does not exist; gyre admin topology new makes a topology", path);
  } else {
    error.detail = fmt::format("{}: {}", path, error.message());
  }
  return fail(std::move(error));
}

Task<Result<void>> replace(std::string path, std::string text) {
  const size_t slash = path.rfind('/');
  const std::string directory = slash == path.npos ? "." : path.substr(0, slash);
  Result<void> replaced =
      co_await replace_file(slash == 0 ? "/" : directory,
                            slash == path.npos ? path : path.substr(slash + 1), std::move(text));
  if (!replaced) co_return about(path, std::move(replaced.error()));
  co_return Result<void>{};
}

Task<Result<File>> lock(const std::string& path) {
  Result<File> lock = co_await lock_file(path + ".lock");
  if (lock) co_return lock;
  if (lock.error().code == Errc::busy) {
    co_return fail(Errc::busy, fmt::format("{} is being changed by another process", path));
  }
  co_return about(path + ".lock", std::move(lock.error()));
}

Task<Result<Topology>> load_expected(std::string path, std::optional<uint64_t> expected_epoch) {
  Result<Topology> loaded = co_await load_topology(path);
  if (loaded && expected_epoch && loaded->epoch != *expected_epoch) {
    co_return fail(Errc::invalid,
                   fmt::format("{} is of epoch {}, not {}: it was changed since. Plan again", path,
                               loaded->epoch, *expected_epoch));
  }
  co_return loaded;
}

// The next topology of the one in the file.
using Next = std::function<Result<Topology>(const Topology& before)>;

Task<Result<Replaced>> replace_by(std::string path, std::optional<uint64_t> expected_epoch,
                                  Next next) {
  Result<File> held = co_await lock(path);
  if (!held) co_return fail(held.error());
  Result<Topology> before = co_await load_expected(path, expected_epoch);
  Result<Topology> after = before ? next(*before) : before;
  Result<void> written = fail(after ? Error{} : after.error());
  if (after) written = co_await replace(path, print_topology(*after));
  static_cast<void>(co_await held->close());
  if (!written) co_return fail(std::move(written.error()));
  co_return Replaced{std::move(*before), std::move(*after)};
}

Result<Topology> as_planned(const Topology& before, const Topology& planned) {
  if (planned.epoch == before.epoch + 1 && planned.previous_hash == before.table_hash()) {
    return planned;
  }
  return fail(
      Errc::invalid,
      fmt::format("the file is of epoch {} with table {:016x}, but the plan was made from "
                  "epoch {} with table {:016x}. Plan again",
                  before.epoch, before.table_hash(), planned.epoch - 1, planned.previous_hash));
}

}  // namespace

Task<Result<Topology>> load_topology(std::string path) {
  Result<std::string> text = co_await read_file(path, limits::topology_bytes_max);
  if (!text) co_return about(path, std::move(text.error()));
  co_return parse_topology(*text, path);
}

Task<Result<void>> create_topology(std::string path, Topology topology) {
  Result<File> held = co_await lock(path);
  if (!held) co_return fail(held.error());
  Result<FileStatus> status = co_await file_status(path);
  Result<void> done;
  if (!status) {
    done = about(path, std::move(status.error()));
  } else if (status->exists) {
    done = fail(Errc::already_exists,
                fmt::format("{} exists; gyre admin topology apply changes it", path));
  } else {
    done = co_await replace(path, print_topology(topology));
  }
  static_cast<void>(co_await held->close());
  co_return done;
}

Task<Result<Replaced>> apply_changes(std::string path, TopologyChanges changes,
                                     std::optional<uint64_t> expected_epoch) {
  co_return co_await replace_by(std::move(path), expected_epoch,
                                [changes = std::move(changes)](const Topology& before) {
                                  return change_topology(before, changes);
                                });
}

Task<Result<Replaced>> apply_planned(std::string path, Topology planned,
                                     std::optional<uint64_t> expected_epoch) {
  co_return co_await replace_by(std::move(path), expected_epoch,
                                [planned = std::move(planned)](const Topology& before) {
                                  return as_planned(before, planned);
                                });
}

}  // namespace gyre::cluster
