#include <fmt/format.h>
#include <lowrank/adapter/adapter.h>
#include <lowrank/error.h>

#include <array>
#include <cmath>

#include "adapter/state.h"
#include "adapter/trained_tensors.h"

namespace lowrank {
namespace {

void require_rate(double rate, const char* what) {
  if (std::isfinite(rate) && rate > 0) return;
  fail<ArgumentError>("parameter_groups", fmt::format("{} must be finite and above 0", what),
                      fmt::format("{}", rate));
}

bool is_of_embedding(const TrainedTensor& trained) {
  return trained.layer != nullptr && trained.layer->target.kind == LayerKind::kEmbedding &&
         (trained.role == TensorRole::kA || trained.role == TensorRole::kB);
}

/// PEFT's rule (optimizers/loraplus.py): B, its bias and every other vector learn at B's rate. A
/// convolution's magnitude is not a vector in PEFT, where it has the dimensions of the convolution.
bool is_trained_as_b(const TrainedTensor& trained) {
  if (trained.role == TensorRole::kB || trained.role == TensorRole::kBias) return true;
  const bool of_convolution =
      trained.layer != nullptr && trained.layer->target.kind == LayerKind::kConv;
  return trained.tensor.dim() == 1 && !of_convolution;
}

}  // namespace

std::vector<ParameterGroup> Adapter::parameter_groups(double learning_rate, double ratio,
                                                      double embedding_rate,
                                                      const std::string& name) const {
  require_rate(learning_rate, "the learning rate");
  require_rate(ratio, "the ratio of B's learning rate to A's");
  require_rate(embedding_rate, "the learning rate of embeddings");
  const StateLock lock(state_->mutex);
  ParameterGroup a{{}, learning_rate}, embeddings{{}, embedding_rate}, b{{}, learning_rate * ratio};
  for (const auto& trained : trained_tensors(state_->adapter(name))) {
    auto& group = is_of_embedding(trained) ? embeddings : is_trained_as_b(trained) ? b : a;
    group.parameters.push_back(trained.tensor);
  }
  std::vector<ParameterGroup> groups;
  for (auto* group : {&a, &embeddings, &b}) {
    if (!group->parameters.empty()) groups.push_back(std::move(*group));
  }
  return groups;
}

}  // namespace lowrank
