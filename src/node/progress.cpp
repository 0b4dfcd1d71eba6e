#include "node/progress.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace gyre {

namespace {

constexpr size_t bar_cells_max = 30;
constexpr size_t bar_cells_min = 10;
// Below this an estimate of what is left is a guess.
constexpr Nanos estimate_after = seconds(1);

std::optional<double> share_done(const Progress& progress) {
  if (!progress.bytes_total) return {};
  if (*progress.bytes_total == 0) return 1.0;
  const double share =
      static_cast<double>(progress.bytes) / static_cast<double>(*progress.bytes_total);
  return std::min(share, 1.0);
}

}  // namespace

std::string format_bytes(uint64_t bytes) {
  constexpr std::array<const char*, 6> units = {"kB", "MB", "GB", "TB", "PB", "EB"};
  if (bytes < 1000) return fmt::format("{} B", bytes);
  double number = static_cast<double>(bytes) / 1000;
  size_t unit = 0;
  // 999.95 would be printed as 1000.0.
  while (number >= 999.95 && unit + 1 < units.size()) {
    number /= 1000;
    ++unit;
  }
  return fmt::format("{:.1f} {}", number, units[unit]);
}

std::string format_rate(uint64_t bytes, Nanos elapsed) {
  const double per_second =
      elapsed > 0 ? static_cast<double>(bytes) * 1e9 / static_cast<double>(elapsed) : 0;
  return format_bytes(static_cast<uint64_t>(std::min(per_second, 1e18))) + "/s";
}

std::string format_seconds(Nanos duration) {
  const int64_t whole = std::max<Nanos>(duration, 0) / seconds(1);
  if (whole < 10) return fmt::format("{:.1f} s", static_cast<double>(duration) / 1e9);
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{}m {:02}s", whole / 60, whole % 60);
  return fmt::format("{}h {:02}m", whole / 3600, whole / 60 % 60);
}

std::string format_number(uint64_t number) {
  std::string text = std::to_string(number);
  for (size_t at = text.size(); at > 3;) {
    at -= 3;
    text.insert(at, 1, ',');
  }
  return text;
}

std::string progress_text(const Progress& progress) {
  std::string text;
  const std::optional<double> share = share_done(progress);
  if (share) text += fmt::format("{:3.0f}%  ", *share * 100);
  text += fmt::format("{} {}  {}", format_number(progress.records), progress.of,
                      format_rate(progress.bytes, progress.elapsed));
  if (progress.failed > 0) text += fmt::format("  {} failed", format_number(progress.failed));
  if (progress.waiting) text += "  waiting for the node";
  if (share && *share > 0 && *share < 1 && progress.elapsed >= estimate_after) {
    const double left = static_cast<double>(progress.elapsed) * (1 - *share) / *share;
    text += fmt::format("  {} left", format_seconds(static_cast<Nanos>(std::min(left, 1e18))));
  }
  return text;
}

std::string progress_bar(const Progress& progress, size_t columns) {
  std::string text = progress_text(progress);
  const std::optional<double> share = share_done(progress);
  if (share && columns >= text.size() + bar_cells_min + 4) {
    const size_t cells = std::min(bar_cells_max, columns - text.size() - 4);
    const auto full = static_cast<size_t>(*share * static_cast<double>(cells));
    text = fmt::format("[{}{}]  {}", std::string(full, '#'), std::string(cells - full, '-'), text);
  }
  if (text.size() > columns) text.resize(columns);
  return text;
}

}  // namespace gyre
