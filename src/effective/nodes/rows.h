#pragma once

#include <ATen/ATen.h>

/// The kernels take x of two dimensions; these lead there and back.
namespace lowrank::effective {

/// x (..., in) as (N, in).
inline at::Tensor rows_of(const at::Tensor& x) {
  if (x.dim() == 2) return x;
  return x.reshape({c10::multiply_integers(x.sizes().slice(0, x.dim() - 1)), x.size(-1)});
}

/// y (N, out) as (..., out), for the rows of x (..., in). No view of y, as no layer's output is
/// one.
inline at::Tensor in_place_of_rows(const at::Tensor& y, const at::Tensor& x) {
  if (x.dim() == 2) return y;
  auto shape = x.sizes().vec();
  shape.back() = y.size(1);
  return at::_unsafe_view(y, shape);
}

}  // namespace lowrank::effective
