#include "store/value_verifier.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "base/hash.hpp"
#include "base/io_alignment.hpp"
#include "base/limits.hpp"

namespace gyre {

namespace {

constexpr uint64_t window_bytes = TableVerifier::window_bytes;

Task<Result<size_t>> read_window(const File& file, uint64_t offset, AlignedBuffer& buffer) {
  Result<size_t> got = co_await file.read_full(offset, {buffer.data(), buffer.size()});
  if (got) co_return got;
  co_return fail(got.error().code,
                 fmt::format("offset {}: can't be read: {}", offset, got.error().message()));
}

}  // namespace

Task<Result<std::optional<ValueFooter>>> verify_value_file(const File& file, uint64_t file_bytes,
                                                           uint64_t file_number,
                                                           TableVerifier::Observer& observer) {
  AlignedBuffer buffer(window_bytes);
  const uint64_t tail = file_bytes - std::min<uint64_t>(file_bytes, limits::io_alignment_bytes);
  const uint64_t tail_begin = io_align_down(tail);
  const Result<size_t> got = co_await read_window(file, tail_begin, buffer);
  if (!got) co_return fail(got.error());
  const Result<ValueFooter> footer = parse_value_footer(
      {buffer.data(), std::min<uint64_t>(*got, file_bytes - tail_begin)}, file_bytes, file_number);
  if (!footer) {
    if (footer.error().code == Errc::unsupported) co_return fail(footer.error());
    observer.damaged(file_bytes, footer.error().detail);
    co_return std::optional<ValueFooter>();
  }
  StreamingHash hash;
  for (uint64_t offset = 0; offset < footer->content_bytes;) {
    const Result<size_t> read = co_await read_window(file, offset, buffer);
    if (!read) co_return fail(read.error());
    const uint64_t bytes = std::min<uint64_t>(*read, footer->content_bytes - offset);
    if (bytes == 0) {
      observer.damaged(offset, "the file ends early");
      co_return *footer;
    }
    hash.update({buffer.data(), bytes});
    offset += bytes;
    if (Result<void> done = co_await observer.after_block(bytes); !done) {
      co_return fail(done.error());
    }
  }
  if (hash.digest() != footer->content_hash) {
    observer.damaged(0, fmt::format("its {} values of {} bytes fail the checksum over them all",
                                    footer->value_count, footer->content_bytes));
  }
  co_return *footer;
}

}  // namespace gyre
