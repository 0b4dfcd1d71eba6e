#include "sim/file_content.hpp"

#include <algorithm>

#include "base/assert.hpp"

namespace gyre::sim {

void FileContent::write(uint64_t offset, std::string_view bytes, bool durable) {
  if (bytes.empty()) return;
  current_.write(offset, bytes);
  if (!durable) {
    pending_.push_back({Change::write, offset, bytes.size(), std::string(bytes)});
    return;
  }
  apply_pending_sizes();
  cut_pending(offset, offset + bytes.size());
  make_durable(offset, bytes);
}

void FileContent::resize(uint64_t size) {
  current_.resize(size);
  pending_.push_back({Change::resize, size, 0, {}});
}

void FileContent::reserve(uint64_t offset, uint64_t length) {
  current_.reserve(offset, length);
  pending_.push_back({Change::reserve, offset, length, {}});
}

// Whole pages are shared with the current image, which holds the same bytes.
void FileContent::make_durable(uint64_t offset, std::string_view bytes) {
  constexpr size_t page = Pages::page_bytes;
  const uint64_t end = offset + bytes.size();
  const uint64_t first = (offset + page - 1) / page * page;
  const uint64_t last = end / page * page;
  if (diverged_ || first >= last || last > current_.size()) {
    durable_.write(offset, bytes);
    return;
  }
  durable_.write(offset, bytes.substr(0, first - offset));
  durable_.share(current_, first, last - first);
  durable_.write(last, bytes.substr(last - offset));
}

// Removes [begin, end) from all pending writes.
void FileContent::cut_pending(uint64_t begin, uint64_t end) {
  std::vector<Change> kept;
  kept.reserve(pending_.size());
  for (Change& change : pending_) {
    const uint64_t change_end = change.offset + change.length;
    if (change.kind != Change::write || change.offset >= end || change_end <= begin) {
      kept.push_back(std::move(change));
      continue;
    }
    if (change.offset < begin) {
      const uint64_t n = begin - change.offset;
      kept.push_back({Change::write, change.offset, n, change.data.substr(0, n)});
    }
    if (change_end > end) {
      const uint64_t n = change_end - end;
      kept.push_back({Change::write, end, n, change.data.substr(change.length - n)});
    }
  }
  pending_ = std::move(kept);
}

// A durable write commits the file's metadata: truncations before it can't come back after it.
void FileContent::apply_pending_sizes() {
  const bool any = std::any_of(pending_.begin(), pending_.end(),
                               [](const Change& c) { return c.kind == Change::resize; });
  if (!any) return;
  std::vector<Change> earlier = std::move(pending_);
  pending_.clear();
  for (Change& change : earlier) {
    if (change.kind != Change::resize) {
      pending_.push_back(std::move(change));
      continue;
    }
    cut_pending(change.offset, UINT64_MAX);
    std::erase_if(pending_, [&](const Change& c) {
      return c.kind == Change::reserve && c.offset + c.length > change.offset;
    });
    durable_.resize(change.offset);
  }
}

void FileContent::sync() {
  if (!diverged_) {
    durable_ = current_;
    pending_.clear();
    return;
  }
  for (const Change& change : pending_) {
    switch (change.kind) {
      case Change::write:
        durable_.write(change.offset, change.data);
        break;
      case Change::resize:
        durable_.resize(change.offset);
        break;
      case Change::reserve:
        durable_.reserve(change.offset, change.length);
        break;
    }
  }
  pending_.clear();
}

void FileContent::drop_pending() {
  if (pending_.empty()) return;
  pending_.clear();
  diverged_ = true;
}

void FileContent::crash(CrashMode mode, Prng& prng) {
  for (const Change& change : pending_) {
    CrashMode fate = mode;
    if (mode == CrashMode::random) fate = static_cast<CrashMode>(prng.below(4));
    if (fate == CrashMode::lost) continue;
    if (change.kind == Change::write) {
      crash_write(change, fate, prng);
    } else if (fate == CrashMode::random || prng.one_in(2)) {
      if (change.kind == Change::resize) {
        durable_.resize(change.offset);
      } else {
        durable_.reserve(change.offset, change.length);
      }
    }
  }
  pending_.clear();
  current_ = durable_;
  diverged_ = false;
}

// `random` stands for a write that arrives wholly.
void FileContent::crash_write(const Change& change, CrashMode mode, Prng& prng) {
  struct Piece {
    uint64_t from, length;
  };
  const uint64_t end = change.offset + change.length;
  const uint64_t sectors = (end - 1) / sector_bytes - change.offset / sector_bytes + 1;
  enum Pattern : uint8_t { whole, none, prefix, suffix, scattered };
  const auto pattern = mode == CrashMode::random ? whole : static_cast<Pattern>(prng.below(5));
  const uint64_t cut = prng.below(sectors + 1);
  uint64_t index = 0;
  for (uint64_t at = change.offset; at < end; ++index) {
    const Piece piece{at - change.offset,
                      std::min(end, (at / sector_bytes + 1) * sector_bytes) - at};
    bool arrives = pattern == whole;
    if (pattern == prefix) arrives = index < cut;
    if (pattern == suffix) arrives = index >= cut;
    if (pattern == scattered) arrives = prng.one_in(2);
    if (arrives) {
      durable_.write(at, std::string_view(change.data).substr(piece.from, piece.length));
    } else if (mode == CrashMode::garbled && prng.one_in(2)) {
      std::string noise(piece.length, '\0');
      prng.fill(noise.data(), noise.size());
      durable_.write(at, noise);
    }
    at += piece.length;
  }
}

void FileContent::corrupt(uint64_t offset, char mask) {
  for (Pages* image : {&current_, &durable_}) {
    char byte = 0;
    if (image->read(offset, &byte, 1) == 0) continue;
    byte = static_cast<char>(byte ^ mask);
    image->write(offset, {&byte, 1});
  }
}

}  // namespace gyre::sim
