#pragma once

#include <fmt/format.h>
#include <lowrank/adapter/lora_config.h>
#include <lowrank/error.h>

#include <algorithm>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "adapter/config/python_regex.h"

/// How the names in a LoraConfig match the dotted paths of a model, by PEFT's rules
/// (tuners/tuners_utils.py, check_target_module_exists; utils/other.py, get_pattern_key).
namespace lowrank {

inline constexpr const char* kAllLinear = "all-linear";

/// Returns whether `name` is "all-linear", in upper or lower case as in PEFT.
bool is_all_linear(const std::string& name);

/// Returns whether the path is `name`, or ends with "." + name.
bool matches_name(const std::string& path, const std::string& name);

/// Returns whether the path of a module, or that of a module that contains it, ends with one of
/// `modules_to_save`. As in PEFT (utils/other.py, _set_trainable), "classifier" also matches
/// "pre_classifier".
bool is_saved_whole(const std::string& path, const std::vector<std::string>& modules_to_save);

/// A selector in either of its forms, compiled once. It is used for exclude_modules.
class CompiledSelector {
 public:
  CompiledSelector(const ModuleSelector& selector, const std::string& what);
  bool matches(const std::string& path) const;

 private:
  std::vector<std::string> names_;
  std::optional<Pattern> regex_;
};

/// Applies layers_to_transform and layers_pattern.
class LayerIndices {
 public:
  explicit LayerIndices(const LoraConfig& config);
  /// The number after the first segment that layers_pattern matches: 3 in "model.layers.3.query".
  std::optional<int64_t> index_of(const std::string& path) const;
  /// Returns whether PEFT finds that number. PEFT needs a segment after it and, without
  /// layers_pattern, one before the numbered segment.
  bool is_found_by_peft(const std::string& path) const;
  /// Returns whether the layer at this path is to be adapted; true for every path if there are no
  /// indices.
  bool wants(const std::string& path) const;

 private:
  std::set<int64_t> wanted_;
  std::vector<Pattern> patterns_;  // those of PEFT, then as many of ours
};

/// A key of rank_pattern or alpha_pattern: the regular expression "(.*\.)?(key)$". Most keys are
/// names, which are compared without one.
class PatternKey {
 public:
  PatternKey(const std::string& key, const std::string& what);
  bool matches(std::string_view path) const;
  bool is_expression() const { return expression_.has_value(); }

 private:
  std::string name_;  // letters, digits, "_", "-" and dots, each of which matches any character
  std::optional<Pattern> expression_;
};

/// The keys of a pattern. Throws ArgumentError for a wrong expression, and for more expressions
/// than can be matched with thousands of layers in reasonable time.
std::vector<PatternKey> pattern_keys(const std::vector<std::string>& keys, const std::string& what);

/// rank_pattern or alpha_pattern: the first key that matches counts.
template <class T>
class FirstMatch {
 public:
  FirstMatch(const std::vector<std::pair<std::string, T>>& entries, const std::string& what) {
    std::vector<std::string> keys;
    for (const auto& [key, value] : entries) {
      keys.push_back(key);
      values_.push_back(value);
    }
    keys_ = pattern_keys(keys, what);
  }

  T value_for(const std::string& path, T otherwise) const {
    const auto key =
        std::find_if(keys_.begin(), keys_.end(), [&](const auto& k) { return k.matches(path); });
    return key == keys_.end() ? otherwise : values_[static_cast<size_t>(key - keys_.begin())];
  }

  /// Returns whether the key at this position matches the path, even if an earlier key does too.
  bool key_matches(size_t position, const std::string& path) const {
    return keys_[position].matches(path);
  }

 private:
  std::vector<PatternKey> keys_;
  std::vector<T> values_;
};

}  // namespace lowrank
