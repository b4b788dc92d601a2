#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/adapter/combine.h>
#include <lowrank/adapter/lora_config.h>
#include <lowrank/adapter/parameter_group.h>
#include <lowrank/export.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace torch::nn {
class Module;
}
namespace torch::jit {
struct Module;
}

namespace lowrank {

/// How forward passes have computed an adapted layer since it was attached, while the adapter was
/// on.
enum class LayerPath {
  kUnreached,  ///< no forward pass has read its weight: it is not trained and has no effect
  kFactored,   ///< always in factored form: W + s·B·A was never formed
  kDense,      ///< at least once with the dense W + s·B·A: correct, but slow
};

/// One layer of one adapter. The factors are made for the matrix M (out, in), which is a Linear's
/// weight, or the transposed weight of a Conv1D or an Embedding. The factors of a convolution keep
/// the dimensions of its kernel.
struct AdaptedLayer {
  std::string name;      ///< dotted path of the module, or of the parameter: "lstm.weight_ih_l0"
  at::Tensor weight;     ///< W, frozen: the model's own parameter
  at::Tensor a;          ///< lora_A (rank, in), float32 (float64 if W is)
  at::Tensor b;          ///< lora_B (out, rank)
  at::Tensor magnitude;  ///< DoRA's m (out); undefined without DoRA
  at::Tensor bias;       ///< lora_B's bias (out); undefined if there is none
  double scaling = 1;    ///< alpha / rank or alpha / √rank, times set_scale()
  LayerPath path = LayerPath::kUnreached;
};

struct SaveOptions {
  /// Replace an adapter that is already in the folder.
  bool force = false;
  /// Written to the config as base_model_name_or_path, for PEFT and for people.
  std::string base_model{};
  /// The adapter to save; empty means the first active one.
  std::string adapter{};
  /// For an initialisation that subtracts B₀·A₀ from the base: write [A; A₀] and [B, -B₀] with
  /// twice the rank, which any reader can apply to the unchanged base (PEFT's
  /// subtract_mutated_init). Otherwise the config names the initialisation, and readers repeat it
  /// on the base.
  bool convert = false;
};

/// What load_adapter found besides the factors.
struct LoadReport {
  /// The fingerprint of the base according to the file; empty if the file has none (PEFT's files).
  std::string expected_base;
  /// base_fingerprint() of the model it was loaded on.
  std::string found_base;
  bool base_matches() const { return expected_base.empty() || expected_base == found_base; }
  /// Whether everything that the adapter adds is zero, so that it changes nothing.
  bool acts_like_base = false;
};

struct MergeOptions {
  /// Keep a copy of each W, so that unmerge() restores it bit for bit. unmerge() then throws
  /// TensorError if W has been written to since, because the copy does not have that change.
  /// Without copies unmerge() subtracts s·B·A again, which leaves rounding errors, and DoRA is
  /// refused.
  bool keep_copies = true;
};

struct UnmergeOptions {
  /// Restore the copies even if W has been written to since the merge. What was written is lost.
  bool discard_writes = false;
};

struct MergedLayer {
  std::string name;
  double largest_change = 0;  ///< max |W' - W|
  /// ‖round(W') - W'‖ / ‖W' - W‖ in W's dtype; 0 if nothing changes. If s·B·A is formed in float32,
  /// its rounding is not included.
  double rounding_error = 0;
};

/// While a scope exists, the adapters it names are on for one model on this thread instead of the
/// active ones. The scope also holds in what the thread starts: in at::launch, and in backward
/// passes, on whichever thread they run. (A forward pass that is computed again during backward
/// uses the adapters that were on where backward() was called.) It does not hold in a std::thread,
/// nor in at::parallel_for, whose body must not use tensors. Scopes must end in the reverse order
/// of their creation.
class LOWRANK_API AdapterScope {
 public:
  ~AdapterScope();
  AdapterScope(const AdapterScope&) = delete;
  AdapterScope& operator=(const AdapterScope&) = delete;

