#include "linalg/randomized_svd.h"

#include <ATen/ATen.h>

namespace lowrank {
namespace {

at::Tensor orthonormal_basis(const at::Tensor& columns) {
  return std::get<0>(at::linalg_qr(columns));
}

/// (m, q): orthonormal columns whose span contains most of the range of the tall `matrix` (m, n).
at::Tensor range_basis(const at::Tensor& matrix, int64_t q, int64_t iterations,
                       const at::Generator& generator) {
  const auto start = at::randn({matrix.size(1), q}, generator, at::TensorOptions(at::kFloat));
  auto basis = orthonormal_basis(matrix.mm(start.to(matrix.device(), at::kDouble)));
  for (int64_t i = 0; i < iterations; ++i) {
    basis = orthonormal_basis(matrix.t().mm(basis));
    basis = orthonormal_basis(matrix.mm(basis));
  }
  return basis;
}

}  // namespace

Svd randomized_svd(const at::Tensor& matrix, int64_t q, int64_t iterations,
                   const at::Generator& generator) {
  const bool wide = matrix.size(0) < matrix.size(1);
  const auto tall = wide ? matrix.t() : matrix;
  const auto basis = range_basis(tall, q, iterations, generator);
  const auto [u, s, v] = thin_svd(basis.t().mm(tall), "the projected matrix");
  const auto left = basis.mm(u);
  return wide ? Svd{.u = v, .s = s, .v = left} : Svd{.u = left, .s = s, .v = v};
}

}  // namespace lowrank
