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

/// How forwards have met an adapted layer since it was attached, adapter on.
enum class LayerPath {
  kUnreached,  ///< no forward has read its weight: it is not trained, and changes nothing
  kFactored,   ///< always in factored form: W + s·B·A was never formed
  kDense,      ///< at least once as the dense W + s·B·A: right, and slow
};

/// One layer of one adapter. The factors are those of the matrix M (out, in): a Linear's weight, a
/// Conv1D's or Embedding's transposed; a convolution's keep its kernel's dimensions.
struct AdaptedLayer {
  std::string name;      ///< dotted path of the module, or of the parameter: "lstm.weight_ih_l0"
  at::Tensor weight;     ///< W, frozen: the model's own parameter
  at::Tensor a;          ///< lora_A (rank, in), float32 (float64 where W is)
  at::Tensor b;          ///< lora_B (out, rank)
  at::Tensor magnitude;  ///< DoRA's m (out); undefined elsewhere
  at::Tensor bias;       ///< lora_B's bias (out); undefined where there is none
  double scaling = 1;    ///< alpha / rank or alpha / √rank, times set_scale()
  LayerPath path = LayerPath::kUnreached;
};

struct SaveOptions {
  /// Replace an adapter that is already in the folder.
  bool force = false;
  /// Kept in the config as base_model_name_or_path; PEFT and people read it.
  std::string base_model{};
  /// Which adapter; empty: the first active one.
  std::string adapter{};
  /// For an initialisation that takes B₀·A₀ off the base: write [A; A₀] and [B, -B₀] with twice the
  /// rank, which any reader applies to the base as it is (PEFT's subtract_mutated_init). Otherwise
  /// the config names the initialisation, and readers repeat it on the base.
  bool convert = false;
};

/// What load_adapter found beside the factors.
struct LoadReport {
  /// The file's fingerprint of its base; empty where it carries none (PEFT's files).
  std::string expected_base;
  /// base_fingerprint() of the model it was loaded on.
  std::string found_base;
  bool base_matches() const { return expected_base.empty() || expected_base == found_base; }
  /// Everything it adds is zero: the adapter changes nothing.
  bool acts_like_base = false;
};

struct MergeOptions {
  /// Keep a copy of each W, so that unmerge() restores it bit for bit; it throws TensorError where
  /// W has been written to since, which a copy knows nothing of. Without, unmerge() takes s·B·A off
  /// again, which leaves rounding errors, and DoRA is refused.
  bool keep_copies = true;
};

struct UnmergeOptions {
  /// Go back to the copies although W has been written to since: what was written is lost.
  bool discard_writes = false;
};

struct MergedLayer {
  std::string name;
  double largest_change = 0;  ///< max |W' - W|
  /// ‖round(W') - W'‖ / ‖W' - W‖ in W's dtype; 0 where nothing changes. The rounding of s·B·A,
  /// where that is formed in float32, is not in it.
  double rounding_error = 0;
};

/// Until its end some adapters of one model hold on this thread instead of the active ones, and in
/// what it begins: at::launch, and backward passes, on whichever thread they run (a forward that
/// is computed anew in backward takes what held where backward() was called).
/// Not on a std::thread, nor in at::parallel_for, whose body must not use tensors. Scopes end in
/// the reverse of their order.
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

/// A handle on the adapters of one model. Copies refer to the same; the model stays adapted when
/// all handles are gone (in TorchScript without lora_dropout from then on). Where a name may be
/// left out it is the first active adapter's. Adding, merging and detaching must not run beside
/// forwards of other threads; switching, scaling and replacing factors (load with replace) may.
class LOWRANK_API Adapter {
 public:
  struct State;
  explicit Adapter(std::shared_ptr<State> state);

  /// All adapters in the order they were added, and those that are on.
  std::vector<std::string> names() const;
  std::vector<std::string> active() const;

