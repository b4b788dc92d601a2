#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/adapter/combine.h>
#include <lowrank/adapter/lora_config.h>
#include <lowrank/adapter/parameter_group.h>
#include <lowrank/export.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
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
  kLost,       ///< the module holds another tensor now (layer->weight = ..., weight.set_data()):
               ///< the adapter has no effect there
};

namespace effective {
struct Site;
}

/// One layer of one adapter. The factors are made for the matrix M (out, in), which is a Linear's
/// weight, or the transposed weight of transformers' Conv1D or of an Embedding. The factors of a
/// convolution keep the dimensions of its kernel.
struct AdaptedLayer {
  std::string name;       ///< dotted path of the module, or of the parameter: "lstm.weight_ih_l0"
  std::string parameter;  ///< full name of the parameter that is adapted: "encoder.query.weight"
  /// W as it is stored: an ordinary tensor on the memory of the model's own parameter. Use
  /// effective_weight() for what the layer computes with. (An operator that reads the model's own
  /// parameter gets W + s·B·A wherever the adapter is on.)
  at::Tensor weight;
  /// lora_A (rank, in), float32 (float64 if W is). For a convolution (rank, in, kernel...), for
  /// experts (rank * experts, in). An Embedding's `in` is its number of entries, `out` its width.
  at::Tensor a;
  at::Tensor b;          ///< lora_B (out, rank), (out, rank / groups, 1...), (out, rank * experts)
  at::Tensor magnitude;  ///< DoRA's m (out); undefined without DoRA
  at::Tensor bias;       ///< lora_B's bias (out); undefined if there is none
  double scaling = 1;    ///< alpha / rank or alpha / √rank, times set_scale()
  LayerPath path = LayerPath::kUnreached;
  /// A₀ and B₀, if the initialization subtracts s·B₀·A₀ from the base (PiSSA and the like);
  /// otherwise undefined.
  at::Tensor initial_a{}, initial_b{};
  std::shared_ptr<const effective::Site> site{};  ///< used by the functions below
};

/// Returns s·(B·A - B₀·A₀) of one layer in the shape of its weight and in the factors' dtype: what
/// the adapter adds to W, except with DoRA (PEFT's get_delta_weight()). Gradients flow to the
/// factors. Throws TensorError for a convolution with groups, whose update no dense weight
/// expresses.
LOWRANK_API at::Tensor delta_weight(const AdaptedLayer& layer);
/// Returns the weight that a layer computes with while this adapter alone is on, in W's shape and
/// dtype: W + delta_weight(layer), or DoRA's m · V / ‖V‖. Throws as delta_weight() does.
LOWRANK_API at::Tensor effective_weight(const AdaptedLayer& layer);

struct SaveOptions {
  /// Replace an adapter that is already in the folder.
  bool force = false;
  /// Written to the config as base_model_name_or_path, for PEFT and for people.
  std::string base_model{};
  /// The adapter to save; empty means the first active one.
  std::string adapter{};
  /// For an initialization that subtracts B₀·A₀ from the base: write [A; A₀] and [B, -B₀] with
  /// twice the rank, which any reader can apply to the unchanged base (PEFT's
  /// subtract_mutated_init). Without it the config names the initialization, and readers repeat it
  /// on the base; save() still converts where PEFT could not repeat it (docs/peft.md).
  bool convert = false;
  /// Save even if buffers of the model have changed since attach(). The file does not hold them: it
  /// is an adapter for the base with its buffers as they were.
  bool leave_changed_buffers = false;
  /// Names and contents of further files for the folder, which are written together with the
  /// adapter, or not at all.
  std::vector<std::pair<std::string, std::string>> further_files{};
};

/// An entry of a config that matches nothing in the model: {"rank_pattern", "c_proj"}.
struct UnmatchedEntry {
  std::string field;  ///< PEFT's name of the field
  std::string entry;  ///< the name, the regular expression, the key or the number
};

