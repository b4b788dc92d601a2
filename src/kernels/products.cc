#include "kernels/products.h"

#include <ATen/ATen.h>
#include <ATen/EmptyTensor.h>

#include <algorithm>
#include <utility>

namespace lowrank::kernels {
namespace {

bool has_contiguous_rows(const Operand& matrix) {
  return matrix.columns <= 1 || matrix.column == 1;
}

/// A few columns are best read as rows of the transpose, where they lie so: dot products.
bool reads_transposed(const Operand& w) {
  return has_contiguous_rows(w.t()) && (!has_contiguous_rows(w) || w.columns < kColumnUnit);
}

/// Below the dispatcher, which costs more than a small product.
at::Tensor empty_matrix(int64_t rows, int64_t columns) {
  return at::Tensor(at::detail::empty_cpu({rows, columns}, at::kFloat));
}

/// Below this many rows or columns a plain loop copies faster than LibTorch's operator.
constexpr int64_t kNarrow = 16;

at::Tensor copy_of(const Operand& matrix) {
  auto copy = empty_matrix(matrix.rows, matrix.columns);
  if (std::min(matrix.rows, matrix.columns) < kNarrow) {
    float* to = copy.data_ptr<float>();
    for (int64_t i = 0; i < matrix.rows; ++i) {
      const float* const from = matrix.numbers + i * matrix.row;
      for (int64_t j = 0; j < matrix.columns; ++j) *to++ = from[j * matrix.column];
    }
    return copy;
  }
  return copy.copy_(at::from_blob(const_cast<float*>(matrix.numbers), copy.sizes(),
                                  {matrix.row, matrix.column}, at::kFloat));
}

ThinTerm thin_term(const Factors& factors, bool transposed) {
  return {.x = factors.x.numbers,
          .x_row = factors.x.row,
          .x_column = factors.x.column,
          .w = factors.w.numbers,
          .w_row = transposed ? factors.w.column : factors.w.row,
          .depth = factors.x.columns};
}

/// Factors that lie as a kernel reads them, and the copies that this took.
struct Lying {
  Factors factors;
  at::Tensor x, w;

  Lying(const Factors& given, bool transposed) : factors(given) {
    if (transposed && !has_contiguous_rows(given.x)) factors.x = x = copy_of(given.x);
    if (transposed && !has_contiguous_rows(given.w.t())) {
      factors.w = Operand(w = copy_of(given.w.t())).t();
    } else if (!transposed && !has_contiguous_rows(given.w)) {
      factors.w = w = copy_of(given.w);
    }
  }
};

using Multiply = void (*)(const ThinProduct&, const KernelTable&);

at::Tensor product_by(Multiply multiply, const Factors& first, const Factors& second,
                      const at::Tensor& bias, Activation activation) {
  const bool transposed = reads_transposed(first.w);
  const Lying one(first, transposed), two(second, transposed);
  const auto plain_bias = bias.defined() ? bias.contiguous() : bias;
  auto y = empty_matrix(first.x.rows, first.w.columns);
  const ThinProduct product = {.first = thin_term(one.factors, transposed),
                               .second = thin_term(two.factors, transposed),
                               .rows = first.x.rows,
                               .columns = first.w.columns,
                               .bias = bias.defined() ? plain_bias.data_ptr<float>() : nullptr,
                               .rectify = activation == Activation::kRelu,
                               .y = y.data_ptr<float>(),
                               .y_row = first.w.columns};
  (transposed ? &multiply_transposed : multiply)(product, kernel_table());
  return y;
}

}  // namespace

bool is_plain(const at::Tensor& tensor) {
  return tensor.is_cpu() && tensor.scalar_type() == at::kFloat && tensor.layout() == at::kStrided &&
         !tensor.is_neg() && !tensor._is_zerotensor();
}

bool is_plain_matrix(const at::Tensor& tensor) { return is_plain(tensor) && tensor.dim() == 2; }

Operand::Operand(const at::Tensor& matrix)
    : numbers(matrix.data_ptr<float>()),
      rows(matrix.size(0)),
      columns(matrix.size(1)),
      row(matrix.stride(0)),
      column(matrix.stride(1)) {}

Operand Operand::t() const {
  Operand transposed = *this;
  std::swap(transposed.rows, transposed.columns);
  std::swap(transposed.row, transposed.column);
  return transposed;
}

ThinProduct thin_product(const Factors& factors) {
  return {.first = thin_term(factors, /*transposed=*/false),
          .rows = factors.x.rows,
          .columns = factors.w.columns};
}

at::Tensor product(const Factors& first, const Factors& second, const at::Tensor& bias,
                   Activation activation) {
  return product_by(&multiply, first, second, bias, activation);
}

at::Tensor transposed_product(const Factors& factors) {
  const auto transposed = product(factors);
  return copy_of(Operand(transposed).t());
}

at::Tensor product_of_halves(const Factors& first, const Factors& second) {
  return product_by(&multiply_halves, first, second, {}, Activation::kNone);
}

}  // namespace lowrank::kernels
