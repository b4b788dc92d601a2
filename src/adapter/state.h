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
  at::Tensor unmerged;  // its values before merge(), where they are kept
  int64_t version = 0;  // of the tensor when it was merged: whether it has been written to since
};

/// What one adapter has in one layer.
struct LayerFactors {
  Target target;
  size_t site = 0;                  // of the weight, in State::tensors
  std::optional<size_t> bias_site;  // where lora_bias is used
  at::Tensor a, b, minus_a, minus_b, magnitude, bias;
};

/// What one adapter trains whole: a bias, a parameter of modules_to_save, or rows of an embedding.
struct WholeParameter {
  std::string path;
  size_t site = 0;
  at::Tensor value;
  at::Tensor rows;  // int64 (n), on the weight's device: value holds these alone; undefined: all
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
  /// Held while any of this is looked at or changed; operators look at `board` alone.
  mutable std::recursive_mutex mutex;
  bool merged_with_copies = true;  // of what is merged now
  std::shared_ptr<effective::Switchboard> board = std::make_shared<effective::Switchboard>();

  /// Throws ArgumentError with the nearest names for one that is unknown; "" is the first active.
  NamedAdapter& adapter(const std::string& name);
  const NamedAdapter& adapter(const std::string& name) const;
  bool any_merged() const;

  /// The number of this tensor's site, which is made where there is none.
  size_t site_for(const std::string& path, const at::Tensor& tensor, LayerKind kind, int64_t groups,
                  const std::function<bool()>& is_training);

  /// What each of the model's tensors means with these adapters on, whether they are merged or not.
  /// Throws ArgumentError where two of them replace one tensor.
  std::vector<effective::Meaning> meanings(const std::vector<std::string>& names) const;
  /// The same for operators, whose weights hold what is merged already.
  std::shared_ptr<const effective::Selection> select(const std::vector<std::string>& names) const;
  /// Makes the active adapters hold for all threads, and marks what is not marked yet.
  void publish();
};

using StateLock = std::lock_guard<std::recursive_mutex>;

/// The meaning of one layer's weight and bias under one adapter.
effective::Term term_of(const LayerFactors& layer, const NamedAdapter& adapter);

/// Throws TensorError for an adapter that is merged, or a model with one that is.
void require_unmerged(const NamedAdapter& adapter, const char* operation);
void require_unmerged(const Adapter& adapter, const char* operation);

/// Whether factors of any layer are taken off the base (PiSSA and its like).
bool takes_off_the_base(const NamedAdapter& adapter);

/// Makes an adapter for the model of `state` with fresh factors, without adding it. `run` shows the
/// model representative data where the initialisation looks at it (attach() in adapter.h).
NamedAdapter make_adapter(Adapter::State& state, const std::string& name, const LoraConfig& config,
                          const std::function<void()>& run);

/// The number of the site of a target's weight.
size_t site_of(Adapter::State& state, const Target& target);
/// Adds it; where one of this name exists it is replaced.
void put_adapter(Adapter::State& state, NamedAdapter adapter);

/// Throws ArgumentError where a name is there twice: its update would count twice.
void require_distinct(const std::vector<std::string>& names);

/// A handle on a model's first adapter, which is active. Where that fails the model is as before.
Adapter attach_first(const std::shared_ptr<Adapter::State>& state, NamedAdapter adapter);

/// Refuses a name that is empty, taken, or could not be a folder's.
void check_name(const Adapter::State& state, const std::string& name);

/// A state for a model that carries no adapter yet.
std::shared_ptr<Adapter::State> make_state(std::vector<ModelLayer> layers);
/// No parameter of the model requires gradients from now on.
void freeze(const Adapter::State& state);
/// What TorchScript needs before its modules are adapted; for the whole process.
void prepare_script();

/// The fingerprint of these parameters' stored values; see base_fingerprint.
std::string fingerprint_of(const std::vector<BaseParameter>& parameters);

/// All parameters of a model, each once, with their full names.
std::vector<BaseParameter> base_parameters(const std::vector<ModelLayer>& layers);

/// Thrown errors for tensors that cannot carry a mark.
void require_adaptable(const Adapter::State& state, const std::string& path,
                       const at::Tensor& tensor);

}  // namespace lowrank
