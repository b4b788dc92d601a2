#include <fmt/format.h>
#include <lowrank/adapter/adapter.h>
#include <lowrank/error.h>

#include <array>
#include <cmath>

#include "adapter/peft/keys.h"
#include "adapter/state.h"

namespace lowrank {
namespace {

void require_rate(double rate, const char* what) {
  if (std::isfinite(rate) && rate > 0) return;
  fail<ArgumentError>("parameter_groups", fmt::format("{} must be finite and above 0", what),
                      fmt::format("{}", rate));
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
  for (const auto& tensor : file_tensors(state_->adapter(name))) {
    const auto has = [&](const char* part) { return tensor.name.find(part) != std::string::npos; };
    const bool with_b = has("lora_B") || tensor.shape.size() == 1;
    auto& group = has("lora_embedding_") ? embeddings : with_b ? b : a;
    group.parameters.push_back(tensor.tensor);
  }
  std::vector<ParameterGroup> groups;
  for (auto* group : {&a, &embeddings, &b}) {
    if (!group->parameters.empty()) groups.push_back(std::move(*group));
  }
  return groups;
}

}  // namespace lowrank
