#include "store/table_index.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "base/assert.hpp"
#include "base/coding.hpp"
#include "base/limits.hpp"

namespace gyre {

void append_separator(std::string& out, std::string_view a, std::string_view b) {
  GYRE_ASSERT(a < b);
  const auto differing = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  const auto at = static_cast<size_t>(differing.first - a.begin());
  if (at == a.size()) {  // a is a prefix of b: nothing shorter is >= a
    out.append(a);
    return;
  }
  // a[at] < b[at]. The prefix of b up to there is greater than a, and smaller than b if b goes on.
  if (b.size() > at + 1) {
    out.append(b.substr(0, at + 1));
    return;
  }
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(a[i]); };
  size_t cut = at;
  if (byte(at) + 1 == static_cast<unsigned char>(b[at])) ++cut;  // incrementing it would give b
  while (cut < a.size() && byte(cut) == 0xff) ++cut;
  out.append(a.substr(0, cut));
  if (cut < a.size()) out.push_back(static_cast<char>(byte(cut) + 1));
}

// --- writing -------------------------------------------------------------------------------------

void IndexBuilder::add(std::string_view separator, const BlockHandle& handle) {
  offsets_.push_back(static_cast<uint32_t>(bytes_.size()));
  append_varint(bytes_, separator.size());
  bytes_.append(separator);
  append_varint(bytes_, handle.offset);
  append_varint(bytes_, handle.stored_bytes);
  append_varint(bytes_, handle.raw_bytes);
  append_fixed(bytes_, static_cast<uint8_t>(handle.codec));
  append_fixed(bytes_, handle.checksum);
  GYRE_ASSERT(bytes_.size() <= std::numeric_limits<uint32_t>::max());
}

void IndexBuilder::finish(std::string& out) {
  out.append(bytes_);
  for (const uint32_t offset : offsets_) append_fixed(out, offset);
  append_fixed(out, count());
  bytes_.clear();
  offsets_.clear();
}

void append_partition(std::string& out, BloomBuilder& bloom, IndexBuilder& index) {
  const auto line_count = static_cast<uint32_t>(bloom.filter_bytes() / bloom_line_bytes);
  bloom.finish(out);
  index.finish(out);
  append_fixed(out, line_count);
}

// --- reading -------------------------------------------------------------------------------------

Result<IndexView> IndexView::open(std::string_view bytes, uint64_t limit) {
  const auto bad = [&] {
    return fail(Errc::corrupt, fmt::format("malformed index of {} bytes", bytes.size()));
  };
  if (bytes.size() < 4 || bytes.size() > std::numeric_limits<uint32_t>::max()) return bad();
  const auto count = get_fixed<uint32_t>(bytes.data() + bytes.size() - 4);
  if (count == 0 || count > (bytes.size() - 4) / 4) return bad();
  IndexView view;
  view.bytes_ = bytes;
  view.limit_ = limit;
  view.count_ = count;
  view.entries_bytes_ = static_cast<uint32_t>(bytes.size() - 4 - size_t{count} * 4);
  return view;
}

bool IndexView::separator_at(uint32_t index, std::string_view& separator, const char*& rest) const {
  const char* const end = bytes_.data() + entries_bytes_;
  const auto offset = get_fixed<uint32_t>(end + size_t{index} * 4);
  if (offset >= entries_bytes_) return false;
  uint64_t size = 0;
  const char* const at = get_varint(bytes_.data() + offset, end, size);
  if (at == nullptr || size > static_cast<uint64_t>(end - at)) return false;
  separator = {at, size};
  rest = at + size;
  return true;
}

Error IndexView::corruption(uint32_t index) const {
  return Error::of(Errc::corrupt, fmt::format("malformed entry {} of {} in an index of {} bytes",
                                              index, count_, bytes_.size()));
}

