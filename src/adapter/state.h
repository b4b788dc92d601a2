#pragma once

#include <lowrank/adapter/adapter.h>

#include <mutex>
#include <optional>

#include "adapter/targets/model_view.h"
#include "adapter/targets/targets.h"
#include "effective/mark.h"
#include "effective/selection.h"

namespace lowrank {

/// One of the model's own parameters, as it was before attach.
struct BaseParameter {
  std::string name;
  at::Tensor tensor;
  bool required_grad;
};

/// A tensor of the model that at least one adapter touches.
struct AdaptedTensor {
  at::Tensor tensor;  // the model's own parameter: it follows module.to()
  std::shared_ptr<effective::Site> site;
  at::Tensor unmerged;  // its values before merge(), if a copy is kept
  int64_t version = 0;  // version of `tensor` at the merge; it is higher after a later write
};

/// What one adapter adds to one layer.
struct LayerFactors {
  Target target;
  size_t site = 0;                  // index of the weight in State::tensors
  std::optional<size_t> bias_site;  // index of the bias, if lora_bias is used
  at::Tensor a, b, minus_a, minus_b, magnitude, bias;
};

/// A parameter that one adapter trains in full: a bias, a parameter of modules_to_save, or rows of
/// an embedding.
struct WholeParameter {
  std::string path;
  size_t site = 0;
  at::Tensor value;
  at::Tensor rows;  // int64 (n), on the weight's device: `value` holds only these; undefined: all
};

struct NamedAdapter {
  std::string name;
  LoraConfig config;
  std::vector<LayerFactors> layers;
  std::vector<WholeParameter> whole;
  double scale = 1;
  bool merged = false;
};

struct Adapter::State {
  std::vector<ModelLayer> model;
  std::vector<BaseParameter> base;
  std::vector<AdaptedTensor> tensors;  // by Site::index
  std::vector<NamedAdapter> adapters;
  std::vector<std::string> active;
  bool enabled = true;
  /// Held while any of this is read or changed; operators only read `board`.
  mutable std::recursive_mutex mutex;
  bool merged_with_copies = true;  // whether what is merged now has copies
  std::shared_ptr<effective::Switchboard> board = std::make_shared<effective::Switchboard>();

  /// Returns the adapter of this name; "" is the first active one. Throws ArgumentError, suggesting
  /// the nearest name, for an unknown one.
  NamedAdapter& adapter(const std::string& name);
  const NamedAdapter& adapter(const std::string& name) const;
  bool any_merged() const;

  /// Returns the index of this tensor's site, which is created if there is none.
  size_t site_for(const std::string& path, const at::Tensor& tensor, LayerKind kind, int64_t groups,
                  const std::function<bool()>& is_training);

  /// Returns what each adapted tensor means with these adapters on, whether they are merged or not.
  /// Throws ArgumentError if two of them replace the same tensor.
  std::vector<effective::Meaning> meanings(const std::vector<std::string>& names) const;
  /// Returns the same for operators. Merged adapters are left out, because the weights already
  /// contain them.
  std::shared_ptr<const effective::Selection> select(const std::vector<std::string>& names) const;
  /// Turns the active adapters on for all threads (none if disabled), and marks the tensors that
  /// are not marked yet.
  void publish();
};

using StateLock = std::lock_guard<std::recursive_mutex>;

/// Returns what one adapter adds to the weight of one layer.
effective::Term term_of(const LayerFactors& layer, const NamedAdapter& adapter);

/// Throw TensorError if the adapter, or any adapter of the model, is merged.
void require_unmerged(const NamedAdapter& adapter, const char* operation);
void require_unmerged(const Adapter& adapter, const char* operation);

/// Returns whether the adapter subtracts the initial factors of any layer from the base, as PiSSA
/// and similar initialisations do.
bool subtracts_from_base(const NamedAdapter& adapter);

/// Makes an adapter with fresh factors for the model of `state`, without adding it. `run` runs the
/// model over representative data if the initialisation needs that (see attach() in adapter.h).
NamedAdapter make_adapter(Adapter::State& state, const std::string& name, const LoraConfig& config,
                          const std::function<void()>& run);

/// Returns the index of the site of a target's weight.
size_t site_of(Adapter::State& state, const Target& target);
/// Adds the adapter, or replaces the one of the same name.
void put_adapter(Adapter::State& state, NamedAdapter adapter);

/// Throws ArgumentError if a name occurs twice, because its update would count twice.
void require_distinct(const std::vector<std::string>& names);

/// Adds a model's first adapter, makes it active and returns the handle. If this fails, the model
/// is as before.
Adapter attach_first(const std::shared_ptr<Adapter::State>& state, NamedAdapter adapter);

/// Throws ArgumentError for a name that is empty, taken, or not usable as the name of a folder.
void check_name(const Adapter::State& state, const std::string& name);

/// Returns the state for a model that has no adapter yet.
std::shared_ptr<Adapter::State> make_state(std::vector<ModelLayer> layers);
/// Turns gradients off for all parameters of the model.
void freeze(const Adapter::State& state);
/// Prepares TorchScript for adapted modules. This applies to the whole process.
void prepare_script();

/// Returns the fingerprint of these parameters' stored values; see base_fingerprint().
std::string fingerprint_of(const std::vector<BaseParameter>& parameters);

/// Returns all parameters of a model with their full names.
std::vector<BaseParameter> base_parameters(const std::vector<ModelLayer>& layers);

/// Throws TensorError for a tensor that cannot carry a mark.
void require_adaptable(const Adapter::State& state, const std::string& path,
                       const at::Tensor& tensor);

}  // namespace lowrank
