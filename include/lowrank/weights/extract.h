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
  /// The most parameters that all factors may have together. Ranks are then chosen over the whole
  /// model, by the largest σ² per parameter, and only the limits of the rule count
  /// (RankRule::within). Each layer has at least rank 1.
  std::optional<int64_t> budget = {};
  SplitScale split = SplitScale::kBalanced;
  WholeTensors whole = WholeTensors::kSave;
  at::ScalarType dtype = at::kFloat;  ///< of the factors
  /// Whether weights are (in, out), as those of transformers' Conv1D in GPT-2.
  bool fan_in_fan_out = false;
  std::string base_name = {};  ///< base_model_name_or_path; empty: the base's place
  bool force = false;          ///< replaces an adapter that is in the folder
  /// Continues an extraction from the same files that was killed, if there is one.
  bool resume = false;
  /// Called before each layer with its name, its index, counted from 0, and the number of layers.
  std::function<void(const std::string&, int64_t, int64_t)> on_layer = {};
};

/// Writes an adapter of the difference between two models into a folder in PEFT's form: for each
/// weight that changed, the best approximation of ΔW = tuned - base with the rank that the rule
/// chooses, at least 1, with scaling 1.
///
/// A layer is a tensor NAME.weight of two or more dimensions, unless NAME says that it is a table:
/// an embedding or a language model's head. A convolution's weight is flattened to (out,
/// in·kernel). Changes of tables hardly ever have a low rank, so tables are saved whole, as are
/// norms (modules_to_save names both) and the biases of layers (bias="all"). A table may have more
/// rows than the base's.
///
/// Only one layer's difference is in memory at a time: in float64, or in float32 if it has more
/// than 2^24 numbers and its rank is known beforehand (RankRule::known_rank(), or a budget).
/// Figures are computed in float64, except the spectral norm of the error for layers held in
/// float32 and for layers whose smaller side is above 512: it is computed in float32, and accurate
/// to 1e-6.
///
/// Everything is made in a hidden folder, ".NAME.unfinished" beside `to`, which takes the place of
/// `to` in one step. Other files in `to` stay.
///
/// Throws, before any decomposition: FileError if the models differ in their tensors or shapes (it
/// names these), if no layer changed, for a tensor that neither modules_to_save nor bias="all" can
/// hold or that `whole` refuses, and if `to` holds an adapter and `force` is false; TensorError for
/// a weight that is not finite.
LOWRANK_API WeightsReport extract_adapter(const Checkpoint& base, const Checkpoint& tuned,
                                          const std::filesystem::path& to,
                                          const ExtractOptions& options);

}  // namespace lowrank
