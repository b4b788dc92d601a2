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

/// Decomposes `w` (m, n) on its own device with LibTorch's driver (LAPACK's gesdd on a CPU);
/// nothing of m x m or n x n is formed. float64 stays float64, float32 stays float32, half types
/// are computed and returned in float32, integers and bool in float64 (as NumPy does). Where m or n
/// is 0 the factors have no columns. Gradients are not recorded.
///
/// Not called svd: `using namespace lowrank` would make svd(w) ambiguous with at::svd.
///
/// Throws TensorError, calling the matrix `name`: not two-dimensional, sparse or complex, entries
/// that are NaN or Inf (their count and the first position), a singular value beyond its dtype.
LOWRANK_API Svd thin_svd(const at::Tensor& w, std::string_view name = "W");

/// The singular values alone (k), for the same inputs and errors, in about a fifth of the time.
LOWRANK_API at::Tensor singular_values(const at::Tensor& w, std::string_view name = "W");

}  // namespace lowrank
