#pragma once

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <lowrank/adapter/combine.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "adapter/combine/combine_factors.h"

/// The reference for the tests of combining: the definitions of combine.h, entry by entry in
/// float64, for matrices.
namespace lowrank::reference {

using Tensors = std::vector<at::Tensor>;
using Weights = std::vector<double>;

inline at::Tensor product(const ScaledFactors& f) {
  const auto a = f.a.to(at::kDouble).flatten(1);
  return f.b.to(at::kDouble).flatten(1).mm(a) * f.scaling;
}

inline at::Tensor weighted_sum(const std::vector<ScaledFactors>& inputs, const Weights& weights) {
  auto sum = at::zeros_like(product(inputs[0]));
  for (size_t i = 0; i < inputs.size(); ++i) sum += weights[i] * product(inputs[i]);
  return sum;
}

/// Returns a matrix of the shape of `x`, whose entries are the results of `work(row, column)`.
template <class Work>
at::Tensor each_entry(const at::Tensor& x, const Work& work) {
  auto result = at::zeros_like(x);
  auto entries = result.accessor<double, 2>();
  for (int64_t i = 0; i < x.size(0); ++i) {
    for (int64_t j = 0; j < x.size(1); ++j) entries[i][j] = work(i, j);
  }
  return result;
}

inline double at_entry(const at::Tensor& x, int64_t i, int64_t j) {
  return x.accessor<double, 2>()[i][j];
}

inline at::Tensor largest(const at::Tensor& x, double density) {
  std::vector<double> sizes;
  for (int64_t i = 0; i < x.size(0); ++i) {
    for (int64_t j = 0; j < x.size(1); ++j) sizes.push_back(std::abs(at_entry(x, i, j)));
  }
  std::sort(sizes.rbegin(), sizes.rend());
  const auto kept = static_cast<size_t>(density * static_cast<double>(sizes.size()));
  return each_entry(x, [&](int64_t i, int64_t j) {
    const double value = at_entry(x, i, j);
    return kept > 0 && std::abs(value) >= sizes[kept - 1] ? value : 0.0;
  });
}

inline at::Tensor dropped(const at::Tensor& x, double density, at::Generator& generator) {
  const auto draws = at::rand(x.sizes(), generator, x.options());
  return each_entry(x, [&](int64_t i, int64_t j) {
    return at_entry(draws, i, j) < density ? at_entry(x, i, j) / density : 0.0;
  });
}

inline double sign_of(double value) { return value > 0 ? 1 : value < 0 ? -1 : 0; }

inline at::Tensor elected(const Tensors& xs, const Weights& weights, MajoritySign sign) {
  return each_entry(xs[0], [&](int64_t i, int64_t j) {
    double votes = 0;
    for (const auto& x : xs) {
      const double value = at_entry(x, i, j);
      votes += sign == MajoritySign::kTotal ? value : sign_of(value);
    }
    double sum = 0;
    int count = 0;
    for (size_t k = 0; k < xs.size(); ++k) {
      const double value = at_entry(xs[k], i, j);
      if (sign_of(value) != (votes >= 0 ? 1 : -1)) continue;
      sum += weights[k] * value;
      ++count;
    }
    return sum / std::max(count, 1);
  });
}

struct Recipe {
  enum { kKeepAll, kKeepLargest, kKeepRandom } pruning;
  bool elects;
};

inline at::Tensor merged(Tensors xs, const Weights& weights, Recipe recipe,
                         const CombineOptions& options, at::Generator& generator) {
  for (auto& x : xs) {
    if (recipe.pruning == Recipe::kKeepLargest) x = largest(x, options.density);
    if (recipe.pruning == Recipe::kKeepRandom) x = dropped(x, options.density, generator);
  }
  if (recipe.elects) return elected(xs, weights, options.majority_sign);
  auto sum = at::zeros_like(xs[0]);
  for (size_t i = 0; i < xs.size(); ++i) sum += weights[i] * xs[i];
  return sum;
}

/// Returns the result of a method that works on the dense updates.
inline at::Tensor merged_updates(const std::vector<ScaledFactors>& inputs, const Weights& weights,
                                 Recipe recipe, const CombineOptions& options) {
  auto generator = at::detail::createCPUGenerator(options.seed);
  Tensors updates;
  for (const auto& input : inputs) updates.push_back(product(input));
  return merged(updates, weights, recipe, options, generator);
}

/// Returns the result of a method that works on the factors: B·A of the merged factors. All A's are
/// merged before all B's.
inline at::Tensor merged_factors(const std::vector<ScaledFactors>& inputs, const Weights& weights,
                                 Recipe recipe, const CombineOptions& options) {
  auto generator = at::detail::createCPUGenerator(options.seed);
  Tensors as;
  Tensors bs;
  Weights of_a;
  Weights of_b;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const double both = weights[i] * inputs[i].scaling;
    as.push_back(inputs[i].a.to(at::kDouble).flatten(1));
    bs.push_back(inputs[i].b.to(at::kDouble).flatten(1));
    of_a.push_back(sign_of(both) * std::sqrt(std::abs(both)));
    of_b.push_back(std::sqrt(std::abs(both)));
  }
  const auto a = merged(as, of_a, recipe, options, generator);
  return merged(bs, of_b, recipe, options, generator).mm(a);
}

}  // namespace lowrank::reference
