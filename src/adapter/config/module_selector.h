#pragma once

#include <fmt/format.h>
#include <lowrank/adapter/lora_config.h>
#include <lowrank/error.h>

#include <algorithm>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "adapter/config/pattern.h"

/// How the names of a LoraConfig meet the dotted paths of a model: PEFT's rules
/// (tuners/tuners_utils.py, check_target_module_exists; utils/other.py, get_pattern_key).
namespace lowrank {

inline constexpr const char* kAllLinear = "all-linear";

/// PEFT takes the word in any case.
bool is_all_linear(const std::string& name);

/// The path is `name`, or ends with "." + name.
bool matches_name(const std::string& path, const std::string& name);

/// The module of this path, or one that holds it, ends with one of `modules_to_save`: "classifier"
/// is "pre_classifier" too (PEFT, utils/other.py, _set_trainable).
bool is_saved_whole(const std::string& path, const std::vector<std::string>& modules_to_save);

/// exclude_modules: either form of a selector, compiled once.
class CompiledSelector {
 public:
  CompiledSelector(const ModuleSelector& selector, const std::string& what);
  bool matches(const std::string& path) const;

 private:
  std::vector<std::string> names_;
  std::optional<Pattern> regex_;
};

/// layers_to_transform and layers_pattern.
class LayerIndices {
 public:
  explicit LayerIndices(const LoraConfig& config);
  /// The number after the first segment that layers_pattern names: 3 of "model.layers.3.query".
  std::optional<int64_t> index_of(const std::string& path) const;
  /// Whether PEFT finds that number: it wants a segment behind it, and without layers_pattern one
  /// before the one that is numbered.
  bool is_found_by_peft(const std::string& path) const;
  /// True for every path where no indices are asked for.
  bool wants(const std::string& path) const;

 private:
  std::set<int64_t> wanted_;
  std::vector<Pattern> patterns_;  // PEFT's, then as many of ours
};

/// rank_pattern or alpha_pattern: the first key that matches counts.
template <class T>
class FirstMatch {
 public:
  FirstMatch(const std::vector<std::pair<std::string, T>>& entries, const std::string& what) {
    for (const auto& [key, value] : entries) {
      keys_.emplace_back(fmt::format("(.*\\.)?({})$", key), fmt::format("each key of {}", what));
      values_.push_back(value);
    }
  }

  T value_for(const std::string& path, T otherwise) const {
    const auto key = std::find_if(keys_.begin(), keys_.end(),
                                  [&](const auto& k) { return k.matches_start_of(path); });
    return key == keys_.end() ? otherwise : values_[static_cast<size_t>(key - keys_.begin())];
  }

  /// Whether the key of this position matches the path, whether or not an earlier one does.
  bool key_matches(size_t position, const std::string& path) const {
    return keys_[position].matches_start_of(path);
  }

 private:
  std::vector<Pattern> keys_;
  std::vector<T> values_;
};

}  // namespace lowrank
