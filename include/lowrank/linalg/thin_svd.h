#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/export.h>

#include <string_view>

namespace lowrank {

/// The thin singular value decomposition W = U · diag(S) · Vᵀ, with k = min(m, n).
struct Svd {
  at::Tensor u;  // (m, k), orthonormal columns
  at::Tensor s;  // (k), descending, none negative
  at::Tensor v;  // (n, k), orthonormal columns
};

/// Decomposes `w` (m, n) on its own device with LibTorch's driver (LAPACK's gesdd on a CPU); no m x
/// m or n x n matrix is formed. float64 stays float64, float32 stays float32, half types are
/// computed and returned in float32, integers and bool in float64 (as NumPy does). If m or n is 0,
/// the factors have no columns. Gradients are not recorded.
///
/// It is not called svd because `using namespace lowrank` would make svd(w) ambiguous with at::svd.
///
/// Throws TensorError, which calls the matrix `name`, if the matrix is not two-dimensional, is
/// sparse or complex, or has entries that are NaN or Inf (the message gives their count and the
/// first position), and if a singular value overflows its dtype.
LOWRANK_API Svd thin_svd(const at::Tensor& w, std::string_view name = "W");

/// Returns only the singular values (k), in about a fifth of the time. The inputs and errors are
/// the same.
LOWRANK_API at::Tensor singular_values(const at::Tensor& w, std::string_view name = "W");

}  // namespace lowrank
