#pragma once

#include <lowrank/adapter/adapter.h>

#include <mutex>
#include <optional>

#include "adapter/targets/model_view.h"
#include "adapter/targets/targets.h"
#include "effective/mark.h"
#include "effective/switchboard.h"

namespace lowrank {

/// One of the model's own parameters, as it was before attach.
struct BaseParameter {
  std::string name;
  at::Tensor tensor;
  bool required_grad;
};

/// One of the model's buffers.
struct BaseBuffer {
  std::string name;
  at::Tensor tensor;
  at::Tensor before;  // a copy of its values before attach; undefined while there is no adapter
  bool is_statistic;  // running statistics, which a forward in training changes
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
/// an embedding; or running statistics of a module in modules_to_save.
struct WholeParameter {
  std::string path;
  size_t site = 0;
  at::Tensor value;
  at::Tensor rows;  // int64 (n), on the weight's device: `value` holds only these; undefined: all
  bool is_statistic = false;  // changed by forward passes in training, not by an optimizer
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
  std::vector<BaseBuffer> buffers;
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

  /// The same for running statistics of the model.
  size_t site_for_statistic(const std::string& path, const at::Tensor& tensor);

  /// Returns what each adapted tensor means with these adapters on, whether they are merged or not.
  /// Throws ArgumentError if two of them replace the same tensor.
  std::vector<effective::Meaning> meanings(const std::vector<std::string>& names) const;
  /// Returns the same for operators. Merged adapters are left out, because the weights already
  /// contain them.
  std::shared_ptr<const effective::Selection> select(const std::vector<std::string>& names) const;
  /// The full names of adapted parameters whose module holds another tensor now. An adapter has no
  /// effect on it.
  std::vector<std::string> lost_parameters() const;
  /// Throws TensorError if there are any.
  void require_none_lost(const char* operation) const;

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
/// Entries of the config that match nothing go to `unmatched`; without it they are refused.
NamedAdapter make_adapter(Adapter::State& state, const std::string& name, const LoraConfig& config,
                          const std::function<void()>& run,
                          std::vector<UnmatchedEntry>* unmatched = nullptr);

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
/// Turns gradients off for all parameters of the model, keeps a copy of its buffers and gives its
/// running statistics sites, so that no forward changes them.
void freeze(Adapter::State& state);
/// Gives every buffer that has changed since freeze() its values back.
void restore_buffers(Adapter::State& state);
/// The names of the buffers that have changed since freeze().
std::vector<std::string> changed_buffers(const Adapter::State& state);
/// Prepares TorchScript for adapted modules. This applies to the whole process.
void prepare_script();

struct Fingerprints {
  std::string whole;          // see base_fingerprint(); buffers that have changed count as before
  std::string of_parameters;  // without the buffers, as earlier builds wrote it
};
/// Returns the fingerprints of the model's parameters and buffers as they are stored.
Fingerprints fingerprints_of(const Adapter::State& state);

/// Throws TensorError for a tensor that cannot carry a mark.
void require_adaptable(const Adapter::State& state, const std::string& path,
                       const at::Tensor& tensor);

}  // namespace lowrank
