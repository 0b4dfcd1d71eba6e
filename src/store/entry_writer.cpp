#include "store/entry_writer.hpp"

#include <utility>

#include "base/assert.hpp"
#include "store/large_reader.hpp"

namespace gyre {

Task<Result<void>> EntryWriter::add_written(TableWriter& table, Entry entry,
                                            Result<WrittenValue> written) {
  if (!written) co_return fail(written.error());
  entry.kind = written->kind;
  entry.value = written->encoded;
  if (table.add_separate(entry, written->place)) co_return co_await table.drain();
  co_return Result<void>{};
}

Task<Result<void>> EntryWriter::add(TableWriter& table, const SourceCursor& cursor) {
  const Entry entry = cursor.entry();
  if (cursor.node() != nullptr) co_return co_await add_node(table, entry, *cursor.node());
  if (is_separate(entry.kind)) co_return co_await add_separate(table, entry, cursor.table());
  if (entry.kind == Kind::large) {
    Result<LargeReader> reader = LargeReader::open(cursor.table(), entry.value);
    if (!reader) co_return fail(reader.error());
    if (reader->size_bytes() < separate_bytes_min_) {
      co_return co_await table.add_large(entry, *reader);
    }
    co_return co_await add_written(table, entry, co_await values_.add_large(*reader));
  }
  if (entry.kind == Kind::value && entry.value.size() >= separate_bytes_min_) {
    co_return co_await add_written(table, entry, co_await values_.add(entry.value));
  }
  if (table.add(entry)) co_return co_await table.drain();
  co_return Result<void>{};
}

Task<Result<void>> EntryWriter::add_node(TableWriter& table, Entry entry,
                                         const Memtable::Node& node) {
  const bool separate = !entry.is_tombstone() && node.value_bytes() >= separate_bytes_min_;
  if (node.large()) {
    if (!separate) co_return co_await table.add_large(entry, node.large_value().share());
    co_return co_await add_written(table, entry,
                                   co_await values_.add_large(node.large_value().share()));
  }
  if (separate) co_return co_await add_written(table, entry, co_await values_.add(entry.value));
  if (table.add(entry)) co_return co_await table.drain();
  co_return Result<void>{};
}

Task<Result<void>> EntryWriter::add_separate(TableWriter& table, Entry entry,
                                             const TableRef& from) {
  const Result<SeparateValue> value = separate_value(entry);
  if (!value) co_return fail(from->in_file(value.error(), from->data_end()));
  const Result<TableFile::ValuePlace> place = from->place_of(entry);
  if (!place) co_return fail(place.error());
  if (!is_to_be_emptied(static_cast<const ValueFile&>(*place->file))) {
    if (table.add_separate(entry, *value)) co_return co_await table.drain();
    co_return Result<void>{};
  }
  moved_bytes_ += value->stored_bytes;
  if (entry.kind == Kind::separate_large) {
    Result<LargeReader> reader = LargeReader::open(place->file, place->handle);
    if (!reader) co_return fail(reader.error());
    co_return co_await add_written(table, entry, co_await values_.add_large(*reader));
  }
  const Result<BlockHandle> handle = decode_block_value(place->handle, place->file->data_end());
  if (!handle) co_return fail(place->file->in_file(handle.error(), place->file->data_end()));
  const Result<BlockPin> pin = co_await place->file->load(*handle, CacheHint::scan, true);
  if (!pin) co_return fail(pin.error());
  co_return co_await add_written(table, entry, co_await values_.add(pin->bytes()));
}

}  // namespace gyre
