#pragma once

#include <ATen/ATen.h>

/// The kernels take a two-dimensional x. These functions reshape x to that, and the result back.
namespace lowrank::effective {

/// x (..., in) as (N, in).
inline at::Tensor rows_of(const at::Tensor& x) {
  if (x.dim() == 2) return x;
  return x.reshape({c10::multiply_integers(x.sizes().slice(0, x.dim() - 1)), x.size(-1)});
}

/// y (N, out) as (..., out), with the leading dimensions of x (..., in). The result is not a view
/// of y, because no layer's output is a view.
inline at::Tensor restore_leading_dims(const at::Tensor& y, const at::Tensor& x) {
  if (x.dim() == 2) return y;
  auto shape = x.sizes().vec();
  shape.back() = y.size(1);
  return at::_unsafe_view(y, shape);
}

}  // namespace lowrank::effective
