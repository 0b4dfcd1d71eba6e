// What the front end says it is: clients decide by it what they may use.
#pragma once

#include <string_view>

namespace gyre {

inline constexpr std::string_view redis_version = "7.2.4";

}  // namespace gyre
