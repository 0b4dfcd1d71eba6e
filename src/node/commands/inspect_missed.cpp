// Missed logs under `gyre inspect`: what is recorded of each peer, entry by entry.
#include <fmt/format.h>

#include <map>

#include "cluster/handoff/missed_format.hpp"
#include "node/commands/client_commands.hpp"
#include "node/commands/inspect.hpp"
#include "node/progress.hpp"

namespace gyre {

namespace {

using cluster::MissedEntry;
using cluster::MissedEntryKind;

constexpr uint64_t missed_bytes_max = 512u << 20;
constexpr std::string_view kind_names[] = {"",
                                           "peer",
                                           "missed",
                                           "replayed",
                                           "owed",
                                           "walk",
                                           "walked",
                                           "forgotten",
                                           "watermark",
                                           "clean",
                                           "end of the first state"};

void print_entry(const InspectedFile& in, const MissedEntry& entry) {
  std::string& text = in.report->text;
  text += fmt::format("    {}", kind_names[static_cast<size_t>(entry.kind)]);
  if (entry.kind == MissedEntryKind::peer) {
    text += ' ';
    for (const uint8_t byte : entry.id) text += fmt::format("{:02x}", byte);
  } else if (entry.kind < MissedEntryKind::watermark) {
    text += fmt::format(": peer {}", entry.peer);
  }
  const bool keyed =
      entry.kind == MissedEntryKind::missed || entry.kind == MissedEntryKind::replayed;
  if (keyed || entry.kind == MissedEntryKind::owed) text += fmt::format(", slot {}", entry.slot);
  if (keyed) text += fmt::format(", {}", printable(entry.key));
  if (entry.version) text += ", " + format_version(entry.version);
  text += '\n';
}

}  // namespace

Task<Result<void>> inspect_missed(InspectedFile& in) {
  if (in.size_bytes > missed_bytes_max) {
    co_return fail(Errc::too_large,
                   fmt::format("{} has {} bytes, which no missed log has", in.path, in.size_bytes));
  }
  Result<std::string> content = co_await in.read(0, in.size_bytes);
  if (!content) co_return fail(content.error());
  in.report->text += fmt::format("missed log {}\n", in.path);
  cluster::MissedReader reader(*content);
  std::map<MissedEntryKind, uint64_t> counts;
  MissedEntry watermark;
  bool clean = false;
  for (;;) {
    MissedEntry entry;
    const uint64_t offset = reader.valid_bytes();
    const Result<cluster::MissedReader::Step> step = reader.next(entry);
    if (!step && step.error().code == Errc::unsupported) {
      co_return fail(Errc::unsupported, in.path + ": " + step.error().detail);
    }
    if (!step) in.damaged(offset, step.error().detail);
    if (step && *step == cluster::MissedReader::Step::torn_tail) {
      in.print("end", fmt::format("torn at offset {}, which a crash leaves", offset));
    }
    if (!step || *step != cluster::MissedReader::Step::entry) break;
    ++counts[entry.kind];
    clean = entry.kind == MissedEntryKind::clean;
    if (entry.kind == MissedEntryKind::watermark) watermark = entry;
    if (in.records) print_entry(in, entry);
    if (Result<void> written = co_await in.report->flush_if_long(); !written) co_return written;
  }
  for (const auto& [kind, count] : counts) {
    in.print(kind_names[static_cast<size_t>(kind)], format_number(count));
  }
  in.print("stopped", clean ? "cleanly" : "no: in use, or after a crash");
  in.print("in doubt from", clean ? "nothing is" : format_version(watermark.version));
  co_return Result<void>{};
}

}  // namespace gyre
