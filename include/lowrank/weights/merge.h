#pragma once

#include <lowrank/checkpoint/checkpoint.h>
#include <lowrank/export.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace lowrank {

struct CheckpointMergeOptions {
  /// Takes the adapters out of a merged model again: W - s·B·A. Not possible for adapters that
  /// replace tensors.
  bool subtract = false;
  std::string prefix = {};  ///< put before the names in the adapters: "transformer."
  bool force = false;       ///< replaces files that are at the place of the result
  /// Continues a merge of the same files that was killed, if there is one. A tensor that it had
  /// written is kept if its SHA-256 is still the one that was noted.
  bool resume = false;
  /// Called for each tensor with its name, its index, counted from 0, and the number of tensors.
  std::function<void(const std::string&, int64_t, int64_t)> on_tensor = {};
};

/// One tensor that a merge changed. All norms are Frobenius norms in float64.
struct MergedTensor {
  std::string name;
  double update = 0;    ///< of the update, Σ s·B·A
  double rounding = 0;  ///< of what rounding the sum to the tensor's dtype took off or added
  int64_t numbers = 0;
  int64_t unchanged = 0;  ///< numbers that are as before, because the update was rounded away
  bool is_replaced = false;
};

struct CheckpointMergeReport {
  std::vector<MergedTensor> tensors;
  int64_t copied = 0;   ///< tensors that are as in the base
  int64_t resumed = 0;  ///< tensors that an interrupted merge had written
  /// The adapters that, by what their files say, were made for another base. PEFT's files do not
  /// say it. Empty if adapters are taken out of the weights (`subtract`).
  std::vector<std::filesystem::path> of_other_bases = {};
  std::vector<std::string> notes = {};  ///< sentences about what was found in the adapters

  /// √Σ rounding² / √Σ update²: the part of the updates that rounding lost.
  LOWRANK_API double relative_rounding() const;
};

LOWRANK_API nlohmann::ordered_json to_json(const CheckpointMergeReport& report);

/// Writes a checkpoint with adapters merged into its weights: W + Σ s·B·A, computed in float64 and
/// rounded once to the tensor's dtype. Tensors that an adapter holds whole take the place of the
/// base's. The result has the files of the base; that of a folder also has its other small files
/// (config, tokenizer) and kReportFile, and a model in one file becomes the file `out`. Rows are
/// computed in blocks, and tensors written one after the other, so that memory does not grow with
/// the model.
///
/// Where the model shares its head with its embeddings (tie_word_embeddings) and an adapter changes
/// one of them, the model with the adapter has two different matrices. So has the result:
/// "lm_head.weight" is written apart, and config.json says that the two are not tied.
///
/// Everything is made in a hidden folder, ".NAME.unfinished" beside `out`, which takes the place of
/// `out` in one step. Other files in `out` stay.
///
/// Throws FileError, before anything is written, for an adapter that does not fit the base or
/// cannot be merged without the model (experts, rows of embeddings, an init that changes the
/// base), and TensorError for a sum that its dtype cannot hold.
LOWRANK_API CheckpointMergeReport merge_adapters(const Checkpoint& base,
                                                 const std::vector<std::filesystem::path>& adapters,
                                                 const std::filesystem::path& out,
                                                 const CheckpointMergeOptions& options = {});

/// What verify_merge() finds in one tensor.
struct VerifiedTensor {
  std::string name;
  int64_t wrong = 0;   ///< numbers that are not those of the merge
  double largest = 0;  ///< the largest difference
};

/// Computes again, in float64, what merge_adapters() would write, and returns the tensors of
/// `merged` that differ from it in any bit: none if `merged` is that merge. Throws FileError if the
/// two do not have the same tensors.
LOWRANK_API std::vector<VerifiedTensor> verify_merge(
    const Checkpoint& base, const std::vector<std::filesystem::path>& adapters,
    const Checkpoint& merged, const CheckpointMergeOptions& options = {});

}  // namespace lowrank
