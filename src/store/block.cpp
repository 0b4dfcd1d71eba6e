#include "store/block.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <limits>

#include "base/assert.hpp"
#include "base/coding.hpp"

namespace gyre {

namespace {

constexpr uint8_t kind_mask = 0x0f;
constexpr uint8_t has_expiry_bit = 0x10;

size_t common_prefix_bytes(std::string_view a, std::string_view b) {
  const size_t limit = std::min(a.size(), b.size());
  size_t size = 0;
  for (; size + 8 <= limit; size += 8) {
    const uint64_t difference =
        get_fixed<uint64_t>(a.data() + size) ^ get_fixed<uint64_t>(b.data() + size);
    if (difference != 0) return size + static_cast<size_t>(std::countr_zero(difference)) / 8;
  }
  while (size < limit && a[size] == b[size]) ++size;
  return size;
}

// False if the bytes at `at` are no entry that ends before `end`.
bool decode_record(const char* at, const char* end, BlockRecord& out) {
  uint64_t unshared = 0;
  uint64_t value_bytes = 0;
  constexpr ptrdiff_t short_head_bytes = 3 + 17;
  constexpr uint32_t continued_bits = 0x00808080;
  if (end - at >= short_head_bytes && (get_fixed<uint32_t>(at) & continued_bits) == 0) {
    // Three varints of one byte each, as in most entries.
    out.shared = static_cast<uint8_t>(at[0]);
    unshared = static_cast<uint8_t>(at[1]);
    value_bytes = static_cast<uint8_t>(at[2]);
    at += 3;
  } else {
    at = get_varint(at, end, out.shared);
    if (at == nullptr) return false;
    at = get_varint(at, end, unshared);
    if (at == nullptr) return false;
    at = get_varint(at, end, value_bytes);
    if (at == nullptr || end - at < 17) return false;
  }
  const auto tag = static_cast<uint8_t>(*at++);
  if ((tag & ~(kind_mask | has_expiry_bit)) != 0 || !is_known_kind(tag & kind_mask)) return false;
  out.kind = static_cast<Kind>(tag & kind_mask);
  out.version = {get_fixed<uint64_t>(at), get_fixed<uint64_t>(at + 8)};
  at += 16;
  out.expire_at_ms = 0;
  if ((tag & has_expiry_bit) != 0) {
    at = get_varint(at, end, out.expire_at_ms);
    if (at == nullptr || out.expire_at_ms == 0) return false;
  }
  const auto left = static_cast<uint64_t>(end - at);
  if (unshared > left || value_bytes > left - unshared) return false;
  if (out.kind == Kind::tombstone && value_bytes != 0) return false;
  out.delta = {at, unshared};
  out.value = {at + unshared, value_bytes};
  out.next = at + unshared + value_bytes;
  return true;
}

}  // namespace

// --- writing -------------------------------------------------------------------------------------

void BlockBuilder::add(const Entry& entry) {
  GYRE_ASSERT(entry_count_ == 0 || entry.key > std::string_view(last_key_));
  GYRE_ASSERT(!entry.is_tombstone() || entry.value.empty());
  size_t shared = 0;
  if (entry_count_ % restart_interval_ == 0) {
    restarts_.push_back(static_cast<uint32_t>(bytes_.size()));
  } else {
    shared = common_prefix_bytes(last_key_, entry.key);
  }
  char header[4 * varint_bytes_max + 1 + 16];
  char* out = put_varint(header, shared);
  out = put_varint(out, entry.key.size() - shared);
  out = put_varint(out, entry.value.size());
  *out++ = static_cast<char>(static_cast<uint8_t>(entry.kind) |
                             (entry.expire_at_ms != 0 ? has_expiry_bit : 0));
  put_fixed(out, entry.version.hlc);
  put_fixed(out + 8, entry.version.origin);
  out += 16;
  if (entry.expire_at_ms != 0) out = put_varint(out, entry.expire_at_ms);
  bytes_.append(header, static_cast<size_t>(out - header));
  bytes_.append(entry.key.substr(shared));
  bytes_.append(entry.value);
  last_key_.resize(shared);
  last_key_.append(entry.key.substr(shared));
  ++entry_count_;
  GYRE_ASSERT(bytes_.size() <= std::numeric_limits<uint32_t>::max());
}

std::string_view BlockBuilder::finish() {
  GYRE_ASSERT(entry_count_ != 0);
  for (const uint32_t restart : restarts_) append_fixed(bytes_, restart);
  append_fixed(bytes_, static_cast<uint32_t>(restarts_.size()));
  return bytes_;
}

void BlockBuilder::clear() {
  bytes_.clear();
  restarts_.clear();
  last_key_.clear();
  entry_count_ = 0;
}

// --- reading -------------------------------------------------------------------------------------

Result<BlockView> BlockView::open(std::string_view raw) {
  if (raw.size() < 8 || raw.size() > std::numeric_limits<uint32_t>::max()) {
    return fail(Errc::corrupt, fmt::format("data block of {} bytes", raw.size()));
  }
  const auto count = get_fixed<uint32_t>(raw.data() + raw.size() - 4);
  if (count == 0 || count > (raw.size() - 4) / 4) {
    return fail(Errc::corrupt,
                fmt::format("data block of {} bytes claims {} restarts", raw.size(), count));
  }
  BlockView view;
  view.raw_ = raw;
  view.restart_count_ = count;
  view.entries_bytes_ = static_cast<uint32_t>(raw.size() - 4 - size_t{count} * 4);
  if (get_fixed<uint32_t>(view.end()) != 0) {
    return fail(Errc::corrupt, "the first restart of a data block is not its first byte");
  }
  return view;
}

uint32_t BlockView::restart_offset(uint32_t index) const {
  return get_fixed<uint32_t>(end() + size_t{index} * 4);
}

bool BlockView::restart_record(uint32_t index, BlockRecord& out) const {
  const uint32_t offset = restart_offset(index);
  return offset < entries_bytes_ && decode_record(begin() + offset, end(), out) && out.shared == 0;
}

bool BlockView::restart_before(std::string_view key, uint32_t& index) const {
  uint32_t low = 0;  // its key is <= key, or it is the first
  uint32_t high = restart_count_;
  BlockRecord record;
  while (high - low > 1) {
    const uint32_t middle = low + (high - low) / 2;
    if (!restart_record(middle, record)) return false;
    (record.delta <= key ? low : high) = middle;
  }
  index = low;
  return true;
}

Error BlockView::corruption(const char* what, const char* at) const {
  return Error::of(Errc::corrupt, fmt::format("{} at byte {} of a data block of {} bytes", what,
                                              at == nullptr ? 0 : at - begin(), raw_.size()));
}

// Compares without reassembling keys. `matched` is the number of bytes that the previous key,
// which is smaller than `key`, has in common with it. An entry that shares more than that with
// its predecessor is smaller than `key` for the same reason; one that shares less is greater;
// only one that shares exactly that much has to be looked at.
Result<bool> BlockView::find(std::string_view key, Entry& out) const {
  uint32_t restart = 0;
  if (!restart_before(key, restart)) return fail(corruption("malformed restart", begin()));
  const char* at = begin() + restart_offset(restart);
  if (at >= end()) return fail(corruption("restart outside the block", begin()));
  size_t matched = 0;
  bool first = true;
  BlockRecord record;
  while (at < end()) {
    if (!decode_record(at, end(), record)) return fail(corruption("malformed entry", at));
    if (first && record.shared != 0) return fail(corruption("restart shares a prefix", at));
    first = false;
    if (record.shared < matched) return false;
    if (record.shared == matched) {
      const std::string_view rest = key.substr(matched);
      const size_t common = common_prefix_bytes(record.delta, rest);
      if (common == rest.size() && common == record.delta.size()) {
        out = {key, record.kind, record.version, record.expire_at_ms, record.value};
        return true;
      }
      if (record.delta > rest) return false;
      matched += common;
    }
    at = record.next;
  }
  return false;
}

void BlockCursor::reset(const BlockView& block) {
  block_ = block;
  at_ = next_ = nullptr;
  valid_ = failed_ = false;
}

void BlockCursor::seek_to_first() {
  key_.clear();
  failed_ = false;
  read_at(block_.begin());
}

void BlockCursor::seek(std::string_view key) {
  GYRE_ASSERT(block_.restart_count_ != 0);
  uint32_t restart = 0;
  if (!block_.restart_before(key, restart)) return fail_at(block_.begin());
  key_.clear();
  failed_ = false;
  // Inside the block even when the restart table is not: read_at compares with end().
  const uint32_t offset = block_.restart_offset(restart);
  read_at(block_.begin() + std::min(offset, block_.entries_bytes_));
  while (valid_ && entry_.key < key) next();
}

void BlockCursor::next() {
  GYRE_ASSERT(valid_);
  read_at(next_);
}

void BlockCursor::read_at(const char* at) {
  at_ = at;
  valid_ = false;
  if (at == block_.end()) return;
  BlockRecord record;
  if (!decode_record(at, block_.end(), record) || record.shared > key_.size()) {
    failed_ = true;
    return;
  }
  key_.resize(record.shared);
  key_.append(record.delta);
  take(at, record);
}

// `record` lies at `at`, its key is in key_.
void BlockCursor::take(const char* at, const BlockRecord& record) {
  at_ = at;
  entry_ = {key_, record.kind, record.version, record.expire_at_ms, record.value};
  next_ = record.next;
  valid_ = true;
}

void BlockCursor::fail_at(const char* at) {
  at_ = at;
  valid_ = false;
  failed_ = true;
}

void BlockCursor::seek_to_last() {
  GYRE_ASSERT(block_.restart_count_ != 0);
  failed_ = false;
  read_stretch(block_.restart_count_ - 1, nullptr);
}

void BlockCursor::seek_before(std::string_view key) {
  GYRE_ASSERT(block_.restart_count_ != 0);
  uint32_t restart = 0;
  if (!block_.restart_before(key, restart)) return fail_at(block_.begin());
  failed_ = false;
  read_stretch(restart, &key);
  if (!valid_ && !failed_ && restart != 0) read_stretch(restart - 1, nullptr);
}

void BlockCursor::prev() {
  GYRE_ASSERT(valid_);
  if (!steps_.empty()) return step_back();
  valid_ = false;
  if (restart_ != 0) read_stretch(restart_ - 1, nullptr);
}

void BlockCursor::read_stretch(uint32_t restart, const std::string_view* bound) {
  restart_ = restart;
  steps_.clear();
  tails_.clear();
  key_.clear();
  const uint32_t begin = block_.restart_offset(restart);
  const uint32_t end = restart + 1 == block_.restart_count_ ? block_.entries_bytes_
                                                            : block_.restart_offset(restart + 1);
  if (begin >= end || end > block_.entries_bytes_) return fail_at(block_.begin());
  const char* const stretch_end = block_.begin() + end;
  read_at(block_.begin() + begin);
  if (valid_ && next_ > stretch_end) return fail_at(at_);
  while (valid_ && next_ != stretch_end && (bound == nullptr || entry_.key < *bound)) {
    BlockRecord record;
    if (!decode_record(next_, stretch_end, record) || record.shared > key_.size()) {
      return fail_at(next_);
    }
    const auto shared = static_cast<uint32_t>(record.shared);
    steps_.push_back({at_, shared, static_cast<uint32_t>(key_.size()) - shared});
    tails_.append(key_, shared);
    key_.resize(shared);
    key_.append(record.delta);
    take(next_, record);
  }
  if (!valid_ || bound == nullptr || entry_.key < *bound) return;
  valid_ = !steps_.empty();
  if (valid_) step_back();
}

void BlockCursor::step_back() {
  const StepBack step = steps_.back();
  steps_.pop_back();
  key_.resize(step.shared);
  key_.append(tails_, tails_.size() - step.tail_bytes);
  tails_.resize(tails_.size() - step.tail_bytes);
  BlockRecord record;
  const bool decoded = decode_record(step.at, block_.end(), record);
  GYRE_ASSERT(decoded);  // it was on the way forwards
  take(step.at, record);
}

Error BlockCursor::error() const {
  return block_.corruption("malformed entry", at_);
}

}  // namespace gyre
