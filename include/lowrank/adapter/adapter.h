#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/adapter/lora_config.h>
#include <lowrank/export.h>

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace torch::nn {
class Module;
}

namespace lowrank {

/// How forwards have met an adapted layer since it was attached, adapter on.
enum class LayerPath {
  kUnreached,  ///< no forward has read its weight: it is not trained, and changes nothing
  kFast,       ///< always in factored form: W + s·B·A was never formed
  kGeneral,    ///< at least once as the dense W + s·B·A: right, and slow
};

/// One adapted layer.
struct AdaptedLayer {
  std::string name;   ///< dotted module path
  at::Tensor weight;  ///< W (out, in), frozen: the module's own parameter
  at::Tensor a;       ///< lora_A (rank, in), float32
  at::Tensor b;       ///< lora_B (out, rank), float32
  double scaling = 1;
  LayerPath path = LayerPath::kUnreached;
};

struct SaveOptions {
  /// Replace an adapter that is already in the folder.
  bool force = false;
  /// Kept in the config as base_model_name_or_path; PEFT and people read it.
  std::string base_model{};
};

/// A handle on the adapter of one model. Copies refer to the same adapter; the model stays adapted
/// when all handles are gone, until detach().
class LOWRANK_API Adapter {
 public:
  struct State;
  explicit Adapter(std::shared_ptr<State> state);

  const LoraConfig& config() const;
  std::vector<AdaptedLayer> layers() const;

  /// All factors, A then B of each layer in the model's order: what an optimizer is given.
  std::vector<at::Tensor> parameters() const;
  /// The number of elements of parameters().
  int64_t parameter_count() const;
  /// The layers that no forward has read since they were attached.
  std::vector<std::string> unreached_layers() const;

  /// For the whole model, seen by all threads; see DisableAdapter for a scope. A disabled model's
  /// outputs are bit-identical to the base's.
  void enable();
  void disable();
  bool enabled() const;

  /// W += s·B·A in every layer, or in none: throws TensorError before anything changes where a
  /// result would not be finite. A copy of each W is kept, so that unmerge() restores it bit for
  /// bit. Merging twice, and unmerging what is not merged, throw TensorError.
  void merge();
  void unmerge();
  bool merged() const;

  /// Writes adapter_model.safetensors and adapter_config.json, as PEFT reads them, both or
  /// neither. The safetensors metadata carries the base's fingerprint. Throws FileError where the
  /// folder holds an adapter already (without force) or cannot be written, TensorError while
  /// merged.
  void save(const std::filesystem::path& folder, const SaveOptions& options = {}) const;

  /// Leaves the model as it was before attach, bit for bit, which parameters require gradients
  /// included. Unmerges first.
  void detach();

 private:
  friend class DisableAdapter;
  std::shared_ptr<State> state_;
};

/// Attaches factors B·A to the matching Linear layers of `model`, which stays the module it is,
/// and freezes all its own parameters. The forward computes x·Wᵀ + s·(x·Aᵀ)·Bᵀ.
/// The model may live on the stack or in a holder. Throws ArgumentError for a rank below 1, an
/// alpha that is 0 or not finite, a target that matches no Linear layer; TensorError for a weight
/// that is adapted already, or is shared by two layers.
LOWRANK_API Adapter attach(torch::nn::Module& model, const LoraConfig& config);

/// What load_adapter found beside the factors.
struct LoadReport {
  /// The file's fingerprint of its base; empty where it carries none (PEFT's files).
  std::string expected_base;
  /// base_fingerprint() of the model it was loaded on.
  std::string found_base;
  bool base_matches() const { return expected_base.empty() || expected_base == found_base; }
  /// All B are zero: the adapter changes nothing.
  bool acts_like_base = false;
};

struct LoadedAdapter {
  Adapter adapter;
  LoadReport report;
};

/// Reads a PEFT folder (adapter_config.json, adapter_model.safetensors) and attaches it to
/// `model`. Throws FileError where a file is missing or damaged, a tensor is unexpected, missing
/// or of another shape than the model's layer needs, or the config asks for what this version
/// cannot honour (each by name).
LOWRANK_API LoadedAdapter load_adapter(torch::nn::Module& model,
                                       const std::filesystem::path& folder);

/// Turns an adapter off on this thread until the end of the scope. Backward passes of what was
/// computed in it stay the base's. Throws TensorError where the adapter is merged.
class LOWRANK_API DisableAdapter {
 public:
  explicit DisableAdapter(const Adapter& adapter);
  ~DisableAdapter();
  DisableAdapter(const DisableAdapter&) = delete;
  DisableAdapter& operator=(const DisableAdapter&) = delete;

 private:
  struct Scope;
  std::unique_ptr<Scope> scope_;
};

/// SHA-256 over the names, dtypes, shapes and values of the model's own parameters, as hex; the
/// same for a base and for the same base with an adapter attached (unmerged).
LOWRANK_API std::string base_fingerprint(const torch::nn::Module& model);

}  // namespace lowrank
