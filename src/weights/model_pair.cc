#include "weights/model_pair.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <lowrank/error.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "io/shape_text.h"
#include "linalg/blocks.h"
#include "linalg/matrix.h"

namespace lowrank {
namespace {

constexpr int64_t kLargeMatrix = int64_t{1} << 24;

/// Whether a module's weight has a row for each token, position or kind of token, by the last part
/// of its path, in the models of transformers.
bool is_table(const std::string& module) {
  constexpr std::array<std::string_view, 14> kTables = {"embed_tokens",
                                                        "embed_positions",
                                                        "embeddings",
                                                        "embed_in",
                                                        "embed_out",
                                                        "lm_head",
                                                        "position_embeddings",
                                                        "shared",
                                                        "tok_embeddings",
                                                        "token_embedding",
                                                        "token_type_embeddings",
                                                        "word_embeddings",
                                                        "wpe",
                                                        "wte"};
  const auto dot = module.rfind('.');
  const auto last = std::string_view(module).substr(dot == std::string::npos ? 0 : dot + 1);
  return std::find(kTables.begin(), kTables.end(), last) != kTables.end();
}

bool is_layer(const std::string& name, const StoredTensor& weight) {
  const auto module = module_of(name);
  const bool is_empty = c10::multiply_integers(weight.shape) == 0;
  return weight.shape.size() >= 2 && !is_empty && at::isFloatingType(weight.dtype) &&
         name.ends_with(".weight") && !module.empty() && !is_table(module);
}

bool may_replace(const std::string& name, const std::vector<int64_t>& before,
                 const std::vector<int64_t>& after) {
  if (before == after) return true;
  return is_table(module_of(name)) && before.size() == 2 && after.size() == 2 &&
         before[1] == after[1] && before[0] < after[0];
}

bool are_equal(const at::Tensor& before, const at::Tensor& after) {
  return before.scalar_type() == after.scalar_type() && at::equal(before, after);
}

}  // namespace

std::string module_of(const std::string& name) {
  const auto dot = name.rfind('.');
  return dot == std::string::npos ? std::string() : name.substr(0, dot);
}

ModelPair::ModelPair(const Checkpoint& base, const Checkpoint& tuned, bool transposed)
    : base_(base), tuned_(tuned), transposed_(transposed) {
  require_same_tensors();
}

void ModelPair::require_same_tensors() const {
  const auto missing = [](const Checkpoint& from, const Checkpoint& in) {
    std::vector<std::string> names;
    for (const auto& name : from.names()) {
      if (!in.contains(name)) names.push_back(name);
    }
    return names;
  };
  for (const auto& [from, in] : {std::pair(&base_, &tuned_), std::pair(&tuned_, &base_)}) {
    const auto names = missing(*from, *in);
    if (names.empty()) continue;
    fail<FileError>("extract", "both models must have the same tensors",
                    fmt::format("{} in \"{}\" and not in \"{}\": {}", names.size(),
                                from->place().string(), in->place().string(), list_names(names)));
  }
  for (const auto& name : base_.names()) {
    const auto before = base_.stored(name).shape, after = tuned_.stored(name).shape;
    if (may_replace(name, before, after)) continue;
    fail<FileError>("extract", fmt::format("\"{}\" must have one shape in both models", name),
                    fmt::format("{} and {}", shape_text(before), shape_text(after)));
  }
}

ModelChanges ModelPair::changes() const {
  ModelChanges changes;
  for (const auto& name : base_.names()) {
    const auto before = base_.tensor(name), after = tuned_.tensor(name);
    if (are_equal(before, after)) {
      ++changes.unchanged;
    } else if (is_layer(name, base_.stored(name))) {
      require_unscaled(base_, name, "extract");
      require_unscaled(tuned_, name, "extract");
      finite_matrix("extract", fmt::format("\"{}\" of the base", name), before.flatten(1));
      finite_matrix("extract", fmt::format("\"{}\" of the tuned model", name), after.flatten(1));
      changes.layers.push_back(name);
    } else {
      changes.others.push_back(name);
    }
  }
  return changes;
}

at::Tensor ModelPair::matrix(const at::Tensor& weight) const {
  const auto rows = weight.flatten(1);
  return transposed_ && weight.dim() == 2 ? rows.t() : rows;
}

at::Tensor ModelPair::difference(const std::string& name, bool in_float32) const {
  const auto before = matrix(base_.tensor(name)), after = matrix(tuned_.tensor(name));
  const bool is_single = in_float32 && before.numel() > kLargeMatrix;
  const auto difference = at::empty(before.sizes(), is_single ? at::kFloat : at::kDouble);
  const auto rows = std::max<int64_t>(1, kBlockNumbers / std::max<int64_t>(1, before.size(1)));
  for (int64_t begin = 0; begin < before.size(0); begin += rows) {
    const auto size = std::min(rows, before.size(0) - begin);
    const auto part = after.narrow(0, begin, size).to(at::kDouble);
    difference.narrow(0, begin, size).copy_(part - before.narrow(0, begin, size).to(at::kDouble));
  }
  return finite_matrix("extract", fmt::format("the difference of \"{}\"", name), difference);
}

}  // namespace lowrank
