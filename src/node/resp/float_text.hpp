// Decimal numbers of INCRBYFLOAT: read and written as Redis does, as a long double.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace gyre {

// What strtold takes whole, without blanks before it; neither not-a-number nor out of range.
// Infinity passes.
std::optional<long double> parse_float(std::string_view text);

// Finite: 17 digits behind the point, less the zeros at the end.
std::string float_text(long double value);

}  // namespace gyre
