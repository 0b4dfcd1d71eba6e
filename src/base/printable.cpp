#include "base/printable.hpp"

#include <fmt/format.h>

namespace gyre {

std::string printable(std::string_view bytes, size_t size_bytes_max) {
  std::string text = "'";
  for (const char c : bytes.substr(0, size_bytes_max)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      text += fmt::format("\\x{:02x}", byte);
    } else {
      text += c;
    }
  }
  text += bytes.size() > size_bytes_max ? "…'" : "'";
  return text;
}

}  // namespace gyre
