#pragma once

#include <ATen/ATen.h>

namespace lowrank {

inline double norm_of(const at::Tensor& x) { return x.to(at::kDouble).norm().item<double>(); }

/// Returns ‖XᵀX − I‖ in float64: 0 if the columns of X (m, n) are orthonormal.
inline double distance_from_orthonormal(const at::Tensor& columns) {
  const auto x = columns.to(at::kDouble);
  return norm_of(x.t().mm(x) - at::eye(x.size(1), x.options()));
}

}  // namespace lowrank
