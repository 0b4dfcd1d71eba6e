#include "store/log_feed.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/io_alignment.hpp"
#include "base/limits.hpp"

namespace gyre {

LogFeed::LogFeed(size_t window_bytes)
    : window_bytes_(window_bytes), window_(limits::log_frame_bytes_max + 2 * window_bytes) {}

Task<Result<void>> LogFeed::add(LogReader& reader, uint64_t id, uint64_t size_bytes,
                                std::string path) {
  Result<File> file = co_await File::open(path, flag_read | flag_direct);
  if (!file) co_return fail(file.error());
  const Result<size_t> head =
      co_await file->read_full(0, window_.span().first(limits::io_alignment_bytes));
  segments_.push_back({Ref<SharedFile>(new SharedFile(std::move(*file))), size_bytes, path});
  if (!head) co_return fail(head.error());
  if (*head < std::min<uint64_t>(size_bytes, limits::io_alignment_bytes)) {
    co_return fail(Errc::io,
                   fmt::format("{}: of {} bytes {} can be read", path, size_bytes, *head));
  }
  co_return reader.add_segment(id, size_bytes, {window_.data(), *head}, std::move(path));
}

Task<Result<void>> LogFeed::supply(LogReader& reader) {
  const LogReader::Want want = reader.want();
  co_await go_to(want.segment, want.offset_bytes);
  while (end_ - begin_ < want.size_bytes) {
    start_ahead();
    if (Result<void> more = co_await append_ahead(); !more) co_return more;
  }
  start_ahead();
  reader.supply({window_.data(), static_cast<size_t>(end_ - begin_)});
  co_return Result<void>{};
}

// Makes the window begin there, and keeps what it holds behind.
Task<void> LogFeed::go_to(size_t segment, uint64_t offset) {
  if (segment == current_ && offset >= begin_ && offset <= end_) {
    std::memmove(window_.data(), window_.data() + (offset - begin_), end_ - offset);
    begin_ = offset;
    co_return;
  }
  if (ahead_.started()) static_cast<void>(co_await ahead_.finish());
  current_ = segment;
  begin_ = end_ = offset;
}

void LogFeed::start_ahead() {
  const Segment& segment = segments_[current_];
  if (ahead_.started() || end_ >= segment.size_bytes) return;
  const uint64_t left = segment.size_bytes - end_;
  ahead_.start_read(segment.file, end_, io_align_up(std::min<uint64_t>(left, window_bytes_)));
}

Task<Result<void>> LogFeed::append_ahead() {
  const Segment& segment = segments_[current_];
  Result<OverlappedIo::Done> read = ahead_.started()
                                        ? co_await ahead_.finish()
                                        : Result<OverlappedIo::Done>(OverlappedIo::Done{});
  if (!read) co_return fail(read.error());
  const size_t size =
      static_cast<size_t>(std::min<uint64_t>(read->size_bytes, segment.size_bytes - end_));
  if (size == 0) {
    co_return fail(Errc::io, fmt::format("{}: shrank from {} to {} bytes while it was read",
                                         segment.path, segment.size_bytes, end_));
  }
  std::memcpy(window_.data() + (end_ - begin_), read->buffer.data(), size);
  end_ += size;
  bytes_read_ += size;
  co_return Result<void>{};
}

Task<void> LogFeed::close() {
  if (ahead_.started()) static_cast<void>(co_await ahead_.finish());
  for (Segment& segment : segments_) static_cast<void>(co_await segment.file->file().close());
  segments_.clear();
}

}  // namespace gyre
