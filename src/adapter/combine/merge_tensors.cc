#include "adapter/combine/merge_tensors.h"

#include <ATen/ATen.h>

namespace lowrank {
namespace {

at::Tensor weighted_sum(const std::vector<at::Tensor>& tensors,
                        const std::vector<double>& weights) {
  auto sum = at::zeros_like(tensors[0]);
  for (size_t i = 0; i < tensors.size(); ++i) sum.add_(tensors[i], weights[i]);
  return sum;
}

}  // namespace

at::Tensor prune_by_magnitude(const at::Tensor& x, double density) {
  if (density >= 1) return x;
  const auto kept = static_cast<int64_t>(density * static_cast<double>(x.numel()));
  const auto flat = x.flatten();
  const auto indices =
      std::get<1>(flat.abs().topk(kept, /*dim=*/0, /*largest=*/true, /*sorted=*/false));
  return at::zeros_like(flat).scatter_(0, indices, flat.gather(0, indices)).view(x.sizes());
}

at::Tensor prune_at_random(const at::Tensor& x, double density, at::Generator& generator) {
  if (density >= 1) return x;
  const auto draws = at::rand(x.sizes(), generator, at::TensorOptions().dtype(at::kDouble));
  return x * (draws < density).to(x.device()) / density;
}

at::Tensor elected_mean(const std::vector<at::Tensor>& tensors, const std::vector<double>& weights,
                        MajoritySign sign) {
  auto votes = at::zeros_like(tensors[0]);
  for (const auto& x : tensors) votes.add_(sign == MajoritySign::kTotal ? x : x.sign());
  const auto majority = at::where(votes >= 0, at::ones_like(votes), -at::ones_like(votes));
  auto sum = at::zeros_like(votes);
  auto count = at::zeros_like(votes);
  for (size_t i = 0; i < tensors.size(); ++i) {
    const auto agrees = tensors[i].sign() == majority;
    sum.add_(tensors[i] * agrees, weights[i]);
    count.add_(agrees);
  }
  return sum / count.clamp_min_(1);
}

at::Tensor merge_tensors(const std::vector<at::Tensor>& tensors, const std::vector<double>& weights,
                         const CombinePlan& plan, const CombineOptions& options,
                         at::Generator& generator) {
  std::vector<at::Tensor> pruned;
  pruned.reserve(tensors.size());
  for (const auto& x : tensors) {
    switch (plan.pruning) {
      case CombinePlan::Pruning::kNone:
        pruned.push_back(x);
        break;
      case CombinePlan::Pruning::kMagnitude:
        pruned.push_back(prune_by_magnitude(x, options.density));
        break;
      case CombinePlan::Pruning::kRandom:
        pruned.push_back(prune_at_random(x, options.density, generator));
        break;
    }
  }
  return plan.elect ? elected_mean(pruned, weights, options.majority_sign)
                    : weighted_sum(pruned, weights);
}

}  // namespace lowrank
