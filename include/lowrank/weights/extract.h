#pragma once

#include <c10/core/ScalarType.h>
#include <lowrank/checkpoint/checkpoint.h>
#include <lowrank/export.h>
#include <lowrank/linalg/rank_rule.h>
#include <lowrank/weights/report.h>

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

namespace lowrank {

/// What becomes of a tensor that changed and is no layer's weight: a norm, a bias, an embedding.
enum class WholeTensors {
  kSave,    ///< it is saved whole, beside the factors
  kSkip,    ///< it is left out, and named in the report
  kRefuse,  ///< extract_adapter() throws
};

struct ExtractOptions {
  RankRule rule = RankRule::numerical();
  /// Parameters that all factors may have together. Ranks are then chosen over the whole model, by
  /// the largest σ² per parameter, and of the rule only the limits count (RankRule::within); each
  /// layer has at least rank 1.
  std::optional<int64_t> budget = {};
  SplitScale split = SplitScale::kBalanced;
  WholeTensors whole = WholeTensors::kSave;
  at::ScalarType dtype = at::kFloat;  ///< of the factors
  /// Whether weights are (in, out), as those of transformers' Conv1D in GPT-2.
  bool fan_in_fan_out = false;
  std::string base_name = {};  ///< base_model_name_or_path; empty: the base's place
  bool force = false;          ///< replaces an adapter that is in the folder
  /// Takes up what an extraction of the same files left when it was killed, if there is something.
  bool resume = false;
  /// Called before each layer with its name, its place and how many there are.
  std::function<void(const std::string&, int64_t, int64_t)> on_layer = {};
};

/// Writes an adapter of the difference between two models into a folder in PEFT's form: for each
/// weight that changed, the best approximation of ΔW = tuned - base with the rank that the rule
/// chooses, at least 1, with scaling 1.
///
/// A layer is a tensor NAME.weight of two or more dimensions, a convolution's flattened to (out,
/// in·kernel), unless NAME says that it is an embedding or a language model's head: their tables
/// hardly ever change by a low rank, so they are saved whole, as are norms (modules_to_save) and
/// biases (bias="all"). A table may have more rows than the base's.
///
/// One layer is in memory at a time, in float64; one of more than 2^24 numbers in float32 where its
/// rank is known beforehand. Figures are computed in float64, but the spectral error of a layer
/// whose smaller side is above 512 is accurate to 1e-6.
///
/// Everything is made in a hidden folder, ".NAME.unfinished" beside `to`, which takes the place of
/// `to` in one step. Other files in `to` stay.
///
/// Throws, before any decomposition: FileError that names them if the models have other tensors or
/// shapes; if no layer changed; for a tensor that can be saved neither way; and if `to` holds an
/// adapter and `force` is false; TensorError for a weight that is not finite.
LOWRANK_API WeightsReport extract_adapter(const Checkpoint& base, const Checkpoint& tuned,
                                          const std::filesystem::path& to,
                                          const ExtractOptions& options);

}  // namespace lowrank
