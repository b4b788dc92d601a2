#pragma once

#include <lowrank/adapter/lora_config.h>
#include <lowrank/export.h>

#include <cstdint>
#include <string>
#include <vector>

namespace torch::nn {
class Module;
}
namespace torch::jit {
struct Module;
}

namespace lowrank {

/// One weight that attach() would adapt.
struct PlannedLayer {
  std::string name;            ///< dotted module path, and the parameter if it is not "weight"
  std::string kind;            ///< the layer's class: "Linear", "Conv2d", "LSTM"
  std::vector<int64_t> shape;  ///< shape of the weight
  int64_t rank = 0;
  double alpha = 0;
  double scaling = 0;
  int64_t weights = 0;     ///< elements of the weight
  int64_t parameters = 0;  ///< elements of A and B, and of DoRA's magnitudes and the bias on B
};

/// One parameter that would be trained in full, or of which rows would be trained.
struct PlannedParameter {
  std::string name;
  std::vector<int64_t> shape;
  int64_t parameters = 0;
};

struct AdapterPlan {
  std::vector<PlannedLayer> layers;     ///< in the model's order; at least one
  std::vector<PlannedParameter> whole;  ///< likewise; may be empty
  int64_t model_parameters = 0;         ///< elements of all parameters; shared ones count once
  int64_t trained_parameters = 0;       ///< elements that `layers` and `whole` train
};

/// Returns what attach() would adapt and train, and how many elements that is; nothing is changed.
/// Throws what attach() throws for a config that does not fit the model: ArgumentError for names,
/// patterns and regular expressions that match nothing, TensorError for a weight that two layers
/// share, unless one is an Embedding and the other a Linear.
LOWRANK_API AdapterPlan plan_adapter(torch::nn::Module& model, const LoraConfig& config);
LOWRANK_API AdapterPlan plan_adapter(const torch::jit::Module& model, const LoraConfig& config);

}  // namespace lowrank
