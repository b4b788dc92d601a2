#include "adapter/targets/target_choice.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <lowrank/error.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "adapter/config/name_matching.h"
#include "adapter/targets/output_head.h"

namespace lowrank {
namespace {

/// The index of a layer, and of a parameter in it.
using ParameterIndex = std::pair<size_t, size_t>;

bool is_linear(const ModelLayer& layer) {
  return layer.kind == LayerKind::kLinear || layer.kind == LayerKind::kConv1D;
}

/// Returns which parameters adapting the layer means: its "weight" or, if that does not have two or
/// more dimensions, every parameter that does and whose name contains "weight" (an LSTM's
/// weight_ih_l0, ...).
std::vector<size_t> weights_of(const ModelLayer& layer) {
  std::vector<size_t> weights;
  for (size_t i = 0; i < layer.parameters.size(); ++i) {
    const auto& [name, tensor] = layer.parameters[i];
    if (tensor.dim() < 2 || name.find("weight") == std::string::npos) continue;
    if (name == "weight") return {i};
    weights.push_back(i);
  }
  return weights;
}

std::optional<size_t> position_of(const ModelLayer& layer, const std::string& parameter) {
  for (size_t i = 0; i < layer.parameters.size(); ++i) {
    if (layer.parameters[i].first == parameter) return i;
  }
  return std::nullopt;
}

/// Returns the parameter from which torch.nn.utils' spectral_norm or weight_norm computes the
/// weight in each forward, or nullptr if the layer reads a weight of its own.
const char* source_of_weight(const ModelLayer& layer) {
  if (layer.parameter("weight_orig").defined()) return "weight_orig";
  if (layer.parameter("weight_g").defined() && layer.parameter("weight_v").defined()) {
    return "weight_v";
  }
  return nullptr;
}

/// Returns whether there is any parameter that could be adapted, whatever its name is.
bool has_matrix(const std::vector<ModelLayer>& layers) {
  return std::any_of(layers.begin(), layers.end(), [](const ModelLayer& layer) {
    return std::any_of(layer.parameters.begin(), layer.parameters.end(),
                       [](const auto& parameter) { return parameter.second.dim() >= 2; });
  });
}

/// Quantized modules keep their weights in a module of their own, "LinearPackedParams" for example.
bool is_quantized(const std::vector<ModelLayer>& layers) {
  return std::any_of(layers.begin(), layers.end(), [](const ModelLayer& layer) {
    return layer.type.find("PackedParams") != std::string::npos;
  });
}

std::string parameter_path(const ModelLayer& layer, size_t parameter) {
  const auto& name = layer.parameters[parameter].first;
  return dotted_path(layer.name, name);
}

class TargetChoice {
 public:
  TargetChoice(const std::vector<ModelLayer>& layers, const LoraConfig& config,
               std::vector<UnmatchedEntry>* unmatched)
      : layers_(layers),
        config_(config),
        unmatched_(unmatched),
        excluded_(config.exclude_modules, "exclude_modules"),
        indices_(config) {
    for (const auto& layer : layers_) {
      if (!weights_of(layer).empty()) adaptable_.push_back(layer.name);
    }
  }

  std::vector<ChosenWeight> choose() {
    if (!has_matrix(layers_) && is_quantized(layers_)) {
      fail<ArgumentError>("attach", "the model must have a weight of two or more dimensions",
                          "a quantized model, whose weights are packed",
                          "Attach to the model before it is quantized.");
    }
    if (!has_matrix(layers_)) {
      fail<ArgumentError>("attach", "the model must have a weight of two or more dimensions",
                          "a model without one",
                          "torch.jit.freeze and optimize_for_inference turn the weights into "
                          "constants: attach before calling them.");
    }
    require_exclusions_matched();
    require_indices_present();
    for (const auto& name : config_.target_modules.names) choose_by_name(name);
    if (!config_.target_modules.regex.empty()) choose_by_regex();
    if (chosen_.empty()) fail_nothing_chosen();
    std::vector<ChosenWeight> weights;
    for (const auto& [at, attention] : chosen_) weights.push_back({at.first, at.second, attention});
    return weights;
  }

 private:
  bool is_excluded(const std::string& path) const {
    return excluded_.matches(path) || is_saved_whole(path, config_.modules_to_save);
  }

  void choose_by_name(const std::string& name) {
    if (is_all_linear(name)) return choose_all_linear();
    std::vector<size_t> modules;
    std::vector<ParameterIndex> parameters;
    for (size_t i = 0; i < layers_.size(); ++i) {
      if (matches_name(layers_[i].name, name)) modules.push_back(i);
      for (size_t j = 0; j < layers_[i].parameters.size(); ++j) {
        if (matches_name(parameter_path(layers_[i], j), name)) parameters.emplace_back(i, j);
      }
    }
    if (modules.empty() && parameters.empty()) return refuse_or_note("target_modules", name);
    if (!modules.empty() && !parameters.empty()) fail_ambiguous(name, modules[0], parameters[0]);
    for (const auto i : modules) {
      if (layers_[i].name == name || indices_.wants(layers_[i].name)) choose_layer(i, name);
    }
    for (const auto& at : parameters) choose_parameter(at);
  }