  /// Adds one with fresh factors; it is not active yet. Throws ArgumentError for a name that
  /// exists or is empty or holds a slash, dot or control character, and what attach() throws. `run`
  /// is as there; the model is its base meanwhile, whatever is active. TensorError for what starts
  /// from W (DoRA, PiSSA and its like, what is trained whole) while an adapter is merged.
  void add(const std::string& name, const LoraConfig& config,
           const std::function<void()>& run = {});
  /// The same from a PEFT folder. With `replace` it takes the place of an adapter of this name in
  /// one step: a forward of another thread sees the old one or the new one, layer by layer.
  LoadReport load(const std::string& name, const std::filesystem::path& folder,
                  bool replace = false);
  /// Throws ArgumentError for an unknown name, TensorError for one that is merged.
  void remove(const std::string& name);
  void rename(const std::string& name, const std::string& new_name);
  /// Which adapters hold for all threads; their updates add up. An empty list leaves the base.
  /// Throws ArgumentError for unknown names, one that is there twice, and two that train one module
  /// whole.
  void set_active(const std::vector<std::string>& names);
  /// Adds an adapter that is `names` combined with these weights, layer by layer (combine.h); a
  /// layer that only some of them adapt is combined of those. Its alpha is its rank. Throws
  /// ArgumentError for what combine.h says, and by name for adapters with DoRA, lora_bias, whole
  /// parameters or an initialisation that is taken off the base.
  void combine(const std::string& name, const std::vector<std::string>& names,
               const std::vector<double>& weights, const CombineOptions& options = {});
  /// Multiplies alpha / rank from now on; 1 at first. Throws ArgumentError where not finite.
  void set_scale(const std::string& name, double scale);

  LoraConfig config(const std::string& name = {}) const;
  std::vector<AdaptedLayer> layers(const std::string& name = {}) const;
  /// What an optimizer is given: of each layer A, B, magnitude and bias, then what is trained
  /// whole.
  std::vector<at::Tensor> parameters(const std::string& name = {}) const;
  /// The same with their names in PEFT's files, less the prefix: "linear1.lora_A.weight".
  std::vector<std::pair<std::string, at::Tensor>> named_parameters(
      const std::string& name = {}) const;
  /// The same in groups, each with its learning rate, as LoRA+ has them (Hayou et al., arXiv
  /// 2402.12354; PEFT, optimizers/loraplus.py): B and whatever has one dimension (biases, DoRA's
  /// magnitudes) at learning_rate · ratio, the factors of embeddings at `embedding_rate`, all else
  /// at learning_rate. Groups without parameters are left out. lowrank::Adam takes them; how
  /// LibTorch's optimizers do is in parameter_group.h. Throws ArgumentError for a number that is
  /// not finite and above 0.
  std::vector<ParameterGroup> parameter_groups(double learning_rate, double ratio,
                                               double embedding_rate = 1e-6,
                                               const std::string& name = {}) const;
  /// The number of elements of parameters().
  int64_t parameter_count(const std::string& name = {}) const;
  /// The layers that no forward has read since they were attached.
  std::vector<std::string> unreached_layers(const std::string& name = {}) const;

  /// For the whole model, seen by all threads; see DisableAdapter for a scope. A disabled model's
  /// outputs are bit-identical to the base's.
  void enable();
  void disable();
  bool enabled() const;

  /// For a scope of this thread: only these adapters.
  [[nodiscard]] AdapterScope use(const std::vector<std::string>& names) const;
  [[nodiscard]] AdapterScope use(const std::string& name) const { return use(std::vector{name}); }
  [[nodiscard]] AdapterScope use(std::initializer_list<std::string> names) const {
    return use(std::vector(names));
  }
  /// For a scope of this thread, in evaluation: row i of each batch takes the adapter names[i]; ""
  /// and PEFT's "__base__" are the base. Every adapted layer must keep the batch in its input's
  /// first dimension. What is trained whole takes turns too in linear layers, convolutions and
  /// embeddings; operators that need one dense weight throw TensorError. Throws ArgumentError for
  /// unknown names.
  [[nodiscard]] AdapterScope use_rows(const std::vector<std::string>& names) const;

  /// Puts W + s·B·A into W for these adapters (empty: the active ones) in all layers, or in none:
  /// throws TensorError before anything changes where a result would not be finite. Merged adapters
  /// stay in the weights whatever is active. Merging twice, and unmerging what is not merged,
  /// throw.
  std::vector<MergedLayer> merge(const std::vector<std::string>& names = {},
                                 const MergeOptions& options = {});
  /// Empty: all that are merged. Neither may be called inside of a use scope of this thread.
  void unmerge(const std::vector<std::string>& names = {}, const UnmergeOptions& options = {});
  /// Whether any is.
  bool merged() const;