Result<uint32_t> IndexView::lower_bound(std::string_view key) const {
  uint32_t low = 0;
  uint32_t high = count_;
  std::string_view separator;
  const char* rest = nullptr;
  while (low < high) {
    const uint32_t middle = low + (high - low) / 2;
    if (!separator_at(middle, separator, rest)) return fail(corruption(middle));
    if (separator < key) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

Result<IndexEntry> IndexView::entry(uint32_t index) const {
  GYRE_ASSERT(index < count_);
  IndexEntry out;
  const char* rest = nullptr;
  if (!separator_at(index, out.separator, rest)) return fail(corruption(index));
  Decoder in({rest, static_cast<size_t>(bytes_.data() + entries_bytes_ - rest)});
  const uint64_t offset = in.varint();
  const uint64_t stored_bytes = in.varint();
  const uint64_t raw_bytes = in.varint();
  const auto codec = in.fixed<uint8_t>();
  const auto checksum = in.fixed<uint64_t>();
  if (!in.ok() || raw_bytes > limits::table_block_raw_bytes_max || stored_bytes > raw_bytes) {
    return fail(corruption(index));
  }
  out.handle = {offset, static_cast<uint32_t>(stored_bytes), static_cast<uint32_t>(raw_bytes),
                static_cast<Codec>(codec), checksum};
  if (!is_plausible(out.handle, limit_)) return fail(corruption(index));
  return out;
}

Result<void> IndexView::check() const {
  std::string_view separator_before;
  uint64_t end_before = 0;
  for (uint32_t i = 0; i < count_; ++i) {
    const Result<IndexEntry> now = entry(i);
    if (!now) return fail(now.error());
    const bool in_order = i == 0 || now->separator > separator_before;
    if (!in_order || now->handle.offset < end_before) {
      return fail(Errc::corrupt,
                  fmt::format("entry {} of {} in an index is out of order", i, count_));
    }
    separator_before = now->separator;
    end_before = now->handle.end();
  }
  return {};
}

Result<PartitionView> PartitionView::open(std::string_view raw, uint64_t offset) {
  const auto bad = [&] {
    return fail(Errc::corrupt,
                fmt::format("malformed partition at offset {} ({} bytes)", offset, raw.size()));
  };
  if (raw.size() < 8) return bad();
  const uint64_t filter_bytes =
      uint64_t{get_fixed<uint32_t>(raw.data() + raw.size() - 4)} * bloom_line_bytes;
  raw.remove_suffix(4);
  if (filter_bytes > raw.size()) return bad();
  PartitionView view;
  view.filter_ = raw.substr(0, filter_bytes);
  Result<IndexView> index = IndexView::open(raw.substr(filter_bytes), offset);
  if (!index) return bad();
  view.index_ = *index;
  return view;
}

namespace {

Result<bool> find_in(const IndexView& index, std::string_view key, BlockHandle& out) {
  const Result<uint32_t> at = index.lower_bound(key);
  if (!at) return fail(at.error());
  if (*at == index.size()) return false;
  const Result<IndexEntry> entry = index.entry(*at);
  if (!entry) return fail(entry.error());
  out = entry->handle;
  return true;
}

}  // namespace

Result<bool> PartitionView::find_block(std::string_view key, BlockHandle& out) const {
  return find_in(index_, key, out);
}

TopIndex& TopIndex::operator=(TopIndex&& other) noexcept {
  // A short string's bytes move with it: the view must be made again. Opening what was open
  // before can't fail.
  bytes_ = std::move(other.bytes_);
  limit_ = other.limit_;
  const Result<IndexView> view = IndexView::open(bytes_, limit_);
  index_ = view ? *view : IndexView();
  other.bytes_.clear();
  other.index_ = IndexView();
  return *this;
}

Result<TopIndex> TopIndex::open(std::string raw, const TableFooter& footer) {
  TopIndex out;
  out.bytes_ = std::move(raw);
  out.limit_ = footer.top_index.offset;
  Result<IndexView> view = IndexView::open(out.bytes_, out.limit_);
  if (!view) return fail(std::move(view.error()));
  out.index_ = *view;
  if (Result<void> checked = out.index_.check(); !checked) return fail(std::move(checked.error()));
  return out;
}

Result<bool> TopIndex::find_partition(std::string_view key, BlockHandle& out) const {
  return find_in(index_, key, out);
}

}  // namespace gyre
