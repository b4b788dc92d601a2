#include "linalg/block_lanczos.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <cmath>

#include "kernels/products.h"
#include "linalg/norm_in_float64.h"

namespace lowrank {
namespace {

/// Columns of a block.
constexpr int64_t kBlock = 16;
/// What another block must gain, as a share of the squared error, so that it is taken.
constexpr double kWorthwhileGain = 0.002;
/// Gains below this share of the energy are rounding.
constexpr double kRounding = 1e-6;
/// Columns more than the rank that the last step keeps.
constexpr int64_t kMore = 8;

at::Tensor orthonormal_rows(const at::Tensor& rows) {
  return std::get<0>(at::linalg_qr(rows.t().contiguous())).t().contiguous();
}

/// x·wᵀ and x·w for a few rows x, by our kernels in float32.
at::Tensor times_transpose(const at::Tensor& x, const at::Tensor& w) {
  if (w.scalar_type() != at::kFloat || !w.is_cpu()) return x.mm(w.t());
  return kernels::product({x, kernels::Operand(w).t()});
}
at::Tensor times(const at::Tensor& x, const at::Tensor& w) {
  if (w.scalar_type() != at::kFloat || !w.is_cpu()) return x.mm(w);
  return kernels::product({x, w});
}

/// Scales numbers whose squares float32 would not hold. A copy of a large matrix costs as much as a
/// product with it.
at::Tensor in_range(const at::Tensor& matrix, double scale) {
  const bool is_in_range = scale > 1e-10 && scale < 1e10;
  return is_in_range ? matrix : matrix / scale;
}

/// The space that the blocks span, each as rows.
class Space {
 public:
  explicit Space(const at::Tensor& w) : w_(w) {}

  int64_t dimension() const { return basis_.defined() ? basis_.size(0) : 0; }

  /// Adds a block of orthonormal rows (kBlock, n), and returns the energy of the first `rank`
  /// singular values of W in the space.
  double add(const at::Tensor& block, int64_t rank) {
    const auto images = times_transpose(block, w_).to(at::kDouble);  // (kBlock, m)
    basis_ = basis_.defined() ? at::cat({basis_, block}) : block;
    const auto before = images_;
    images_ = before.defined() ? at::cat({before, images}) : images;
    const auto [values, vectors] = at::linalg_eigh(images_.mm(images_.t()));
    const auto count = std::min(rank + kMore, dimension());
    leading_ = vectors.narrow(1, dimension() - count, count);  // the largest are the last
    last_ = images.to(w_.scalar_type());
    return values.narrow(0, dimension() - std::min(rank, dimension()), std::min(rank, dimension()))
        .sum()
        .item<double>();
  }

  /// Returns the next block: Wᵀ·W times the last one, orthogonal to all of them.
  at::Tensor next() const {
    auto rows = times(last_, w_);
    for (int pass = 0; pass < 2; ++pass) {
      rows = orthonormal_rows(rows);
      rows = rows - rows.mm(basis_.t()).mm(basis_);
    }
    return orthonormal_rows(rows);
  }

  /// Returns the right singular vectors of the largest singular values in the space, as rows.
  at::Tensor leading_rows() const { return leading_.t().to(basis_.scalar_type()).mm(basis_); }

 private:
  const at::Tensor& w_;
  at::Tensor basis_, images_, last_, leading_;
};

/// Two products with the matrix itself, which take away what float32 left out.
Svd last_step(const at::Tensor& matrix, const at::Tensor& rows, int64_t rank) {
  const auto left = orthonormal_rows(times_transpose(rows.to(matrix.scalar_type()), matrix));
  const auto [u, s, v] = thin_svd(times(left, matrix), "the projected matrix");
  const auto kept = [&](const at::Tensor& columns) {
    return columns.narrow(1, 0, rank).contiguous();
  };
  return {.u = kept(left.t().mm(u)), .s = s.narrow(0, 0, rank).contiguous(), .v = kept(v)};
}

}  // namespace

std::optional<Svd> block_lanczos(const at::Tensor& matrix, int64_t rank) {
  const auto smaller = std::min(matrix.size(0), matrix.size(1));
  const auto [least, most] = at::aminmax(matrix);
  const double scale = std::max(-least.item<double>(), most.item<double>());
  if (scale == 0 || rank > smaller - kMore) return std::nullopt;
  const at::Tensor w = in_range(matrix, scale).to(at::kFloat).contiguous();
  const double total = std::pow(norm_in_float64(w), 2);
  const auto generator = at::detail::createCPUGenerator(/*seed_val=*/0);
  const auto start = at::randn({kBlock, w.size(1)}, generator, at::TensorOptions(at::kFloat));
  auto block = orthonormal_rows(start.to(w.device()));
  Space space(w);
  double before = 0;
  while (space.dimension() + kBlock <= smaller / 3) {
    const double energy = space.add(block, rank);
    const double gain = energy - before;
    const bool is_enough =
        gain <= kWorthwhileGain * std::max(total - energy, 0.0) || gain <= kRounding * energy;
    if (space.dimension() >= rank + kBlock && is_enough) {
      return last_step(matrix, space.leading_rows(), rank);
    }
    before = energy;
    block = space.next();
  }
  return std::nullopt;
}

}  // namespace lowrank
