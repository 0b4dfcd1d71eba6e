// Tables under `gyre inspect`: what a TableVerifier finds, as text.
#include <fmt/format.h>

#include <gyre/time.hpp>

#include "base/coding.hpp"
#include "node/commands/client_commands.hpp"
#include "node/commands/inspect.hpp"
#include "node/progress.hpp"
#include "store/file_names.hpp"
#include "store/table_verifier.hpp"
#include "store/value_file.hpp"

namespace gyre {

namespace {

class TableInspection final : public TableVerifier::Observer {
 public:
  explicit TableInspection(InspectedFile& in) : in_(in), verifier_(in.file, *this) {}

  Task<Result<void>> run(std::string tail);

  void damaged(uint64_t offset, std::string_view what) override { in_.damaged(offset, what); }
  void visit(const Entry& entry, uint64_t value_bytes) override {
    if (in_.records) print_record(entry, value_bytes);
  }
  Task<Result<void>> after_block(uint64_t) override {
    if (Result<void> done = co_await in_.report->flush_if_long(); !done) co_return done;
    co_await maybe_yield();
    co_return Result<void>{};
  }

 private:
  unexpected<Error> in_path(const Error& error) const {
    if (error.code == Errc::unsupported) return fail(error);
    return fail(error.code, in_.path + ": " + error.detail);
  }
  void print_record(const Entry& entry, uint64_t value_bytes);
  void print_properties(const TableProperties& said) const;
  void print_findings() const;

  InspectedFile& in_;
  TableVerifier verifier_;
};

Task<Result<void>> TableInspection::run(std::string tail) {
  const size_t at = find_table_footer(tail);
  const uint64_t tail_offset = in_.size_bytes - tail.size();
  in_.report->text += fmt::format("table {}\n", in_.path);
  if (at == std::string_view::npos) {
    in_.damaged(in_.size_bytes, "the table has no footer: its end is missing or overwritten");
    co_return Result<void>{};
  }
  const uint64_t table_bytes = tail_offset + at + table_footer_bytes;
  const uint64_t file_number = get_fixed<uint64_t>(tail.data() + at + 48);
  if (in_.name.kind == FileKind::table && in_.name.number != file_number) {
    in_.damaged(tail_offset + at, fmt::format("the file was written as table {}, its name says {}",
                                              file_number, in_.name.number));
  }
  Result<bool> opened = co_await verifier_.open(table_bytes, file_number);
  if (!opened) co_return in_path(opened.error());
  in_.print("number", std::to_string(file_number));
  in_.print("size", fmt::format("{} bytes", format_number(table_bytes)));
  if (verifier_.said()) print_properties(*verifier_.said());
  if (!*opened) co_return Result<void>{};
  if (Result<void> done = co_await verifier_.check(in_.record); !done)
    co_return in_path(done.error());
  print_findings();
  co_return Result<void>{};
}

// --- text ---------------------------------------------------------------------------------------

void TableInspection::print_record(const Entry& entry, uint64_t value_bytes) {
  std::string line = "    " + printable(entry.key);
  if (entry.is_tombstone()) {
    line += "  tombstone";
  } else {
    line += fmt::format("  {} of {} bytes", is_streamed(entry.kind) ? "large value" : "value",
                        format_number(value_bytes));
    std::string_view handle = entry.value;
    if (is_separate(entry.kind)) {
      line += " in " + value_file_name(take_value_file_number(handle).value_or(0));
    }
  }
  line += "  " + format_version(entry.version);
  if (entry.expire_at_ms != 0) line += "  expires " + format_time_ms(entry.expire_at_ms);
  in_.report->text += line + "\n";
}

void TableInspection::print_properties(const TableProperties& said) const {
  in_.print("created", format_time_ms(said.created_ms));
  in_.print("entries",
            fmt::format("{}, of these {} tombstones, {} large values, {} that expire",
                        format_number(said.entry_count), format_number(said.tombstone_count),
                        format_number(said.large_count), format_number(said.expiring_count)));
  in_.print("keys",
            fmt::format("{} to {}", printable(said.smallest_key), printable(said.largest_key)));
  in_.print("raw bytes", fmt::format("{} of keys, {} of values", format_bytes(said.raw_key_bytes),
                                     format_bytes(said.raw_value_bytes)));
  in_.print("versions from", format_version(said.version_min));
  in_.print("versions to", format_version(said.version_max));
  if (said.expire_at_ms_min != 0) {
    in_.print("first expiry", format_time_ms(said.expire_at_ms_min));
  }
  in_.print("log sequence to", format_number(said.log_sequence_max));
  if (!said.value_references.empty()) {
    uint64_t values = 0;
    uint64_t bytes = 0;
    for (const ValueReference& reference : said.value_references) {
      values += reference.value_count;
      bytes += reference.value_bytes;
      in_.report->value_files.insert(reference.file_number);
    }
    in_.print("in value files",
              fmt::format("{} values, {}, in {} files", format_number(values), format_bytes(bytes),
                          format_number(said.value_references.size())));
  }
  in_.print("structure", fmt::format("{} data blocks of about {} bytes in {} partitions, {}, "
                                     "{} filter bits per key",
                                     format_number(said.data_block_count),
                                     format_number(said.options.block_bytes_target),
                                     format_number(said.partition_count),
                                     said.options.codec == Codec::lz4 ? "LZ4" : "not compressed",
                                     said.options.bloom_bits_per_key));
  if (said.tombstone_dense_block_count != 0) {
    in_.print("tombstones", fmt::format("{} data blocks are at least half tombstones",
                                        format_number(said.tombstone_dense_block_count)));
  }
}

void TableInspection::print_findings() const {
  const TableProperties& found = verifier_.found();
  in_.print("read",
            fmt::format("{} blocks, {} stored for {} of entries; {} large values, {}",
                        format_number(found.data_block_count),
                        format_bytes(verifier_.stored_bytes()), format_bytes(verifier_.raw_bytes()),
                        format_number(found.large_count), format_bytes(verifier_.large_bytes())));
}

}  // namespace

Task<Result<void>> inspect_table(InspectedFile& in, std::string tail) {
  TableInspection inspection(in);
  co_return co_await inspection.run(std::move(tail));
}

}  // namespace gyre
