// Keys and other bytes as people see them in messages.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace gyre {

// Quoted, cut, control characters escaped.
std::string printable(std::string_view bytes, size_t size_bytes_max = 64);

}  // namespace gyre
