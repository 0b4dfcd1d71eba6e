#include "store/file_names.hpp"

#include <fmt/format.h>

#include <charconv>

namespace gyre {

namespace {

constexpr std::string_view table_suffix = ".table";
constexpr std::string_view value_suffix = ".values";
constexpr std::string_view log_suffix = ".log";
constexpr std::string_view manifest_prefix = "MANIFEST-";
constexpr size_t digits_min = 6;

// 0 if `digits` is not the one way to write a number.
uint64_t parse_number(std::string_view digits) {
  if (digits.size() < digits_min) return 0;
  if (digits.size() > digits_min && digits.front() == '0') return 0;
  uint64_t number = 0;
  const char* const end = digits.data() + digits.size();
  const auto [rest, error] = std::from_chars(digits.data(), end, number);
  return error == std::errc() && rest == end ? number : 0;
}

FileName numbered(FileKind kind, std::string_view digits) {
  const uint64_t number = parse_number(digits);
  return number == 0 ? FileName{} : FileName{kind, number};
}

}  // namespace

FileName parse_file_name(std::string_view name) {
  if (name == current_file_name) return {FileKind::current};
  if (name == current_temporary_file_name) return {FileKind::current_temporary};
  if (name.starts_with(manifest_prefix)) {
    return numbered(FileKind::manifest, name.substr(manifest_prefix.size()));
  }
  if (name.ends_with(table_suffix)) {
    return numbered(FileKind::table, name.substr(0, name.size() - table_suffix.size()));
  }
  if (name.ends_with(value_suffix)) {
    return numbered(FileKind::values, name.substr(0, name.size() - value_suffix.size()));
  }
  if (name.ends_with(log_suffix)) {
    return numbered(FileKind::log, name.substr(0, name.size() - log_suffix.size()));
  }
  return {};
}

std::string table_file_name(uint64_t number) {
  return fmt::format("{:06}{}", number, table_suffix);
}
std::string value_file_name(uint64_t number) {
  return fmt::format("{:06}{}", number, value_suffix);
}
std::string log_file_name(uint64_t number) {
  return fmt::format("{:06}{}", number, log_suffix);
}
std::string manifest_file_name(uint64_t number) {
  return fmt::format("{}{:06}", manifest_prefix, number);
}

std::string join_path(std::string_view directory, std::string_view name) {
  return fmt::format("{}/{}", directory, name);
}

}  // namespace gyre