  /// Writes adapter_model.safetensors and adapter_config.json, as PEFT reads them, both or
  /// neither. The safetensors metadata carries the base's fingerprint. Throws FileError where the
  /// folder holds an adapter already (without force) or cannot be written, TensorError while
  /// merged, and for a model that is itself the layer, which no config can name.
  void save(const std::filesystem::path& folder, const SaveOptions& options = {}) const;
  /// The same for all adapters as PEFT's save_pretrained places them: the one called "default" in
  /// the folder, each other in a subfolder of its name, all or none. SaveOptions::adapter does not
  /// count. load() takes such a subfolder.
  void save_all(const std::filesystem::path& folder, const SaveOptions& options = {}) const;

  /// Leaves the model as it was before attach, bit for bit, which parameters require gradients
  /// included. Unmerges first.
  void detach();

 private:
  friend class DisableAdapter;
  std::shared_ptr<State> state_;
};

/// Attaches factors B·A to the matching layers of `model`, which stays the module it is, and
/// freezes all its own parameters. The adapter is active. The model may live on the stack or in a
/// holder. Throws ArgumentError for a config out of its range or targets that match nothing;
/// TensorError for a weight that another Adapter holds, that two layers share in a way no operator
/// tells apart, or that was made in inference mode.
LOWRANK_API Adapter attach(torch::nn::Module& model, const LoraConfig& config,
                           const std::string& name = "default");
/// The same for a scripted or traced TorchScript module. Turns LibTorch's profiling executor off
/// for the process: its differentiation loses the factors' gradients without a word.
LOWRANK_API Adapter attach(torch::jit::Module& model, const LoraConfig& config,
                           const std::string& name = "default");

/// The same with a `run` over representative data for the initialisations that look at it; for the
/// others it is not called. `run` calls the model as it is, in the mode (train or eval) it is in:
///
/// - kEva, kCorda: forwards over some batches, without gradients. The inputs of linear layers are
///   summed up batch by batch; what EVA keeps of a layer is (2·rho·rank, in), CorDA (in, in).
/// - kLoraGa: forwards and backwards of the loss. All other parameters are frozen meanwhile, and
///   what the weights' .grad held is put aside. The gradient is the mean over the backward passes.
///
/// When it ends or throws, the model's parameters, their gradients and its buffers are as before,
/// bit for bit; it must not use the adapter, nor leave threads behind that use the model. EVA
/// shares the ranks out anew: config() then holds the new rank_pattern and alpha_pattern, and
/// leaves out the layers that got none.
///
/// Embeddings start in PEFT's default way whatever the initialisation is. Throws ArgumentError
/// where such an initialisation has no run, where EVA or CorDA is to adapt anything but linear
/// layers and embeddings, and for layers that the run did not reach by a linear operator (by a
/// backward pass), all by name; TensorError for inputs or gradients that are not finite.
LOWRANK_API Adapter attach(torch::nn::Module& model, const LoraConfig& config,
                           const std::function<void()>& run, const std::string& name = "default");
LOWRANK_API Adapter attach(torch::jit::Module& model, const LoraConfig& config,
                           const std::function<void()>& run, const std::string& name = "default");

struct LoadedAdapter {
  Adapter adapter;
  LoadReport report;
};

/// Reads a PEFT folder (adapter_config.json, adapter_model.safetensors) and attaches it to
/// `model`, which stays in train() or eval(): lora_dropout drops in the first. Throws FileError
/// where a file is missing or damaged, a tensor is unexpected, missing or of another shape than the
/// model's layer needs, or the config asks for what this version cannot honour (each by name).
LOWRANK_API LoadedAdapter load_adapter(torch::nn::Module& model,
                                       const std::filesystem::path& folder,
                                       const std::string& name = "default");
LOWRANK_API LoadedAdapter load_adapter(torch::jit::Module& model,
                                       const std::filesystem::path& folder,
                                       const std::string& name = "default");

/// Turns all adapters of a model off on this thread until the end of the scope. Backward passes of
/// what was computed in it stay the base's. Throws TensorError where an adapter is merged.
class LOWRANK_API DisableAdapter {
 public:
  explicit DisableAdapter(const Adapter& adapter);

 private:
  AdapterScope scope_;
};

/// SHA-256 over the names, dtypes, shapes and values of the model's own parameters, as hex; the
/// same for a base and for the same base with an adapter attached (unmerged).
LOWRANK_API std::string base_fingerprint(const torch::nn::Module& model);

}  // namespace lowrank
