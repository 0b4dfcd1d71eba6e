// Integers in byte strings: fixed width little-endian, and LEB128 varints of at most 10 bytes.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace gyre {

static_assert(std::endian::native == std::endian::little, "formats are written in host order");

template <class T>
inline void put_fixed(char* out, T value) {
  std::memcpy(out, &value, sizeof value);
}
template <class T>
inline void append_fixed(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}
template <class T>
inline T get_fixed(const char* in) {
  T value;
  std::memcpy(&value, in, sizeof value);
  return value;
}

inline constexpr size_t varint_bytes_max = 10;

inline char* put_varint(char* out, uint64_t value) {
  while (value >= 0x80) {
    *out++ = static_cast<char>(value | 0x80);
    value >>= 7;
  }
  *out++ = static_cast<char>(value);
  return out;
}
inline void append_varint(std::string& out, uint64_t value) {
  char buffer[varint_bytes_max];
  out.append(buffer, static_cast<size_t>(put_varint(buffer, value) - buffer));
}
// Returns the byte after the varint, or nullptr if it runs past `end` or over 64 bits.
inline const char* get_varint(const char* in, const char* end, uint64_t& value) {
  uint64_t result = 0;
  for (unsigned shift = 0; shift <= 63 && in < end; shift += 7) {
    const auto byte = static_cast<unsigned char>(*in++);
    if (shift == 63 && byte > 1) return nullptr;
    result |= uint64_t{byte & 0x7fu} << shift;
    if (byte < 0x80) {
      value = result;
      return in;
    }
  }
  return nullptr;
}

// Takes fields off the front of a byte string; once a read fails every later one does too.
class Decoder {
 public:
  explicit Decoder(std::string_view in) : at_(in.data()), end_(in.data() + in.size()) {}

  template <class T>
  T fixed() {
    if (!ok_ || static_cast<size_t>(end_ - at_) < sizeof(T)) return fail<T>();
    T value = get_fixed<T>(at_);
    at_ += sizeof(T);
    return value;
  }
  uint64_t varint() {
    uint64_t value = 0;
    const char* next = ok_ ? get_varint(at_, end_, value) : nullptr;
    if (next == nullptr) return fail<uint64_t>();
    at_ = next;
    return value;
  }
  std::string_view bytes(uint64_t size) {
    if (!ok_ || static_cast<uint64_t>(end_ - at_) < size) return fail<std::string_view>();
    std::string_view value(at_, size);
    at_ += size;
    return value;
  }
  std::string_view prefixed() { return bytes(varint()); }

  bool ok() const { return ok_; }
  size_t remaining() const { return static_cast<size_t>(end_ - at_); }

 private:
  template <class T>
  T fail() {
    ok_ = false;
    at_ = end_;
    return T{};
  }
  const char* at_;
  const char* end_;
  bool ok_ = true;
};

}  // namespace gyre
