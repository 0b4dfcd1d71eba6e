// That the verifier holds what a table says about itself against what is in it.
#include "store/table_verifier.hpp"

#include <doctest/doctest.h>

#include "table_rig.hpp"

namespace gyre {
using namespace test;

namespace {

struct Notes : TableVerifier::Observer {
  std::vector<std::string> notes;
  void damaged(uint64_t, std::string_view what) override { notes.emplace_back(what); }
};

// The same table with other properties.
std::string retold(std::string_view file, const TableProperties& properties,
                   uint32_t format_version) {
  TableFooter footer = parse_footer(file, file.size(), test_file_number).value();
  std::string out(file.substr(0, footer.properties.offset));
  std::string bytes = properties.encode();
  if (format_version < 3) bytes.resize(bytes.size() - 2);  // what version 3 added
  std::string scratch;
  const uint64_t offset = footer.properties.offset;
  encode_block(bytes, Codec::none, scratch, footer.properties);
  footer.properties.offset = offset;
  footer.format_version = format_version;
  out += bytes;
  append_footer(out, footer);
  return out;
}

Task<void> verify_bytes(std::string bytes, std::vector<std::string>* notes) {
  auto file = co_await File::open("t", flag_read | flag_write | flag_create | flag_truncate);
  CHECK(file.has_value());
  if (!file) co_return;
  const Result<void> written = co_await file->write_full(0, bytes);
  CHECK(written.has_value());
  Notes observer;
  {
    TableVerifier verifier(*file, observer);
    const Result<bool> opened = co_await verifier.open(bytes.size(), test_file_number);
    CHECK((opened && *opened));
    const Result<void> checked = co_await verifier.check();
    CHECK(checked.has_value());
  }
  static_cast<void>(co_await file->close());
  *notes = observer.notes;
}

std::vector<std::string> notes_on(std::string bytes) {
  SimRig rig;
  std::vector<std::string> notes;
  rig.run(verify_bytes(std::move(bytes), &notes));
  return notes;
}

}  // namespace

TEST_CASE("a wrong count of tombstone-dense blocks is damage, as far as the format has one") {
  TableOptions options = small_table_options();
  std::vector<OwnedEntry> entries = make_entries(400);
  for (size_t i = 100; i < 250; ++i) {
    entries[i] = {entries[i].key, Kind::tombstone, entries[i].version, 0, ""};
  }
  TableProperties properties;
  const std::string file = build_table(options, entries, &properties);
  REQUIRE(properties.tombstone_dense_block_count > 1);
  CHECK(notes_on(file).empty());
  ++properties.tombstone_dense_block_count;
  const auto notes = notes_on(retold(file, properties, table_format_version));
  REQUIRE(notes.size() == 1);
  CHECK(notes[0].find("dense with tombstones") != std::string::npos);
  CHECK(notes_on(retold(file, properties, 2)).empty());
}

}  // namespace gyre
