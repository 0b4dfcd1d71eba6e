// Manifests under `gyre inspect`: every edit, and the state that they add up to.
#include <fmt/format.h>

#include "base/coding.hpp"
#include "node/commands/client_commands.hpp"
#include "node/commands/inspect.hpp"
#include "node/progress.hpp"
#include "store/manifest_edit.hpp"

namespace gyre {

namespace {

void print_edit(const InspectedFile& in, const VersionEdit& edit, size_t offset) {
  std::string& text = in.report->text;
  text += fmt::format("    edit {} at offset {}: {}", edit.edit_number, offset,
                      edit.snapshot_of ? "the whole state" : "changes");
  text += fmt::format(", {} tables added, {} removed", edit.added.size(), edit.removed.size());
  text +=
      fmt::format(", log from position {} (flushed through seq {}, promised {})\n",
                  edit.log_start_position, edit.flushed_through_seq, edit.log_promised_position);
  if (!in.records) return;
  for (const RemovedTable& table : edit.removed) {
    text += fmt::format("      - level {} table {}\n", table.level, table.file_number);
  }
  for (const TableRecord& table : edit.added) {
    text += fmt::format("      + level {} table {}: {}, {} entries, {} to {}\n", table.level,
                        table.file_number, format_bytes(table.size_bytes),
                        format_number(table.entry_count), printable(table.smallest_key),
                        printable(table.largest_key));
  }
}

void print_state(const InspectedFile& in, const LevelState& state) {
  std::string uuid;
  for (const uint8_t byte : state.identity().uuid) uuid += fmt::format("{:02x}", byte);
  in.print("shard", fmt::format("{} of {}, data directory {}", state.identity().index,
                                state.identity().count, uuid));
  in.print("tables", format_number(state.table_count()));
  for (unsigned level = 0; level < limits::table_level_count; ++level) {
    if (state.level(level).empty()) continue;
    in.print(fmt::format("  level {}", level),
             fmt::format("{} tables, {}", format_number(state.level(level).size()),
                         format_bytes(state.level_bytes(level))));
  }
  in.print("log", fmt::format("needed from position {}, flushed through seq {}, promised {}",
                              state.log_start_position(), state.flushed_through_seq(),
                              state.log_promised_position()));
  in.print("next file number", std::to_string(state.next_file_number()));
  in.print("versions to", format_version({state.hlc_max(), 0}));
}

}  // namespace

Task<Result<void>> inspect_manifest(InspectedFile& in) {
  if (in.size_bytes > limits::manifest_bytes_max) {
    co_return fail(Errc::too_large,
                   fmt::format("{} has {} bytes, which no manifest has", in.path, in.size_bytes));
  }
  Result<std::string> content = co_await in.read(0, in.size_bytes);
  if (!content) co_return fail(content.error());
  constexpr size_t number_offset = 16;
  uint64_t number = in.name.number;
  if (in.name.kind != FileKind::manifest && content->size() >= number_offset + 8) {
    number = get_fixed<uint64_t>(content->data() + number_offset);
  }
  in.report->text += fmt::format("manifest {}\n", in.path);
  in.print("number", std::to_string(number));
  ManifestReader reader(*content, number);
  LevelState state;
  uint64_t edits = 0;
  for (;;) {
    VersionEdit edit;
    const size_t offset = reader.valid_bytes();
    Result<ManifestReader::Step> step = reader.next(edit);
    if (!step && step.error().code == Errc::unsupported) {
      co_return fail(Errc::unsupported, in.path + ": " + step.error().detail);
    }
    if (!step) {
      in.damaged(offset, step.error().detail);
      break;
    }
    if (*step != ManifestReader::Step::edit) {
      in.print("ends at", fmt::format("offset {}{}", offset,
                                      *step == ManifestReader::Step::torn_tail
                                          ? ", with the torn tail of an edit that nobody was told "
                                            "about"
                                          : ""));
      break;
    }
    ++edits;
    print_edit(in, edit, offset);
    if (Result<void> applied = state.apply(edit); !applied) {
      in.damaged(offset, applied.error().detail);
      break;
    }
    if (Result<void> done = co_await in.report->flush_if_long(); !done) co_return done;
  }
  in.print("edits", format_number(edits));
  if (edits > 0) {
    print_state(in, state);
  } else if (in.report->damage.empty()) {
    in.damaged(0, "the manifest has no edit");
  }
  co_return Result<void>{};
}

}  // namespace gyre
