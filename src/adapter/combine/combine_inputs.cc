#include "adapter/combine/combine_inputs.h"

#include <ATen/ATen.h>
#include <fmt/ranges.h>
#include <lowrank/error.h>

#include <cmath>
#include <string>

#include "adapter/combine/combine_plan.h"
#include "linalg/matrix.h"

namespace lowrank {
namespace {

constexpr auto kCombine = "combine";

void require_weights(const std::vector<ScaledFactors>& inputs, const std::vector<double>& weights) {
  if (inputs.empty()) {
    fail<ArgumentError>(kCombine, "there must be at least one adapter to combine", "none");
  }
  if (weights.size() != inputs.size()) {
    fail<ArgumentError>(
        kCombine,
        fmt::format("there must be one weight for each of the {} adapters", inputs.size()),
        fmt::format("{}", weights.size()));
  }
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!std::isfinite(weights[i])) {
      fail<ArgumentError>(kCombine, fmt::format("the weight of adapter {} must be finite", i + 1),
                          fmt::format("{}", weights[i]));
    }
    if (!std::isfinite(inputs[i].scaling)) {
      fail<ArgumentError>(kCombine, fmt::format("the scaling of adapter {} must be finite", i + 1),
                          fmt::format("{}", inputs[i].scaling));
    }
  }
}

/// Returns `factor` as a finite float64 matrix. The kernel of a convolution becomes part of the
/// second dimension.
at::Tensor flattened(const std::string& name, const at::Tensor& factor) {
  if (factor.defined() && !at::isFloatingType(factor.scalar_type())) {
    fail<TensorError>(kCombine, fmt::format("{} must hold floating-point numbers", name),
                      c10::toString(factor.scalar_type()));
  }
  const bool kernel = factor.defined() && factor.dim() > 2 && factor.layout() == at::kStrided;
  return finite_matrix(kCombine, name, kernel ? factor.flatten(1) : factor).to(at::kDouble);
}

std::string shape(const at::Tensor& tensor) {
  return fmt::format("({})", fmt::join(tensor.sizes(), ", "));
}

void require_product(size_t i, const ScaledFactors& input, const WeightedFactors& term) {
  if (term.b.size(1) == term.a.size(0) && term.a.size(0) > 0) return;
  fail<TensorError>(
      kCombine,
      fmt::format("lora_A of adapter {0} must be (rank, in) and lora_B (out, rank)", i + 1),
      fmt::format("{} and {}", shape(input.a), shape(input.b)),
      input.b.dim() > 2 ? "The factors of grouped convolutions cannot be combined." : "");
}

/// All dimensions except the rank must agree with those of the first adapter.
void require_alike(size_t i, const ScaledFactors& input, const ScaledFactors& first) {
  const bool alike = input.a.sizes().slice(1) == first.a.sizes().slice(1) &&
                     input.b.size(0) == first.b.size(0) &&
                     input.b.sizes().slice(2) == first.b.sizes().slice(2);
  if (alike) return;
  fail<TensorError>(kCombine,
                    fmt::format("the factors of adapter {} must fit the layer that adapter 1's "
                                "factors fit, {} and {}",
                                i + 1, shape(first.a), shape(first.b)),
                    fmt::format("{} and {}", shape(input.a), shape(input.b)));
}

void require_equal_ranks(const std::vector<WeightedFactors>& terms, CombineMethod method) {
  std::vector<int64_t> ranks;
  bool equal = true;
  for (const auto& term : terms) {
    ranks.push_back(term.a.size(0));
    equal = equal && ranks.back() == ranks.front();
  }
  if (equal) return;
  fail<TensorError>(
      kCombine, fmt::format("the ranks must be equal with {}", combine_method_name(method)),
      fmt::format("{}", fmt::join(ranks, ", ")), "cat, svd and the *_svd methods take any ranks.");
}

}  // namespace

std::vector<WeightedFactors> weighted_factors(const std::vector<ScaledFactors>& inputs,
                                              const std::vector<double>& weights,
                                              CombineMethod method) {
  require_weights(inputs, weights);
  std::vector<WeightedFactors> terms;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const auto& input = inputs[i];
    WeightedFactors term{
        .a = flattened(fmt::format("lora_A of adapter {}", i + 1), input.a),
        .b = flattened(fmt::format("lora_B of adapter {}", i + 1), input.b),
        .scaling = input.scaling,
        .weight = weights[i],
    };
    require_product(i, input, term);
    require_alike(i, input, inputs[0]);
    term.a = term.a.to(inputs[0].a.device());
    term.b = term.b.to(inputs[0].a.device());
    terms.push_back(std::move(term));
  }
  if (combine_plan(method).on == CombinePlan::On::kFactors) require_equal_ranks(terms, method);
  return terms;
}

at::ScalarType widest_dtype(const std::vector<ScaledFactors>& inputs) {
  auto dtype = inputs[0].a.scalar_type();
  for (const auto& input : inputs) {
    dtype = at::promote_types(dtype, input.a.scalar_type());
    dtype = at::promote_types(dtype, input.b.scalar_type());
  }
  return dtype;
}

}  // namespace lowrank
