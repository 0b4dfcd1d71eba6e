// Text in aligned columns, two spaces between them, for terminals.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace gyre {

class TextTable {
 public:
  enum class Align : uint8_t { left, right };
  struct Column {
    std::string heading;
    Align align = Align::left;
  };

  explicit TextTable(std::vector<Column> columns) : columns_(std::move(columns)) {}

  // One cell per column.
  void row(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  // Lines that begin with `indent`, the headings first unless all are empty. No spaces at their ends.
  std::string text(std::string_view indent) const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace gyre
