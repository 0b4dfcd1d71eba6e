// The TOML layer of the configuration. The only file that sees toml++, which is slow to compile.
#include <fmt/format.h>
#include <toml++/toml.h>

#include <fstream>
#include <sstream>

#include "node/config.hpp"

namespace gyre {
namespace {

std::string line_of(const std::string& path, const toml::source_region& source) {
  return fmt::format("{}:{}", path, source.begin.line);
}

// Scalars as the text that a flag would take; an array of strings as a list with commas.
std::optional<std::string> text_of(const toml::node& node) {
  if (const auto* text = node.as_string()) return text->get();
  if (const auto* number = node.as_integer()) return std::to_string(number->get());
  if (const auto* truth = node.as_boolean()) return truth->get() ? "true" : "false";
  const auto* array = node.as_array();
  if (array == nullptr) return {};
  std::string joined;
  for (const toml::node& element : *array) {
    const auto* text = element.as_string();
    if (text == nullptr) return {};
    if (!joined.empty()) joined += ',';
    joined += text->get();
  }
  return joined;
}

}  // namespace

tl::expected<std::vector<RawSetting>, ConfigProblems> parse_config_text(std::string_view text,
                                                                        const std::string& path) {
  toml::table table;
  try {
    table = toml::parse(text, path);
  } catch (const toml::parse_error& error) {
    return tl::unexpected(ConfigProblems{{fmt::format(
        "{}: not TOML: {}", line_of(path, error.source()), std::string(error.description()))}});
  }
  ConfigProblems problems;
  std::vector<RawSetting> values;
  for (const auto& [key, node] : table) {
    std::string name(key.str());
    std::string origin = line_of(path, key.source());
    auto value = text_of(node);
    if (node.is_table() || node.is_array_of_tables()) {
      problems.lines.push_back(fmt::format(
          "{}: [{}] is a table, but all settings are plain keys at the top level", origin, name));
    } else if (!value) {
      problems.lines.push_back(fmt::format(
          "{}: {} must be a string, a whole number, true or false, or a list of strings", origin,
          name));
    } else {
      values.push_back({Layer::file, std::move(name), std::move(*value), std::move(origin)});
    }
  }
  if (!problems.lines.empty()) return tl::unexpected(std::move(problems));
  return values;
}

tl::expected<std::vector<RawSetting>, ConfigProblems> read_config_file(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  if (!file || !(text << file.rdbuf())) {
    return tl::unexpected(ConfigProblems{
        {fmt::format("--config {}: can't be read; give the path of a TOML file with lines such as "
                     "listen = \"127.0.0.1:8080\"",
                     path)}});
  }
  return parse_config_text(text.str(), path);
}

}  // namespace gyre
