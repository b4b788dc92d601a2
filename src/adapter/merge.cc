#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <lowrank/error.h>

#include <cmath>
#include <optional>

#include "adapter/low_rank_sum.h"
#include "adapter/state.h"
#include "effective/compact_weight.h"
#include "linalg/norm_in_float64.h"

// Merges adapters into the weights and takes them out again, in all layers or in none.
namespace lowrank {
namespace {

using effective::Meaning;

/// The change of one tensor, which is written once the changes of all tensors are known: `from` +
/// `sum` if the terms consist of factors alone, otherwise `values`.
struct Change {
  size_t site;
  MergedLayer report;
  at::Tensor from;
  std::optional<LowRankSum> sum;
  at::Tensor values;
};

/// Computes W' = W + everything that `meaning` adds. Unless one product can express this without
/// overflow, W' is computed in float64 as well, to measure the rounding error.
Change change_of(const AdaptedTensor& tensor, const at::Tensor& base, const Meaning& meaning) {
  const auto& site = *tensor.site;
  Change change = {
      .site = site.index, .report = {site.path}, .from = base, .sum = {}, .values = {}};
  change.sum = low_rank_sum(base, site, meaning);
  if (change.sum && is_provably_finite(base, *change.sum)) return change;
  change.sum.reset();
  change.values = effective::effective_weight(base, site, meaning);
  if (!at::isfinite(change.values).all().item<bool>()) {
    fail<TensorError>("merge", "W + s·B·A must be finite in every layer",
                      fmt::format("NaN or Inf in \"{}\"", site.path), "Nothing was changed.");
  }
  const auto exact = effective::effective_weight(base.to(at::kDouble), site, meaning);
  const auto difference = exact - base.to(at::kDouble);
  const double size = norm_in_float64(difference);
  change.report.largest_change = difference.abs().max().item<double>();
  change.report.rounding_error =
      size > 0 ? norm_in_float64(change.values.to(at::kDouble) - exact) / size : 0;
  return change;
}

void require_mergeable(const NamedAdapter& adapter, bool keep_copies) {
  if (adapter.merged) {
    fail<TensorError>("merge", "the adapter must not be merged yet",
                      fmt::format("\"{}\", which is", adapter.name));
  }
  if (!keep_copies && adapter.config.use_dora) {
    fail<ArgumentError>("merge", "DoRA must be merged with copies of the weights",
                        fmt::format("keep_copies = false for \"{}\"", adapter.name),
                        "Its norms cannot be recovered from the merged weights.");
  }
}

void require_writable(const AdaptedTensor& tensor) {
  if (effective::compact_weight_of(tensor.tensor) == nullptr) return;
  fail<TensorError>("merge", "weights must be float32 in memory to be merged into",
                    fmt::format("\"{}\", which stays in a compact format", tensor.site->path),
                    "`lowrank merge` writes the merged weights of a checkpoint to a new file.");
}

/// Merging into a weight that two layers share would change both of them.
void require_unshared_weight(const Adapter::State& state, const at::Tensor& weight) {
  std::vector<std::string> names;
  for (const auto& layer : state.model) {
    for (const auto& [name, tensor] : layer.parameters) {
      if (tensor.is_same(weight)) names.push_back(layer.name);
    }
  }
  if (names.size() < 2) return;
  fail<TensorError>("merge", "a weight must belong to one layer to be merged into",
                    fmt::format("\"{}\" and \"{}\", which share it", names[0], names[1]),
                    "Give one of them a clone of it, or leave the adapter unmerged.");
}

/// The copies hold W from before the merge, so a later change would be lost silently.
void require_unchanged(const Adapter::State& state, const char* operation) {
  for (const auto& tensor : state.tensors) {
    if (!tensor.unmerged.defined() || tensor.tensor._version() == tensor.version) continue;
    fail<TensorError>(
        operation, "a weight must not be written to between merge and unmerge",
        fmt::format("\"{}\", which was", tensor.site->path),
        "unmerge() with discard_writes goes back to what it was before the merge; "
        "after a merge with keep_copies = false it subtracts s·B·A from the current weight.");
  }
}

/// The names of all merged adapters.
std::vector<std::string> merged_names(const Adapter::State& state) {
  std::vector<std::string> names;
  for (const auto& adapter : state.adapters) {
    if (adapter.merged) names.push_back(adapter.name);
  }
  return names;
}

at::Tensor stored(const AdaptedTensor& tensor) {
  return effective::without_mark(tensor.tensor).detach();
}

void write(AdaptedTensor& tensor, const at::Tensor& values) {
  stored(tensor).copy_(values);
  tensor.version = tensor.tensor._version();
}

void write(AdaptedTensor& tensor, Change& change) {
  if (!change.sum) return write(tensor, change.values);
  const auto figures = write_sum(stored(tensor), change.from, *change.sum);
  tensor.version = tensor.tensor._version();
  change.report.largest_change = figures.largest;
  change.report.rounding_error =
      figures.squares_of_change > 0
          ? std::sqrt(figures.squares_of_rounding / figures.squares_of_change)
          : 0;
}

/// Writes to `to` the effective weight of `from`.
void write_meaning(const at::Tensor& to, const at::Tensor& from, const effective::Site& site,
                   const Meaning& meaning) {
  if (const auto sum = low_rank_sum(from, site, meaning)) {
    write_sum(to, from, *sum);
  } else {
    to.copy_(effective::effective_weight(from, site, meaning));
  }
}

/// Unmerges without copies: subtracts from W what the adapters added, and restores replaced tensors
/// from their copies.
void unmerge_by_subtraction(Adapter::State& state, const std::vector<std::string>& names) {
  const auto meanings = state.meanings(names);
  for (size_t i = 0; i < meanings.size(); ++i) {
    auto& tensor = state.tensors[i];
    if (meanings[i].is_base()) continue;
    const auto weight = stored(tensor);
    if (tensor.unmerged.defined()) {
      weight.copy_(tensor.unmerged);
      tensor.unmerged.reset();
      continue;
    }
    auto negative = meanings[i];
    for (auto& term : negative.terms) term.scaling = -term.scaling;
    write_meaning(weight, weight, *tensor.site, negative);
  }
}

/// Unmerges with copies: computes the weights again from the base and the adapters that stay
/// `merged`.
void restore(Adapter::State& state, const std::vector<std::string>& merged) {
  const auto meanings = state.meanings(merged);
  for (size_t i = 0; i < state.tensors.size(); ++i) {
    auto& tensor = state.tensors[i];
    if (!tensor.unmerged.defined()) continue;
    write_meaning(stored(tensor), tensor.unmerged, *tensor.site, meanings[i]);
    tensor.version = tensor.tensor._version();
    if (meanings[i].is_base()) tensor.unmerged.reset();
  }
}

/// The selection of an open scope was made for the weights as they were when it began.
void require_no_scope(const Adapter::State& state, const char* operation) {
  if (!state.board->has_scope()) return;
  fail<TensorError>(operation, fmt::format("{} must be called outside of use scopes", operation),
                    "an open one on this thread");
}

}  // namespace

std::vector<MergedLayer> Adapter::merge(const std::vector<std::string>& names,
                                        const MergeOptions& options) {
  const StateLock lock(state_->mutex);
  auto& state = *state_;
  const auto wanted = names.empty() ? state.active : names;
  if (wanted.empty()) fail<ArgumentError>("merge", "an adapter must be named or active", "none");
  require_distinct(wanted);
  require_no_scope(state, "merge");
  state.require_none_lost("merge");
  const bool copies = state.any_merged() ? state.merged_with_copies : options.keep_copies;
  for (const auto& name : wanted) require_mergeable(state.adapter(name), copies);
  require_unchanged(state, "merge");
  const at::NoGradGuard no_grad;
  auto all = merged_names(state);
  all.insert(all.end(), wanted.begin(), wanted.end());
  const auto added = state.meanings(wanted);
  const auto total = state.meanings(all);
  std::vector<Change> changes;
  for (size_t i = 0; i < added.size(); ++i) {
    if (added[i].is_base()) continue;
    const auto& tensor = state.tensors[i];
    require_writable(tensor);
    require_unshared_weight(state, tensor.tensor);
    const bool from_copy = copies && tensor.unmerged.defined();
    changes.push_back(from_copy ? change_of(tensor, tensor.unmerged, total[i])
                                : change_of(tensor, stored(tensor), added[i]));
  }
  std::vector<MergedLayer> report;
  for (auto& change : changes) {
    auto& tensor = state.tensors[change.site];
    const bool replaced = added[change.site].replacement.defined();
    if ((copies || replaced) && !tensor.unmerged.defined()) {
      tensor.unmerged = stored(tensor).clone();
    }
    write(tensor, change);
    report.push_back(change.report);
  }
  for (const auto& name : wanted) state.adapter(name).merged = true;
  state.merged_with_copies = copies;
  state.publish();
  return report;
}

void Adapter::unmerge(const std::vector<std::string>& names, const UnmergeOptions& options) {
  const StateLock lock(state_->mutex);
  auto& state = *state_;
  const auto wanted = names.empty() ? merged_names(state) : names;
  if (wanted.empty()) {
    fail<TensorError>("unmerge", "the adapter must be merged", "one that is not merged");
  }
  for (const auto& name : wanted) {
    if (state.adapter(name).merged) continue;
    fail<TensorError>("unmerge", "the adapter must be merged",
                      fmt::format("\"{}\", which is not", name));
  }
  require_no_scope(state, "unmerge");
  if (!options.discard_writes) require_unchanged(state, "unmerge");
  const at::NoGradGuard no_grad;
  if (state.merged_with_copies) {
    auto staying = merged_names(state);
    std::erase_if(staying, [&](const auto& name) {
      return std::find(wanted.begin(), wanted.end(), name) != wanted.end();
    });
    restore(state, staying);
  } else {
    unmerge_by_subtraction(state, wanted);
  }
  for (const auto& name : wanted) state.adapter(name).merged = false;
  state.publish();
}

bool Adapter::merged() const {
  const StateLock lock(state_->mutex);
  return state_->any_merged();
}

}  // namespace lowrank