/// What load_adapter found besides the factors.
struct LoadReport {
  /// The fingerprint of the base according to the file; empty if the file has none (PEFT's files).
  std::string expected_base;
  /// base_fingerprint() of the model it was loaded on.
  std::string found_base;
  /// The same without the buffers, which is what earlier builds of lowrank wrote.
  std::string found_parameters;
  bool base_matches() const {
    return expected_base.empty() || expected_base == found_base || matches_without_buffers();
  }
  /// Whether the file says nothing about the buffers that this model has: running statistics, for
  /// example, may be those of another model.
  bool matches_without_buffers() const {
    return expected_base == found_parameters && found_parameters != found_base;
  }
  /// Whether everything that the adapter adds is zero, so that it changes nothing.
  bool acts_like_base = false;
  /// The entries of target_modules, exclude_modules, modules_to_save, layers_to_transform,
  /// rank_pattern and alpha_pattern that match nothing in this model. PEFT loads such adapters too:
  /// the tensors in the file show which layers are meant. (attach() refuses such entries.)
  std::vector<UnmatchedEntry> unmatched{};
  /// Whether the config is the one that was saved with these tensors, as far as lowrank wrote them.
  /// It is not if somebody has edited it, or if a program was killed while it replaced the adapter.
  bool config_matches = true;
  /// The fields of adapter_config.json that neither lowrank nor PEFT knows and that are not null,
  /// false or empty. They may change the numbers.
  std::vector<std::string> unknown_fields{};
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
/// nor in at::parallel_for, whose body must not use tensors. Of several scopes of a model, the one
/// that began last holds; they may end in any order, but each must end on the thread where it
/// began.
class LOWRANK_API AdapterScope {
 public:
  AdapterScope(AdapterScope&& other) noexcept;
  ~AdapterScope();
  AdapterScope& operator=(AdapterScope&&) = delete;