  void choose_all_linear() {
    bool found = false;
    for (size_t i = 0; i < layers_.size(); ++i) {
      // A linear layer that has no weight of its own is refused below, not skipped.
      const bool normed = layers_[i].type == "ParametrizedLinear" ||
                          (layers_[i].type == "Linear" && source_of_weight(layers_[i]) != nullptr);
      if (!normed && (!is_linear(layers_[i]) || is_output_head(layers_[i], layers_))) continue;
      found = true;
      if (indices_.wants(layers_[i].name)) choose_layer(i, kAllLinear);
    }
    if (found) return;
    fail<ArgumentError>("attach", "all-linear must find a Linear layer other than the output head",
                        fmt::format("a model of {}", list_names(adaptable_)),
                        "Name the layers in target_modules.");
  }

  void choose_by_regex() {
    const Pattern regex(config_.target_modules.regex, "target_modules");
    bool found = false;
    for (size_t i = 0; i < layers_.size(); ++i) {
      if (layers_[i].name.empty() || !regex.matches_all_of(layers_[i].name)) continue;
      found = true;
      choose_layer(i, config_.target_modules.regex);
    }
    if (found) return;
    fail<ArgumentError>(
        "attach", "target_modules must match at least one layer",
        fmt::format("the regular expression \"{}\", which matches the whole path of none of {}",
                    config_.target_modules.regex, list_names(adaptable_)));
  }

  void choose_layer(size_t layer, const std::string& by) {
    if (is_excluded(layers_[layer].name)) return;
    const auto weights = weights_of(layers_[layer]);
    if (weights.empty()) {
      fail<ArgumentError>(
          "attach", "target_modules must match layers with a weight of two or more dimensions",
          fmt::format("\"{}\", which matches \"{}\", a {}", by, layers_[layer].name,
                      layers_[layer].type),
          layers_in(layers_[layer].name));
    }
    require_own_weight(layers_[layer]);
    if (choose_attention(layer)) return;
    for (const auto weight : weights) {
      if (!excluded_.matches(parameter_path(layers_[layer], weight))) {
        chosen_.emplace(ParameterIndex(layer, weight), std::nullopt);
      }
    }
  }

  /// If B·A were added before the norm, it would mean something else than in PEFT, which adds B·A·x
  /// to the output of the layer.
  static void require_own_weight(const ModelLayer& layer) {
    const auto* source = source_of_weight(layer);
    if (source == nullptr) return;
    fail<ArgumentError>(
        "attach", "target_modules must match layers that read a weight of their own",
        fmt::format(
            "\"{}\", which computes it from {} in each forward (spectral_norm or weight_norm)",
            layer.name, source),
        fmt::format("Remove the norm first, or adapt the parameter that it normalises: \"{}.{}\".",
                    layer.name, source));
  }

  /// Chooses both weights of a MultiheadAttention, as PEFT does (tuners/lora/layer.py). Returns
  /// false if the layer is none, or if one of its weights is excluded.
  bool choose_attention(size_t layer) {
    const auto& attention = layers_[layer];
    if (attention.type != "MultiheadAttention" || attention.name.empty()) return false;
    const auto input = position_of(attention, "in_proj_weight");
    const auto output = std::find_if(layers_.begin(), layers_.end(), [&](const ModelLayer& other) {
      return other.name == attention.name + ".out_proj";
    });
    if (!input || output == layers_.end() || output->kind != LayerKind::kLinear) return false;
    if (excluded_.matches(parameter_path(attention, *input)) || is_excluded(output->name)) {
      return false;
    }
    const auto out = static_cast<size_t>(output - layers_.begin());
    chosen_[{layer, *input}] = layer;
    chosen_[{out, *position_of(*output, "weight")}] = layer;
    return true;
  }

  void choose_parameter(const ParameterIndex& at) {
    const auto& layer = layers_[at.first];
    const auto path = parameter_path(layer, at.second);
    // Neither exclude_modules nor layers_to_transform applies to parameters (PEFT,
    // _inject_parameters).
    if (is_saved_whole(layer.name, config_.modules_to_save)) return;
    if (const auto& tensor = layer.parameters[at.second].second; tensor.dim() < 2) {
      fail<ArgumentError>("attach", "an adapted parameter must have two or more dimensions",
                          fmt::format("\"{}\" of {}", path, tensor.dim()));
    }
    chosen_.emplace(at, std::nullopt);
  }

  bool is_unmatched(const char* field, const std::string& entry) const {
    return unmatched_ != nullptr &&
           std::any_of(unmatched_->begin(), unmatched_->end(), [&](const UnmatchedEntry& other) {
             return other.field == field && other.entry == entry;
           });
  }

