#include "node/text_table.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "base/assert.hpp"

namespace gyre {

std::string TextTable::text(std::string_view indent) const {
  std::vector<std::string> headings;
  for (const Column& column : columns_) headings.push_back(column.heading);
  const bool has_headings =
      std::ranges::any_of(headings, [](const std::string& text) { return !text.empty(); });
  std::vector<size_t> widths(columns_.size());
  const auto widen = [&](const std::vector<std::string>& cells) {
    GYRE_ASSERT(cells.size() == columns_.size());
    for (size_t i = 0; i < cells.size(); ++i) widths[i] = std::max(widths[i], cells[i].size());
  };
  widen(headings);
  for (const auto& cells : rows_) widen(cells);
  std::string text;
  const auto put = [&](const std::vector<std::string>& cells) {
    text += indent;
    for (size_t i = 0; i < cells.size(); ++i) {
      if (i != 0) text += "  ";
      text += columns_[i].align == Align::right ? fmt::format("{:>{}}", cells[i], widths[i])
                                                : fmt::format("{:<{}}", cells[i], widths[i]);
    }
    text.erase(text.find_last_not_of(' ') + 1);
    text += '\n';
  };
  if (has_headings) put(headings);
  for (const auto& cells : rows_) put(cells);
  return text;
}

}  // namespace gyre
