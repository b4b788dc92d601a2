#include "adapter/config/name_matching.h"

#include <fmt/format.h>

#include <cctype>
#include <charconv>

namespace lowrank {

bool is_all_linear(const std::string& name) {
  return std::equal(name.begin(), name.end(), kAllLinear,
                    kAllLinear + std::char_traits<char>::length(kAllLinear),
                    [](unsigned char a, char b) { return std::tolower(a) == b; });
}

bool matches_name(const std::string& path, const std::string& name) {
  return path == name || path.ends_with("." + name);
}

bool is_saved_whole(const std::string& path, const std::vector<std::string>& modules_to_save) {
  for (size_t end = path.find('.');; end = path.find('.', end + 1)) {
    const auto holder = path.substr(0, end);
    for (const auto& name : modules_to_save) {
      if (holder.ends_with(name)) return true;
    }
    if (end == std::string::npos) return false;
  }
}

CompiledSelector::CompiledSelector(const ModuleSelector& selector, const std::string& what)
    : names_(selector.names) {
  if (!selector.regex.empty()) regex_.emplace(selector.regex, what);
}

bool CompiledSelector::matches(const std::string& path) const {
  if (regex_) return regex_->matches_all_of(path);
  return std::any_of(names_.begin(), names_.end(),
                     [&](const auto& name) { return matches_name(path, name); });
}

LayerIndices::LayerIndices(const LoraConfig& config)
    : wanted_(config.layers_to_transform.begin(), config.layers_to_transform.end()) {
  const auto add = [&](const std::string& text) { patterns_.emplace_back(text, "layers_pattern"); };
  constexpr const char* number = "(?<lowrank_index>[0-9]+)";
  const auto& segments = config.layers_pattern;
  if (segments.empty()) add(fmt::format(".*?\\.[^.]*\\.{}\\.", number));
  for (const auto& segment : segments) {
    add(fmt::format("(?:^|.*?\\.)(?:{})\\.{}\\.", segment, number));
  }
  // These are for paths in which PEFT finds no index: no segment comes before the numbered one
  // ("layers.3.query"), or the number ends the path.
  if (segments.empty()) add(fmt::format("(?:.*?\\.)??[^.]*\\.{}(?:\\.|$)", number));
  for (const auto& segment : segments) {
    add(fmt::format("(?:^|.*?\\.)(?:{})\\.{}$", segment, number));
  }
}

std::optional<int64_t> LayerIndices::index_of(const std::string& path) const {
  for (const auto& pattern : patterns_) {
    const auto digits = pattern.group(path, "lowrank_index");
    if (!digits) continue;
    int64_t index = 0;
    const auto [end, error] =
        std::from_chars(digits->data(), digits->data() + digits->size(), index);
    if (error != std::errc() || end != digits->data() + digits->size()) return std::nullopt;
    return index;
  }
  return std::nullopt;
}

bool LayerIndices::is_found_by_peft(const std::string& path) const {
  const auto end = patterns_.begin() + static_cast<std::ptrdiff_t>(patterns_.size() / 2);
  return std::any_of(patterns_.begin(), end,
                     [&](const auto& pattern) { return pattern.matches_start_of(path); });
}

bool LayerIndices::wants(const std::string& path) const {
  if (wanted_.empty()) return true;
  const auto index = index_of(path);
  return index.has_value() && wanted_.contains(*index);
}

PatternKey::PatternKey(const std::string& key, const std::string& what) {
  const bool is_name = !key.empty() && std::all_of(key.begin(), key.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.';
  });
  if (is_name) {
    name_ = key;
  } else {
    expression_.emplace(fmt::format("(.*\\.)?({})$", key), fmt::format("each key of {}", what));
  }
}

bool PatternKey::matches(std::string_view path) const {
  if (expression_) return expression_->matches_start_of(path);
  if (path.size() < name_.size()) return false;
  const auto start = path.size() - name_.size();
  if (start > 0 && path[start - 1] != '.') return false;
  for (size_t i = name_.size(); i > 0; --i) {
    if (name_[i - 1] != '.' && name_[i - 1] != path[start + i - 1]) return false;
  }
  return true;
}

std::vector<PatternKey> pattern_keys(const std::vector<std::string>& keys,
                                     const std::string& what) {
  constexpr size_t kMostExpressions = 500;
  std::vector<PatternKey> compiled;
  size_t expressions = 0;
  for (const auto& key : keys) {
    compiled.emplace_back(key, what);
    if (compiled.back().is_expression() && ++expressions > kMostExpressions) {
      fail<ArgumentError>("attach",
                          fmt::format("{} must have at most {} keys that are regular expressions",
                                      what, kMostExpressions),
                          "more", "Names and paths are not limited.");
    }
  }
  return compiled;
}

}  // namespace lowrank
