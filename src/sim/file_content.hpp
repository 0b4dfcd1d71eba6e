// One file on the simulated disk: what the program sees (`current`), what survives a power cut
// (`durable`), and between them the changes that no sync has made durable yet, in order.
//
// Invariants: without failed syncs, durable plus all pending changes equals current. A change that
// a sync or a durable write has overtaken is not in `pending_` any more (or is cut to the part
// that was not overtaken), so replaying the rest never brings old bytes back over synced ones.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "sim/pages.hpp"
#include "sim/prng.hpp"

namespace gyre::sim {

// What a power cut does to what was not synced.
enum class CrashMode : uint8_t {
  lost,     // nothing of it arrives
  torn,     // each write arrives wholly, in part (512-byte sectors) or not at all
  garbled,  // as torn, and sectors that were being written may hold noise
  random,   // each write suffers one of the above, or arrives wholly
};

class FileContent {
 public:
  static constexpr size_t sector_bytes = 512;

  const Pages& current() const { return current_; }
  const Pages& durable() const { return durable_; }
  bool has_pending() const { return !pending_.empty(); }

  // `durable`: on the disk when this returns (a DSYNC write), as is the size that it needs.
  void write(uint64_t offset, std::string_view bytes, bool durable);
  void resize(uint64_t size);
  void reserve(uint64_t offset, uint64_t length);

  void sync();
  // A failed sync: the kernel marks the pages clean, so what was pending is never written,
  // although reads go on seeing it until the power is cut.
  void drop_pending();
  void crash(CrashMode mode, Prng& prng);
  // Flips bits of the durable and the current image.
  void corrupt(uint64_t offset, char mask);
  void forget_current() { current_.clear(); }

 private:
  struct Change {
    enum Kind : uint8_t { write, resize, reserve };
    Kind kind;
    uint64_t offset;  // resize: the size
    uint64_t length;
    std::string data;
  };

  void make_durable(uint64_t offset, std::string_view bytes);
  void cut_pending(uint64_t begin, uint64_t end);
  void apply_pending_sizes();
  void crash_write(const Change& change, CrashMode mode, Prng& prng);

  Pages current_;
  Pages durable_;
  std::vector<Change> pending_;
  bool diverged_ = false;  // a failed sync left bytes in current_ that no change accounts for
};

}  // namespace gyre::sim
