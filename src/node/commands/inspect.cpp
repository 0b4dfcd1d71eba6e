#include "node/commands/inspect.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <cstring>

#include "base/coding.hpp"
#include "cluster/handoff/missed_format.hpp"
#include "cluster/handoff/missed_log.hpp"
#include "cluster/peers_text.hpp"
#include "node/cli.hpp"
#include "node/commands/client_commands.hpp"
#include "node/replication/membership.hpp"
#include "store/log_format.hpp"
#include "store/table_format.hpp"

namespace gyre {

namespace {

constexpr std::string_view table_magic = "GyreTabl";
constexpr std::string_view manifest_magic = "GyMa";
constexpr std::string_view topology_title = "gyre topology\n";

// Prints as the inspection goes on.
class PrintedReport final : public InspectReport {
 public:
  Task<Result<void>> flush() override {
    Result<void> written = co_await write_stream(stdout_fd, text);
    text.clear();
    co_return written;
  }
};

std::string directory_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

unexpected<Error> not_ours(const std::string& path, std::string_view head) {
  std::string text = path +
                     " is no table, value file, log segment, manifest, missed log, "
                     "topology nor list of peers of Gyre";
  if (head.starts_with("MANIFEST-")) {
    text = path + " only names the manifest that counts: inspect that one";
  } else if (head.starts_with("gyre data directory")) {
    text = path + " is the identity of a data directory, a text file. Inspect the files in shard-*";
  } else if (head.empty()) {
    text = path + " is empty";
  }
  return fail(Errc::invalid, text);
}

}  // namespace

Task<Result<void>> InspectReport::flush() {
  co_return Result<void>{};
}

Task<Result<void>> InspectReport::flush_if_long() {
  if (text.size() < text_bytes_before_flush) co_return Result<void>{};
  co_return co_await flush();
}

void InspectedFile::print(std::string_view name, std::string_view value) const {
  report->text += fmt::format("  {:<20} {}\n", name, value);
}

void InspectedFile::damaged(uint64_t offset, std::string_view what) const {
  report->damage.push_back(fmt::format("{}: offset {}: {}", path, offset, what));
}

Task<Result<std::string>> InspectedFile::read(uint64_t offset, uint64_t size) const {
  std::string bytes(size, '\0');
  Result<size_t> got = co_await file.read_full(offset, bytes);
  if (!got) {
    co_return fail(got.error().code, fmt::format("{}: offset {}: can't be read: {}", path, offset,
                                                 got.error().message()));
  }
  bytes.resize(*got);
  co_return bytes;
}

size_t find_table_footer(std::string_view tail) {
  // The file may go on behind the table with what its last aligned write was padded with.
  for (size_t end = tail.size(); end >= table_footer_bytes; --end) {
    if (tail.substr(end - table_magic.size(), table_magic.size()) == table_magic) {
      return end - table_footer_bytes;
    }
  }
  return std::string_view::npos;
}

std::string format_time_ms(uint64_t wall_ms) {
  constexpr uint64_t year_9999_ms = 253'402'300'799'000;
  if (wall_ms > year_9999_ms) return fmt::format("{} ms", wall_ms);
  const auto time = static_cast<std::time_t>(wall_ms / 1000);
  return fmt::format("{:%Y-%m-%d %H:%M:%S}.{:03} UTC", fmt::gmtime(time), wall_ms % 1000);
}

std::string format_version(Version version) {
  const uint64_t logical = version.hlc & ((uint64_t{1} << hlc_logical_bits) - 1);
  std::string text =
      fmt::format("{} +{} by {:08x}/{}/{}", format_time_ms(hlc_to_us(version.hlc) / 1000), logical,
                  version.origin >> 32, version.origin >> 20 & (HybridClock::cores_max - 1),
                  version.origin & 0xfffff);
  if (version.copies() != 0) text += fmt::format(" for {} nodes", version.copies());
  return text;
}

Task<Result<void>> inspect_file(std::string path, bool records, InspectReport& report,
                                const TableRecord* record) {
  Result<FileStatus> status = co_await file_status(path);
  if (!status) co_return fail(status.error());
  if (!status->exists) co_return fail(Errc::not_found, path + " does not exist");
  if (status->is_directory) co_return co_await inspect_directory(path, records, report);
  Result<File> opened = co_await File::open(path, flag_read);
  if (!opened)
    co_return fail(opened.error().code, path + " can't be opened: " + cause_of(opened.error()));
  InspectedFile in{.path = path,
                   .directory = directory_of(path),
                   .name = parse_file_name(path.substr(path.rfind('/') + 1)),
                   .file = std::move(*opened),
                   .size_bytes = status->size_bytes,
                   .records = records,
                   .report = &report,
                   .record = record};
  const uint64_t tail_bytes = std::min<uint64_t>(in.size_bytes, inspect_tail_bytes);
  Result<std::string> head = co_await in.read(0, std::min<uint64_t>(in.size_bytes, 4096));
  if (!head) co_return fail(head.error());
  Result<std::string> tail = co_await in.read(in.size_bytes - tail_bytes, tail_bytes);
  if (!tail) co_return fail(tail.error());

  ++report.files;
  report.bytes += in.size_bytes;
  const std::string_view base = std::string_view(path).substr(path.rfind('/') + 1);
  const bool has_log_magic = head->size() >= 4 && get_fixed<uint32_t>(head->data()) == log_magic;
  // The name decides where damage has left no other sign.
  Result<void> done;
  const bool named_values = in.name.kind == FileKind::values;
  if (named_values || (in.name.kind == FileKind::foreign && has_value_footer(*tail))) {
    done = co_await inspect_values(in, std::move(*tail));
  } else if (find_table_footer(*tail) != std::string_view::npos ||
             in.name.kind == FileKind::table) {
    done = co_await inspect_table(in, std::move(*tail));
  } else if (has_log_magic || in.name.kind == FileKind::log) {
    done = co_await inspect_log(in);
  } else if (head->starts_with(manifest_magic) || in.name.kind == FileKind::manifest) {
    done = co_await inspect_manifest(in);
  } else if (head->starts_with(cluster::missed_magic) || base == cluster::MissedLog::file_name) {
    done = co_await inspect_missed(in);
  } else if (head->starts_with(cluster::peers_title) || base == cluster::peers_file_name) {
    done = co_await inspect_peers(in);
  } else if (head->starts_with(topology_title) || base == Membership::file_name) {
    done = co_await inspect_topology(in);
  } else {
    done = not_ours(path, *head);
  }
  static_cast<void>(co_await in.file.close());
  co_return done;
}

// --- the command --------------------------------------------------------------------------------

namespace {

Task<int> inspect_and_print(const InspectCommand& command) {
  PrintedReport report;
  Result<void> done = co_await inspect_file(command.file, command.records, report);
  if (Result<void> written = co_await report.flush(); !written) {
    co_return co_await complain_about_output(std::move(written.error()));
  }
  for (const std::string& damage : report.damage) co_await complain("damage: " + damage);
  if (!done) co_return co_await complain(done.error().detail);
  if (report.damage.empty()) co_return exit_ok;
  co_return co_await complain(
      fmt::format("{} damaged: {} places. Restore the file from a replica or a backup; what the "
                  "other files hold is not affected.",
                  command.file, report.damage.size()));
}

}  // namespace

int run_inspect(const InspectCommand& command) {
  return run_on_reactor([&command] { return inspect_and_print(command); });
}

}  // namespace gyre
