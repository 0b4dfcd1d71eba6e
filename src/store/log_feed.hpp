// Reads log segments for a LogReader, the next window while it works on the present one.
//
//   LogFeed feed(window_bytes);
//   per segment, ids ascending: co_await feed.add(reader, id, size_bytes, path)
//   LogReader::Event::want:     co_await feed.supply(reader)
//   at the end, always:         co_await feed.close()
//
// Past the page cache (O_DIRECT): nobody reads a log twice. Memory: one frame and three windows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <gyre/file.hpp>
#include <gyre/result.hpp>
#include <gyre/task.hpp>

#include "store/log_reader.hpp"
#include "store/shared_file.hpp"

namespace gyre {

class LogFeed {
 public:
  // A multiple of 4 KiB. LogReaderOptions::window_bytes had better be 4 KiB: the reader then asks for
  // what it needs, and gets what there is.
  explicit LogFeed(size_t window_bytes);

  // Opens a segment and shows its head to the reader.
  Task<Result<void>> add(LogReader& reader, uint64_t id, uint64_t size_bytes, std::string path);
  // Errc::io if a segment is shorter than it was.
  Task<Result<void>> supply(LogReader& reader);
  IoDone sync(size_t segment) const { return segments_[segment].file->file().sync_data(); }
  Task<void> close();

  uint64_t bytes_read() const { return bytes_read_; }

 private:
  struct Segment {
    Ref<SharedFile> file;
    uint64_t size_bytes;
    std::string path;
  };
  Task<void> go_to(size_t segment, uint64_t offset);
  void start_ahead();
  Task<Result<void>> append_ahead();

  std::vector<Segment> segments_;
  size_t window_bytes_;
  AlignedBuffer window_;  // holds [begin_, end_) of segment current_
  size_t current_ = 0;
  uint64_t begin_ = 0;
  uint64_t end_ = 0;
  OverlappedIo ahead_;  // what follows end_
  uint64_t bytes_read_ = 0;
};

}  // namespace gyre
