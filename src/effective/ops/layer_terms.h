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
  /// x·Wᵀ without a bias, for a weight that lies as the layer's own.
  std::function<at::Tensor(const at::Tensor& x, const at::Tensor& weight)> base;
  /// (x·Aᵀ)·Bᵀ.
  std::function<at::Tensor(const at::Tensor& x, const at::Tensor& a, const at::Tensor& b)> low;
  /// A vector (out) in the shape that scales an output.
  std::function<at::Tensor(const at::Tensor& vector)> by_output;
  /// Adds what these terms add to a few rows of a mixed batch, in place; false, with y untouched,
  /// where it cannot. Empty: it never can.
  std::function<bool(const at::Tensor& y, const at::Tensor& x, const std::vector<int64_t>& rows,
                     const std::vector<Term>& terms)>
      add_to_rows = {};
};

/// Throws TensorError for a weight that became one of inference mode (module.to() inside of it):
/// nothing can be trained through it.
void require_trainable(const at::Tensor& weight, const Site& site);

/// The bias that the layer itself adds beside a weight that is read in factored form: what it means
/// now, and in a mixed batch its base. Undefined where there is none.
at::Tensor layer_bias(const OptionalTensor& bias, const WeightReading& reading);

/// `sum` + what the terms of this meaning add for x; just that where `sum` is undefined. `weight`
/// is W without its mark.
at::Tensor sum_of_terms(at::Tensor sum, const at::Tensor& x, const at::Tensor& weight,
                        const Meaning& meaning, const Site& site, const Layer& layer);

/// y + what the site's terms add, in y's dtype; in a mixed batch to each part's rows what that part
/// adds (the marked `bias` included). `weight` is W without its mark. Throws TensorError where x
/// has another number of rows than the mixed batch.
at::Tensor add_terms(const at::Tensor& y, const at::Tensor& x, const at::Tensor& weight,
                     const OptionalTensor& bias, const WeightReading& reading, const Layer& layer);

}  // namespace lowrank::effective
