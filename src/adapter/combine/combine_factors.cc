#include "adapter/combine/combine_factors.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <lowrank/error.h>
#include <lowrank/linalg/factorize.h>

#include <algorithm>
#include <cmath>

#include "adapter/combine/combine_inputs.h"
#include "adapter/combine/combine_plan.h"
#include "adapter/combine/merge_tensors.h"
#include "linalg/product_svd.h"

namespace lowrank {
namespace {

/// Stacks the factors side by side, so that their product is Σ wᵢ·sᵢ·Bᵢ·Aᵢ.
Factors stacked(const std::vector<WeightedFactors>& terms) {
  std::vector<at::Tensor> a;
  std::vector<at::Tensor> b;
  for (const auto& term : terms) {
    a.push_back(term.a * (term.weight * term.scaling));
    b.push_back(term.b);
  }
  return {.b = at::cat(b, 1), .a = at::cat(a, 0)};
}

/// Merges the A's and the B's separately. Each side carries √|w·s|, and A carries the sign as well.
Factors merged_factors(const std::vector<WeightedFactors>& terms, const CombinePlan& plan,
                       const CombineOptions& options, at::Generator& generator) {
  std::vector<at::Tensor> a;
  std::vector<at::Tensor> b;
  std::vector<double> weights_a;
  std::vector<double> weights_b;
  for (const auto& term : terms) {
    const double both = term.weight * term.scaling;
    const double root = std::sqrt(std::abs(both));
    a.push_back(term.a);
    b.push_back(term.b);
    weights_a.push_back(std::copysign(root, both));
    weights_b.push_back(root);
  }
  const auto merged_a = merge_tensors(a, weights_a, plan, options, generator);
  return {.b = merge_tensors(b, weights_b, plan, options, generator), .a = merged_a};
}

at::Tensor merged_updates(const std::vector<WeightedFactors>& terms, const CombinePlan& plan,
                          const CombineOptions& options, at::Generator& generator) {
  std::vector<at::Tensor> updates;
  std::vector<double> weights;
  for (const auto& term : terms) {
    updates.push_back(term.b.mm(term.a).mul_(term.scaling));
    weights.push_back(term.weight);
  }
  return merge_tensors(updates, weights, plan, options, generator);
}

Factors truncated(const Svd& decomposition, const std::vector<WeightedFactors>& terms,
                  int64_t wanted) {
  if (wanted == 0) {
    for (const auto& term : terms) wanted = std::max(wanted, term.a.size(0));
  }
  return truncate(decomposition, RankRule::number(std::min(wanted, decomposition.s.size(0))));
}

Factors combined(const std::vector<WeightedFactors>& terms, const CombineOptions& options) {
  const auto plan = combine_plan(options.method);
  auto generator = at::detail::createCPUGenerator(options.seed);
  switch (plan.on) {
    case CombinePlan::On::kFactors:
      return merged_factors(terms, plan, options, generator);
    case CombinePlan::On::kProduct: {
      const auto [b, a] = stacked(terms);
      return truncated(product_svd(b, a), terms, options.rank);
    }
    case CombinePlan::On::kDense: {
      const auto sum = merged_updates(terms, plan, options, generator);
      return truncated(thin_svd(sum, "the combined update"), terms, options.rank);
    }
    case CombinePlan::On::kStack:
      break;
  }
  return stacked(terms);
}

/// Returns `factor` in `dtype` and in the shape of `like`, except for the rank, which is the
/// dimension `rank_dimension`.
at::Tensor restored(const char* name, const at::Tensor& factor, const at::Tensor& like,
                    int64_t rank_dimension, at::ScalarType dtype) {
  const auto result = factor.to(dtype);
  if (!result.isfinite().all().item<bool>()) {
    fail<TensorError>("combine",
                      fmt::format("the combined {} must fit into {}", name, c10::toString(dtype)),
                      "a larger number", "Scale the weights down, or use a wider dtype.");
  }
  auto shape = like.sizes().vec();
  shape[static_cast<size_t>(rank_dimension)] = factor.size(rank_dimension);
  return result.reshape(shape).contiguous();
}

}  // namespace

ScaledFactors combine_factors(const std::vector<ScaledFactors>& inputs,
                              const std::vector<double>& weights, const CombineOptions& options) {
  const at::NoGradGuard no_grad;
  check(options);
  const auto terms = weighted_factors(inputs, weights, options.method);
  const auto [b, a] = combined(terms, options);
  const auto dtype = widest_dtype(inputs);
  return {.a = restored("lora_A", a, inputs[0].a, /*rank_dimension=*/0, dtype),
          .b = restored("lora_B", b, inputs[0].b, /*rank_dimension=*/1, dtype),
          .scaling = 1};
}

}  // namespace lowrank