 private:
  friend class Adapter;
  friend class DisableAdapter;
  struct Impl;
  explicit AdapterScope(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// A handle on the adapters of one model. Copies of the handle refer to the same adapters. The
/// model stays adapted when all handles are gone; adapter_of() gives a handle again. (For
/// TorchScript, lora_dropout stops once the last handle is gone, and adapter_of() finds nothing.)
/// Where a name is optional, the default is the first active adapter, or else the first that was
/// added; an unknown name throws ArgumentError. add(), load() without replace, combine(), merge(),
/// unmerge() and detach() must not run during forward passes of other threads; switching, scaling
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
  /// Throws TensorError for an adapter that starts from W (DoRA, PiSSA and similar initializations,
  /// anything that is trained in full) while another one is merged.
  void add(const std::string& name, const LoraConfig& config,
           const std::function<void()>& run = {});
  /// Adds an adapter from a PEFT folder; it is not active yet. With `replace` it takes the place of
  /// an existing adapter of this name in one step, and is active if that one was. In each layer, a
  /// forward pass of another thread sees either the old adapter or the new one. Throws what
  /// load_adapter() and add() throw.
  LoadReport load(const std::string& name, const std::filesystem::path& folder,
                  bool replace = false);
  /// Removes an adapter, which is turned off first. Throws ArgumentError for an unknown name, and
  /// TensorError for an adapter that is merged.
  void remove(const std::string& name);
  /// Throws ArgumentError for an unknown name, and for a new one that add() would refuse.
  void rename(const std::string& name, const std::string& new_name);
  /// Sets which adapters are on for all threads; their updates add up. With an empty list the model
  /// is its base. Throws ArgumentError for unknown names, for a name that occurs twice, and for two
  /// adapters that train the same module in full.
  void set_active(const std::vector<std::string>& names);
  void set_active(const std::string& name) { set_active(std::vector{name}); }
  void set_active(std::initializer_list<std::string> names) { set_active(std::vector(names)); }
  /// Adds an adapter that combines `names` with these weights, layer by layer (combine.h). A layer
  /// that only some of them adapt is combined from those alone. The new adapter's alpha is equal to
  /// its rank. Throws what combine.h says, and ArgumentError if one of the adapters has DoRA,
  /// lora_bias, parameters that are trained in full, or an initialization that is subtracted from
  /// the base (the message names it).
  void combine(const std::string& name, const std::vector<std::string>& names,
               const std::vector<double>& weights, const CombineOptions& options = {});
  /// Sets the factor that multiplies alpha / rank from now on; it is 1 at first. save() writes it
  /// into alpha. Throws ArgumentError if it is not finite, and TensorError for an adapter that is
  /// merged.
  void set_scale(const std::string& name, double scale);

  LoraConfig config(const std::string& name = {}) const;
  std::vector<AdaptedLayer> layers(const std::string& name = {}) const;
  /// The tensors of one adapter to give to an optimizer (without a name: of the first active
  /// adapter alone): A, B, bias and magnitude of each layer, then the parameters that are trained
  /// in full. An adapter gets no gradients while it is merged.
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
  /// The layers whose weight no forward pass has read since attach(), and those whose path is
  /// kLost.
  std::vector<std::string> unreached_layers(const std::string& name = {}) const;
  /// The buffers of the model that are not as they were at attach(), which save() refuses to lose
  /// (SaveOptions::leave_changed_buffers).
  std::vector<std::string> changed_buffers() const;
  /// The layers whose factors got no gradient, although a forward pass has read their weights: the
  /// loss does not depend on them (the pooler of a sentence encoder). Call this between backward()
  /// and zero_grad(); if nothing has a gradient then, the result is empty.
  std::vector<std::string> layers_without_gradient(const std::string& name = {}) const;

  /// While a model has an adapter, its running statistics (running_mean, running_var and
  /// num_batches_tracked of BatchNorm and the like) stay as they are: in train() a batch is still
  /// normalized by itself, but nothing is written, because an adapter's file does not hold them.
  /// After freeze_statistics(false) they move as they do without an adapter. The statistics of
  /// modules in modules_to_save belong to their adapter instead: they move, and save() writes them.
  void freeze_statistics(bool frozen = true);
  bool statistics_frozen() const;

  /// disable() turns the active adapters off for all threads, and enable() turns the same ones on
  /// again; see DisableAdapter for a scope. While they are off, the outputs are bit-identical to
  /// the base's. An adapter that is merged stays in the weights.
  void enable();
  void disable();
  bool enabled() const;

  /// Turns only these adapters on, on this thread, while the scope exists. Throws ArgumentError for
  /// unknown names and for one that occurs twice, and TensorError for an adapter that is merged.
  [[nodiscard]] AdapterScope use(const std::vector<std::string>& names) const;
  [[nodiscard]] AdapterScope use(const std::string& name) const { return use(std::vector{name}); }
  [[nodiscard]] AdapterScope use(std::initializer_list<std::string> names) const {
    return use(std::vector(names));
  }
  /// While the scope exists, row i of each batch on this thread uses the adapter names[i]; "" and
  /// PEFT's "__base__" mean the base. This is for evaluation. In every adapted layer the first
  /// dimension of the input must be the batch. What is trained in full is chosen by row too in
  /// linear layers, convolutions and embeddings; operators that need one dense weight throw
  /// TensorError, and so does a layer whose input does not have names.size() rows. Throws
  /// ArgumentError for no names and for unknown ones, and TensorError for an adapter that is
  /// merged.
  [[nodiscard]] AdapterScope use_rows(const std::vector<std::string>& names) const;

  /// Writes W + s·B·A into W for these adapters (empty: the active ones), in all layers or in none.
  /// Merged adapters stay in the weights, whatever is active. If another adapter is merged already,
  /// its keep_copies applies to these, too. Throws ArgumentError if no adapter is named or active,
  /// and for DoRA without copies. Throws TensorError, before anything changes, for an adapter that
  /// is merged already, a weight that two layers share, and a result that would not be finite.
  std::vector<MergedLayer> merge(const std::vector<std::string>& names = {},
                                 const MergeOptions& options = {});
  /// Takes these adapters (empty: all that are merged) out of the weights again. Throws TensorError
  /// for one that is not merged. Both merge() and unmerge() throw TensorError inside a use scope of
  /// this thread.
  void unmerge(const std::vector<std::string>& names = {}, const UnmergeOptions& options = {});
  /// Returns whether any adapter is merged.
  bool merged() const;
  /// Merges these adapters (empty: the active ones) and then lets go of the model, as PEFT's
  /// merge_and_unload() does: the model is an ordinary one with the new weights, without any
  /// adapter. Which parameters require gradients is as it was before attach(). This handle has no
  /// adapters any more. Throws what merge() throws.
  std::vector<MergedLayer> merge_and_unload(const std::vector<std::string>& names = {});

  /// Writes adapter_model.safetensors and adapter_config.json, as PEFT reads them, both or neither.
  /// This saves one adapter; save_all() saves all. A scale other than 1 (set_scale) is written into
  /// alpha, because the files have no place for it. The safetensors metadata holds the base's
  /// fingerprint. Throws FileError if the folder already holds an adapter (without force) or cannot
  /// be written. Throws TensorError while an adapter is merged; if the model is itself the adapted
  /// layer, which no config can name; for a scale of 0; if a layer has lost its weight
  /// (LayerPath::kLost); and if buffers of the model have changed since attach()
  /// (SaveOptions::leave_changed_buffers).
  void save(const std::filesystem::path& folder, const SaveOptions& options = {}) const;
  /// Saves all adapters or none, in the places that PEFT's save_pretrained uses: the one called
  /// "default" in the folder itself, every other one in a subfolder of its name.
  /// SaveOptions::adapter is ignored. load() accepts these subfolders.
  void save_all(const std::filesystem::path& folder, const SaveOptions& options = {}) const;

  /// Unmerges, and then restores the model to what it was before attach(), including its buffers,
  /// and which parameters require gradients. It is the same bit for bit, except for rounding errors
  /// if an adapter was merged with keep_copies = false. Throws what unmerge() throws.
  void detach();

 private:
  friend class DisableAdapter;
  std::shared_ptr<State> state_;
};

/// Attaches factors B·A to the matching layers of `model`, whose modules and code do not change,
/// and freezes all its own parameters. The adapter is active. The model may be on the stack; of a
/// holder, such as torch::nn::Sequential or your TORCH_MODULE, pass what it holds:
///
///   auto adapter = lowrank::attach(*model, {.rank = 4, .target_modules = {"fc1", "fc2"}});
///
/// From now on every operator that reads an adapted weight gets W + s·B·A while the adapter is on:
/// also torch::equal(), clone() and copy_() from it. Its memory (data_ptr) and what torch::save
/// writes are W; AdaptedLayer::weight is W as an ordinary tensor. Throws ArgumentError for a config
/// value that is out of range, and for targets that match nothing. Throws TensorError for a weight
/// that another Adapter holds, that two layers share (unless one is an Embedding and the other a
/// Linear), or that was made in inference mode.
LOWRANK_API Adapter attach(torch::nn::Module& model, const LoraConfig& config,
                           const std::string& name = "default");
/// Does the same for a scripted or traced TorchScript module. Turns LibTorch's profiling executor
/// off for the whole process, because its differentiation silently loses the factors' gradients.
LOWRANK_API Adapter attach(torch::jit::Module& model, const LoraConfig& config,
                           const std::string& name = "default");

/// Does the same with a `run` over representative data, which some initializations need; for the
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
/// Embeddings start in PEFT's default way, whatever the initialization is. Throws ArgumentError if
/// `run` is missing for an initialization that needs it, and, naming the layers, if EVA or CorDA is
/// to adapt anything but linear layers and embeddings, or if `run` did not reach a layer with a
/// linear operator (for kLoraGa: with a backward pass). Throws TensorError for inputs or gradients
/// that are not finite.
LOWRANK_API Adapter attach(torch::nn::Module& model, const LoraConfig& config,
                           const std::function<void()>& run, const std::string& name = "default");
LOWRANK_API Adapter attach(torch::jit::Module& model, const LoraConfig& config,
                           const std::function<void()>& run, const std::string& name = "default");

/// Returns a handle on the adapters of a model, also if all earlier handles are gone; nothing if
/// the model has no adapter, or is a copy (clone()) of an adapted model. The adapters of a
/// TorchScript model cannot be had again once the last handle is gone.
LOWRANK_API std::optional<Adapter> adapter_of(const torch::nn::Module& model);

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

/// Returns the SHA-256 hash of the names, dtypes, shapes and values of the model's own parameters
/// and buffers, as hex. It is the same for a base and for the same base with an (unmerged) adapter
/// attached.
LOWRANK_API std::string base_fingerprint(const torch::nn::Module& model);
LOWRANK_API std::string base_fingerprint(const torch::jit::Module& model);

}  // namespace lowrank