  /// A hint for a container that was named: the layers in it.
  std::string layers_in(const std::string& container) const {
    std::vector<std::string> names;
    for (const auto& name : adaptable_) {
      if (name.starts_with(container + ".")) names.push_back(name);
    }
    return names.empty() ? "" : fmt::format("It holds {}.", list_names(names, 4));
  }

  /// What matches nothing is a typo, unless a file says what is meant.
  void refuse_or_note(const char* field, const std::string& name) const {
    if (unmatched_ == nullptr) fail_unmatched(field, name);
    unmatched_->push_back({field, name});
  }

  [[noreturn]] void fail_unmatched(const char* field, const std::string& name) const {
    auto names = with_endings(adaptable_);
    for (const auto& layer : layers_) {
      for (size_t j = 0; j < layer.parameters.size(); ++j)
        names.push_back(parameter_path(layer, j));
    }
    fail<ArgumentError>(
        "attach", fmt::format("each of {} must match a layer", field),
        fmt::format("\"{}\", which matches none of {}", name, list_names(adaptable_)),
        did_you_mean(name, names));
  }

  [[noreturn]] void fail_ambiguous(const std::string& name, size_t module,
                                   const ParameterIndex& parameter) const {
    fail<ArgumentError>(
        "attach", "each of target_modules must match layers or parameters, not both",
        fmt::format("\"{}\", which matches the layer \"{}\" and the parameter \"{}\"", name,
                    layers_[module].name,
                    parameter_path(layers_[parameter.first], parameter.second)),
        "Give more of the path.");
  }

  [[noreturn]] void fail_nothing_chosen() const {
    std::vector<std::string> fields;
    for (const auto& name : config_.target_modules.names) {
      if (is_unmatched("target_modules", name)) fail_unmatched("target_modules", name);
    }
    if (!config_.exclude_modules.empty()) fields.emplace_back("exclude_modules");
    if (!config_.modules_to_save.empty()) fields.emplace_back("modules_to_save");
    if (!config_.layers_to_transform.empty()) fields.emplace_back("layers_to_transform");
    fail<ArgumentError>("attach",
                        list_names(fields) + " must leave at least one of the target_modules",
                        "none left");
  }

  void require_exclusions_matched() const {
    const auto matched = [&](const auto& matches) {
      return std::any_of(layers_.begin(), layers_.end(), [&](const ModelLayer& layer) {
        if (matches(layer.name)) return true;
        for (size_t j = 0; j < layer.parameters.size(); ++j) {
          if (matches(parameter_path(layer, j))) return true;
        }
        return false;
      });
    };
    for (const auto& name : config_.exclude_modules.names) {
      if (matched([&](const auto& path) { return matches_name(path, name); })) continue;
      refuse_or_note("exclude_modules", name);
    }
    const auto& regex = config_.exclude_modules.regex;
    if (regex.empty() || matched([&](const auto& path) { return excluded_.matches(path); })) return;
    if (unmatched_ != nullptr) return unmatched_->push_back({"exclude_modules", regex});
    fail<ArgumentError>("attach", "exclude_modules must match at least one layer",
                        fmt::format("the regular expression \"{}\", which matches none of {}",
                                    regex, list_names(adaptable_)));
  }

  void require_indices_present() const {
    std::set<int64_t> present;
    for (const auto& layer : layers_) {
      if (const auto index = indices_.index_of(layer.name)) present.insert(*index);
    }
    std::vector<std::string> names;
    for (const auto index : present) names.push_back(std::to_string(index));
    for (const auto index : config_.layers_to_transform) {
      if (present.contains(index)) continue;
      if (unmatched_ != nullptr) {
        unmatched_->push_back({"layers_to_transform", std::to_string(index)});
        continue;
      }
      fail<ArgumentError>("attach", "layers_to_transform must hold indices of the model's layers",
                          names.empty()
                              ? fmt::format("{} for a model without numbered layers", index)
                              : fmt::format("{}, which is none of {}", index, list_names(names)));
    }
  }

  const std::vector<ModelLayer>& layers_;
  const LoraConfig& config_;
  std::vector<UnmatchedEntry>* unmatched_;  // null: such entries are refused
  CompiledSelector excluded_;
  LayerIndices indices_;
  std::vector<std::string> adaptable_;                      // names of layers, for messages
  std::map<ParameterIndex, std::optional<size_t>> chosen_;  // with the attention, if any
};

}  // namespace

std::vector<ChosenWeight> choose_targets(const std::vector<ModelLayer>& layers,
                                         const LoraConfig& config,
                                         std::vector<UnmatchedEntry>* unmatched) {
  return TargetChoice(layers, config, unmatched).choose();
}

std::vector<std::string> with_endings(const std::vector<std::string>& names) {
  std::vector<std::string> endings;
  for (const auto& name : names) {
    endings.push_back(name);
    for (size_t dot = name.find('.'); dot != std::string::npos; dot = name.find('.', dot + 1)) {
      endings.push_back(name.substr(dot + 1));
    }
  }
  return endings;
}

}  // namespace lowrank
