#include "kernels/products.h"

#include <ATen/ATen.h>

namespace lowrank::kernels {
namespace {

bool has_contiguous_rows(const at::Tensor& matrix) {
  return matrix.size(1) <= 1 || matrix.stride(1) == 1;
}

bool has_contiguous_columns(const at::Tensor& matrix) {
  return matrix.size(0) <= 1 || matrix.stride(0) == 1;
}

/// A few columns are best read as rows of the transpose, where they lie so: dot products.
bool reads_transposed(const at::Tensor& w) {
  return has_contiguous_columns(w) && (!has_contiguous_rows(w) || w.size(1) < kColumnUnit);
}

ThinTerm term_of(const at::Tensor& x, const at::Tensor& w, bool transposed) {
  return {.x = x.data_ptr<float>(),
          .x_row = x.stride(0),
          .x_column = x.stride(1),
          .w = w.data_ptr<float>(),
          .w_row = transposed ? w.stride(1) : w.stride(0),
          .depth = x.size(1)};
}

using Multiply = void (*)(const ThinProduct&, const KernelTable&);

at::Tensor product(const Factors& first, const Factors& second, const at::Tensor& bias,
                   Multiply multiply) {
  const bool transposed = reads_transposed(first.w);
  // Kept here while the kernel reads them.
  const auto lying = [&](Factors factors) {
    if (!factors.x.defined()) return factors;
    if (transposed) {
      if (factors.x.size(1) > 1 && factors.x.stride(1) != 1) factors.x = factors.x.contiguous();
      if (!has_contiguous_columns(factors.w)) factors.w = factors.w.t().contiguous().t();
    } else if (!has_contiguous_rows(factors.w)) {
      factors.w = factors.w.contiguous();
    }
    return factors;
  };
  const auto one = lying(first), two = lying(second);
  const auto plain_bias = bias.defined() ? bias.contiguous() : bias;
  auto y = at::empty({first.x.size(0), first.w.size(1)}, first.x.options());
  ThinProduct product = {.first = term_of(one.x, one.w, transposed),
                         .rows = y.size(0),
                         .columns = y.size(1),
                         .bias = bias.defined() ? plain_bias.data_ptr<float>() : nullptr,
                         .y = y.data_ptr<float>(),
                         .y_row = y.size(1)};
  if (two.x.defined()) product.second = term_of(two.x, two.w, transposed);
  (transposed ? &multiply_transposed : multiply)(product, kernel_table());
  return y;
}

}  // namespace

bool is_plain(const at::Tensor& tensor) {
  return tensor.is_cpu() && tensor.scalar_type() == at::kFloat && tensor.layout() == at::kStrided;
}

bool is_plain_matrix(const at::Tensor& tensor) { return is_plain(tensor) && tensor.dim() == 2; }

ThinProduct thin_product(const Factors& factors) {
  return {.first = term_of(factors.x, factors.w, /*transposed=*/false),
          .rows = factors.x.size(0),
          .columns = factors.w.size(1)};
}

at::Tensor product(const Factors& first, const Factors& second, const at::Tensor& bias) {
  return product(first, second, bias, &multiply);
}

at::Tensor product_of_halves(const Factors& first, const Factors& second) {
  return product(first, second, {}, &multiply_halves);
}

}  // namespace lowrank::kernels
