#include "adapter/state.h"

#include <ATen/ATen.h>
#include <fmt/ranges.h>
#include <lowrank/error.h>

#include <algorithm>
#include <unordered_set>

namespace lowrank {
namespace {

/// Puts a parameter that is trained in full in place of the tensor. Only one adapter can do this.
void replace(effective::Meaning& meaning, const WholeParameter& whole, const std::string& adapter) {
  if (meaning.replacement.defined()) {
    fail<ArgumentError>(
        "adapter", fmt::format("\"{}\" can be trained in full by one active adapter", whole.path),
        fmt::format("\"{}\" and another one", adapter), "Activate them one at a time.");
  }
  meaning.replacement = whole.value;
  meaning.rows = whole.rows;
}

}  // namespace

const NamedAdapter& Adapter::State::adapter(const std::string& name) const {
  if (name.empty() && adapters.empty()) {
    fail<ArgumentError>("adapter", "the model must have an adapter", "none");
  }
  if (name.empty() && active.empty()) return adapters.front();
  const auto& wanted = name.empty() ? active.front() : name;
  std::vector<std::string> names;
  for (const auto& adapter : adapters) {
    if (adapter.name == wanted) return adapter;
    names.push_back(adapter.name);
  }
  fail<ArgumentError>("adapter", "an adapter of this name must exist",
                      names.empty()
                          ? fmt::format("\"{}\" for a model without adapters", name)
                          : fmt::format("\"{}\", which is none of {}", name, list_names(names)),
                      did_you_mean(name, names));
}

NamedAdapter& Adapter::State::adapter(const std::string& name) {
  return const_cast<NamedAdapter&>(std::as_const(*this).adapter(name));
}

bool Adapter::State::any_merged() const {
  return std::any_of(adapters.begin(), adapters.end(),
                     [](const NamedAdapter& adapter) { return adapter.merged; });
}

size_t Adapter::State::site_for(const std::string& path, const at::Tensor& tensor, LayerKind kind,
                                int64_t groups, const std::function<bool()>& is_training) {
  for (size_t i = 0; i < tensors.size(); ++i) {
    // A parameter that one adapter replaces may carry factors in another adapter. The kind that the
    // factors are made for takes precedence.
    auto& site = *tensors[i].site;
    if (!tensors[i].tensor.is_same(tensor)) continue;
    if (site.kind == kind || kind == LayerKind::kOther) return i;
    if (site.kind == LayerKind::kOther) {
      site.kind = kind;
      site.groups = groups;
      site.is_training = is_training;
      return i;
    }
  }
  auto site = std::make_shared<effective::Site>();
  site->path = path;
  site->kind = kind;
  site->groups = groups;
  site->is_training = is_training;
  site->board = board;
  site->index = tensors.size();
  tensors.push_back({tensor, std::move(site), {}});
  return tensors.size() - 1;
}

std::vector<std::string> Adapter::State::lost_parameters() const {
  std::vector<std::string> lost;
  std::unordered_set<const at::TensorImpl*> of_sites;
  for (const auto& adapted : tensors) of_sites.insert(adapted.tensor.unsafeGetTensorImpl());
  for (const auto& layer : model) {
    for (const auto& [name, tensor] : layer.parameters) {
      if (!of_sites.contains(tensor.unsafeGetTensorImpl()) || !layer.current) continue;
      const auto now = layer.current(name);
      if (now.defined() && !now.is_same(tensor)) lost.push_back(dotted_path(layer.name, name));
    }
  }
  return lost;
}

void Adapter::State::require_none_lost(const char* operation) const {
  const auto lost = lost_parameters();
  if (lost.empty()) return;
  fail<TensorError>(operation, "the model's parameters must be the tensors that were adapted",
                    fmt::format("a module that was given another tensor as {}", list_names(lost)),
                    "Detach, or write into the old tensor (copy_, set_data) instead of assigning.");
}

size_t Adapter::State::site_for_statistic(const std::string& path, const at::Tensor& tensor) {
  const auto index = site_for(path, tensor, LayerKind::kOther, 1, {});
  tensors[index].site->is_statistic = true;
  return index;
}

effective::Term term_of(const LayerFactors& layer, const NamedAdapter& adapter) {
  return {.a = layer.a,
          .b = layer.b,
          .minus_a = layer.minus_a,
          .minus_b = layer.minus_b,
          .magnitude = layer.magnitude,
          .scaling = layer.target.scaling * adapter.scale,
          .dropout = adapter.config.lora_dropout};
}

void require_unmerged(const NamedAdapter& adapter, const char* operation) {
  if (!adapter.merged) return;
  fail<TensorError>(operation, "the adapter must not be merged",
                    fmt::format("\"{}\", which is", adapter.name), "Unmerge it first.");
}

void require_unmerged(const Adapter& adapter, const char* operation) {
  if (!adapter.merged()) return;
  fail<TensorError>(operation, "the adapter must not be merged", "one that is merged",
                    "Unmerge it first.");
}

bool subtracts_from_base(const NamedAdapter& adapter) {
  return std::any_of(adapter.layers.begin(), adapter.layers.end(),
                     [](const auto& layer) { return layer.minus_a.defined(); });
}

std::vector<effective::Meaning> Adapter::State::meanings(
    const std::vector<std::string>& names) const {
  std::vector<effective::Meaning> meanings(tensors.size());
  for (const auto& name : names) {
    const auto& of = adapter(name);
    for (const auto& layer : of.layers) {
      const auto term = term_of(layer, of);
      meanings[layer.site].terms.push_back(term);
      if (layer.bias_site) {
        meanings[*layer.bias_site].terms.push_back({.b = layer.bias, .scaling = term.scaling});
      }
    }
    for (const auto& whole : of.whole) replace(meanings[whole.site], whole, of.name);
  }
  return meanings;
}

void require_distinct(const std::vector<std::string>& names) {
  for (const auto& name : names) {
    if (std::count(names.begin(), names.end(), name) == 1) continue;
    fail<ArgumentError>("adapter", "each adapter can be named once",
                        fmt::format("\"{}\" twice", name), "set_scale() gives it more weight.");
  }
}

std::shared_ptr<const effective::Selection> Adapter::State::select(
    const std::vector<std::string>& names) const {
  require_distinct(names);
  std::vector<std::string> unmerged;
  for (const auto& name : names) {
    if (!adapter(name).merged) unmerged.push_back(name);
  }
  auto selection = std::make_shared<effective::Selection>();
  // It stays empty for the base: see Selection::of.
  if (!unmerged.empty()) selection->meanings = meanings(unmerged);
  return selection;
}

void Adapter::State::publish() {
  board->publish(select(enabled ? active : std::vector<std::string>()));
  for (auto& tensor : tensors) {
    if (!effective::is_bound(tensor.tensor, *tensor.site)) {
      effective::bind(tensor.tensor, tensor.site);
    }
  }
}

void require_adaptable(const Adapter::State& state, const std::string& path,
                       const at::Tensor& tensor) {
  if (tensor.numel() == 0) {
    fail<TensorError>("attach", "an adapted weight must not be empty",
                      fmt::format("\"{}\" of shape ({})", path, fmt::join(tensor.sizes(), ", ")));
  }
  if (!tensor.is_floating_point()) {
    fail<TensorError>("attach", "an adapted weight must hold floating-point numbers",
                      fmt::format("\"{}\" of type {}", path, c10::toString(tensor.scalar_type())));
  }
  if (tensor.is_inference()) {
    fail<TensorError>("attach", "an adapted weight must not be made in inference mode",
                      fmt::format("\"{}\", which was", path),
                      "Make or load the model outside of InferenceMode.");
  }
  for (const auto& site : effective::sites_of(tensor)) {
    if (site->board == state.board) continue;
    fail<TensorError>("attach", "a weight can carry the adapters of one handle",
                      fmt::format("\"{}\", which is adapted already", path),
                      "Use Adapter::add() or load(), or detach() it first.");
  }
}

void check_name(const Adapter::State& state, const std::string& name) {
  const bool printable = std::all_of(name.begin(), name.end(), [](unsigned char character) {
    return character >= 0x20 && character != 0x7f;
  });
  if (name.empty() || name == "__base__" || !printable ||
      name.find_first_of("./\\") != std::string::npos) {
    fail<ArgumentError>("adapter", "an adapter's name must be a word without dots and slashes",
                        printable ? fmt::format("\"{}\"", name) : "one with control characters");
  }
  for (const auto& adapter : state.adapters) {
    if (adapter.name != name) continue;
    fail<ArgumentError>("adapter", "an adapter's name must be new",
                        fmt::format("\"{}\", which exists", name),
                        "Remove or rename it first; load() can replace it.");
  }
}

}  // namespace lowrank