 private:
  friend class Adapter;
  friend class DisableAdapter;
  struct Impl;
  explicit AdapterScope(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// A handle on the adapters of one model. Copies of the handle refer to the same adapters. The
/// model stays adapted when all handles are gone (in TorchScript without lora_dropout from then
/// on). Where a name is optional, the default is the first active adapter. Adding, merging and
/// detaching must not run at the same time as forward passes of other threads; switching, scaling
/// and replacing factors (load with replace) may.
class LOWRANK_API Adapter {
 public:
  struct State;
  explicit Adapter(std::shared_ptr<State> state);

  /// The names of all adapters, in the order in which they were added, and of those that are on.
  std::vector<std::string> names() const;
  std::vector<std::string> active() const;

  /// Adds an adapter with fresh factors; it is not active yet. `run` is as in attach(); while it
  /// runs, the model is its base, whatever is active. Throws what attach() throws, and
  /// ArgumentError for a name that exists, is empty, or contains a slash, dot or control character.
  /// Throws TensorError for an adapter that starts from W (DoRA, PiSSA and similar initialisations,
  /// anything that is trained in full) while another one is merged.
  void add(const std::string& name, const LoraConfig& config,
           const std::function<void()>& run = {});
  /// Adds an adapter from a PEFT folder. With `replace` it takes the place of an existing adapter
  /// of this name in one step: in each layer, a forward pass of another thread sees either the old
  /// adapter or the new one.
  LoadReport load(const std::string& name, const std::filesystem::path& folder,
                  bool replace = false);
  /// Throws ArgumentError for an unknown name, and TensorError for an adapter that is merged.
  void remove(const std::string& name);
  void rename(const std::string& name, const std::string& new_name);
  /// Sets which adapters are on for all threads; their updates add up. With an empty list the model
  /// is its base. Throws ArgumentError for unknown names, for a name that occurs twice, and for two
  /// adapters that train the same module in full.
  void set_active(const std::vector<std::string>& names);
  /// Adds an adapter that combines `names` with these weights, layer by layer (combine.h). A layer
  /// that only some of them adapt combines only those. The new adapter's alpha is equal to its
  /// rank. Throws ArgumentError as combine.h says, and if one of the adapters has DoRA, lora_bias,
  /// parameters that are trained in full, or an initialisation that is subtracted from the base
  /// (the message names it).
  void combine(const std::string& name, const std::vector<std::string>& names,
               const std::vector<double>& weights, const CombineOptions& options = {});
  /// Sets the factor that multiplies alpha / rank from now on; it is 1 at first. Throws
  /// ArgumentError if it is not finite.
  void set_scale(const std::string& name, double scale);

  LoraConfig config(const std::string& name = {}) const;
  std::vector<AdaptedLayer> layers(const std::string& name = {}) const;
  /// The tensors to give to an optimizer: A, B, bias and magnitude of each layer, then the
  /// parameters that are trained in full.
  std::vector<at::Tensor> parameters(const std::string& name = {}) const;
  /// The same with their names in PEFT's files, without the prefix: "linear1.lora_A.weight".
  std::vector<std::pair<std::string, at::Tensor>> named_parameters(
      const std::string& name = {}) const;
  /// The same in groups with learning rates, as in LoRA+ (Hayou et al., arXiv 2402.12354; PEFT,
  /// optimizers/loraplus.py): B and everything of one dimension (biases, DoRA's magnitudes) at
  /// learning_rate · ratio, the factors of embeddings at `embedding_rate`, everything else at
  /// learning_rate. Groups without parameters are left out. lowrank::Adam takes the groups as they
  /// are; parameter_group.h shows how to give them to LibTorch's optimizers. Throws ArgumentError
  /// for a number that is not finite and above 0.
  std::vector<ParameterGroup> parameter_groups(double learning_rate, double ratio,
                                               double embedding_rate = 1e-6,
                                               const std::string& name = {}) const;
  /// The number of elements of parameters().
  int64_t parameter_count(const std::string& name = {}) const;
  /// The layers whose weight no forward pass has read since they were attached.
  std::vector<std::string> unreached_layers(const std::string& name = {}) const;

  /// Turn all adapters of the model on or off for all threads; see DisableAdapter for a scope. The
  /// outputs of a disabled model are bit-identical to the base's.
  void enable();
  void disable();
  bool enabled() const;

  /// Turns only these adapters on, on this thread, while the scope exists.
  [[nodiscard]] AdapterScope use(const std::vector<std::string>& names) const;
  [[nodiscard]] AdapterScope use(const std::string& name) const { return use(std::vector{name}); }
  [[nodiscard]] AdapterScope use(std::initializer_list<std::string> names) const {
    return use(std::vector(names));
  }
  /// While the scope exists, row i of each batch on this thread uses the adapter names[i]; "" and
  /// PEFT's "__base__" mean the base. This is for evaluation. In every adapted layer the first
  /// dimension of the input must be the batch. What is trained in full is chosen by row too in
  /// linear layers, convolutions and embeddings; operators that need one dense weight throw
  /// TensorError. Throws ArgumentError for unknown names.
  [[nodiscard]] AdapterScope use_rows(const std::vector<std::string>& names) const;

  /// Writes W + s·B·A into W for these adapters (empty: the active ones), in all layers or in none:
  /// throws TensorError before anything changes if a result would not be finite. Merged adapters
  /// stay in the weights, whatever is active. Merging an adapter twice throws, and so does
  /// unmerging one that is not merged.
  std::vector<MergedLayer> merge(const std::vector<std::string>& names = {},
                                 const MergeOptions& options = {});
  /// Takes these adapters (empty: all that are merged) out of the weights again. Neither merge()
  /// nor unmerge() may be called inside a use scope of this thread.
  void unmerge(const std::vector<std::string>& names = {}, const UnmergeOptions& options = {});
  /// Returns whether any adapter is merged.
  bool merged() const;

  /// Writes adapter_model.safetensors and adapter_config.json, as PEFT reads them, both or neither.
  /// The safetensors metadata holds the base's fingerprint. Throws FileError if the folder already
  /// holds an adapter (without force) or cannot be written. Throws TensorError while an adapter is
  /// merged, and if the model is itself the adapted layer, which no config can name.
  void save(const std::filesystem::path& folder, const SaveOptions& options = {}) const;
  /// Saves all adapters or none, in the places that PEFT's save_pretrained uses: the one called
  /// "default" in the folder itself, every other one in a subfolder of its name.
  /// SaveOptions::adapter is ignored. load() accepts these subfolders.
  void save_all(const std::filesystem::path& folder, const SaveOptions& options = {}) const;

  /// Unmerges, and then leaves the model as it was before attach(), bit for bit. This includes
  /// which parameters require gradients.
  void detach();

 private:
  friend class DisableAdapter;
  std::shared_ptr<State> state_;
};

/// Attaches factors B·A to the matching layers of `model`, whose modules and code do not change,
/// and freezes all its own parameters. The adapter is active. The model may be on the stack or in a
/// holder. Throws ArgumentError for a config value that is out of range, and for targets that match
/// nothing. Throws TensorError for a weight that another Adapter holds, that two layers share and
/// read with the same operator, or that was made in inference mode.
LOWRANK_API Adapter attach(torch::nn::Module& model, const LoraConfig& config,
                           const std::string& name = "default");
/// Does the same for a scripted or traced TorchScript module. Turns LibTorch's profiling executor
/// off for the whole process, because its differentiation silently loses the factors' gradients.
LOWRANK_API Adapter attach(torch::jit::Module& model, const LoraConfig& config,
                           const std::string& name = "default");

/// Does the same with a `run` over representative data, which some initialisations need; for the
/// others it is not called. `run` calls the model as it is, in the mode (train or eval) that it is
/// in:
///
/// - kEva, kCorda: forward passes over some batches, without gradients. The inputs of linear layers
///   are accumulated batch by batch; for each layer EVA keeps a (2·rho·rank, in) matrix and CorDA
///   an (in, in) matrix.
/// - kLoraGa: forward and backward passes of the loss. All other parameters are frozen meanwhile,
///   and the weights' previous .grad is set aside. The gradient is the mean over the backward
///   passes.
///
/// When `run` returns or throws, the model's parameters, their gradients and its buffers are as
/// before, bit for bit. `run` must not use the adapter, and must not leave threads behind that use
/// the model. EVA redistributes the ranks among the layers: config() then holds the new
/// rank_pattern and alpha_pattern, and leaves out the layers that got no rank.
///
/// Embeddings start in PEFT's default way, whatever the initialisation is. Throws ArgumentError if
/// `run` is missing for an initialisation that needs it, and, naming the layers, if EVA or CorDA is
/// to adapt anything but linear layers and embeddings, or if `run` did not reach a layer with a
/// linear operator (for kLoraGa: with a backward pass). Throws TensorError for inputs or gradients
/// that are not finite.
LOWRANK_API Adapter attach(torch::nn::Module& model, const LoraConfig& config,
                           const std::function<void()>& run, const std::string& name = "default");
LOWRANK_API Adapter attach(torch::jit::Module& model, const LoraConfig& config,
                           const std::function<void()>& run, const std::string& name = "default");

struct LoadedAdapter {
  Adapter adapter;
  LoadReport report;
};

/// Reads a PEFT folder (adapter_config.json, adapter_model.safetensors) and attaches its adapter to
/// `model`, which stays in train() or eval(): lora_dropout is applied in train(). Throws FileError,
/// naming what is at fault, if a file is missing or damaged, if a tensor is unexpected, missing or
/// of another shape than the model's layer needs, and if the config asks for something that this
/// version does not support.
LOWRANK_API LoadedAdapter load_adapter(torch::nn::Module& model,
                                       const std::filesystem::path& folder,
                                       const std::string& name = "default");
LOWRANK_API LoadedAdapter load_adapter(torch::jit::Module& model,
                                       const std::filesystem::path& folder,
                                       const std::string& name = "default");

/// Turns all adapters of a model off on this thread until the end of the scope. The backward pass
/// of what was computed within the scope uses the base too. Throws TensorError if an adapter is
/// merged.
class LOWRANK_API DisableAdapter {
 public:
  explicit DisableAdapter(const Adapter& adapter);

 private:
  AdapterScope scope_;
};

/// Returns the SHA-256 hash of the names, dtypes, shapes and values of the model's own parameters,
/// as hex. It is the same for a base and for the same base with an (unmerged) adapter attached.
LOWRANK_API std::string base_fingerprint(const torch::nn::Module& model);

}  // namespace lowrank
