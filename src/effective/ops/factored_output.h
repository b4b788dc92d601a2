#pragma once

#include <functional>
#include <vector>

#include "effective/weight_reading.h"

/// A layer's output from its factors, operator by operator under autograd: what linear layers,
/// convolutions and embeddings have in common.
namespace lowrank::effective {

using OptionalTensor = c10::optional<at::Tensor>;  // std::optional from LibTorch 2 on

/// How a layer applies a matrix.
struct Layer {
  /// x·Wᵀ without a bias, for a weight with the layout of the layer's own.
  std::function<at::Tensor(const at::Tensor& x, const at::Tensor& weight)> base;
  /// (x·Aᵀ)·Bᵀ.
  std::function<at::Tensor(const at::Tensor& x, const at::Tensor& a, const at::Tensor& b)> low;
  /// Reshapes a vector (out) so that multiplying an output by it scales each output feature.
  std::function<at::Tensor(const at::Tensor& vector)> by_output;
  /// Adds what these terms add to a few rows of a mixed batch, in place. Returns false, with y
  /// untouched, if it cannot; empty if it never can.
  std::function<bool(const at::Tensor& y, const at::Tensor& x, const std::vector<int64_t>& rows,
                     const std::vector<Term>& terms)>
      add_to_rows = {};
};

/// Throws TensorError if the weight was made in inference mode (by module.to(), for example) and
/// gradients are enabled: nothing can be trained through it.
void require_trainable(const at::Tensor& weight, const Site& site);

/// The bias that the layer itself adds when its weight is read in factored form: the effective
/// bias, or in a mixed batch the base's. Undefined if the layer has none.
at::Tensor layer_bias(const OptionalTensor& bias, const WeightReading& reading);

/// Returns whether what adapters add to a layer's output is computed from W as well as from the
/// factors.
bool reads_weight(const WeightReading& reading);

/// `sum` plus what the terms of this meaning add for x; an undefined `sum` counts as zero. `weight`
/// is W without its mark.
at::Tensor sum_of_terms(at::Tensor sum, const at::Tensor& x, const at::Tensor& weight,
                        const Meaning& meaning, const Site& site, const Layer& layer);

/// y plus what the site's terms add, in y's dtype. In a mixed batch, each part's rows get what that
/// part adds, its change of the marked `bias` included. `weight` is W without its mark. Throws
/// TensorError if x has another number of rows than the mixed batch.
at::Tensor add_terms(const at::Tensor& y, const at::Tensor& x, const at::Tensor& weight,
                     const OptionalTensor& bias, const WeightReading& reading, const Layer& layer);

}  // namespace lowrank::effective
