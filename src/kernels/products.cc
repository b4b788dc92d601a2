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

/// Returns whether to compute dot products with the rows of wᵀ. That is best if only they are
/// contiguous, or if w has few columns and they are contiguous.
bool reads_transposed(const Operand& w) {
  return has_contiguous_rows(w.t()) && (!has_contiguous_rows(w) || w.columns < kColumnUnit);
}

/// Allocates without the dispatcher, which costs more than a small product.
at::Tensor empty_matrix(int64_t rows, int64_t columns) {
  return at::Tensor(at::detail::empty_cpu({rows, columns}, at::kFloat));
}

/// Below this many rows or columns a simple loop copies faster than LibTorch's operator.
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

/// Returns whether an operand of a compact matrix stands for its transpose.
bool is_transposed(const Operand& operand) {
  return operand.rows != operand.compact->rows || operand.columns != operand.compact->columns ||
         operand.column != 1;
}

ThinTerm thin_term(const MatmulOperands& operands, bool transposed) {
  return {.x = operands.x.numbers,
          .x_row = operands.x.row,
          .x_column = operands.x.column,
          .w = operands.w.numbers,
          .w_row = transposed ? operands.w.column : operands.w.row,
          .depth = operands.x.columns};
}

/// MatmulOperands in a layout that a kernel can read, and the copies that this took.
struct ReadyOperands {
  MatmulOperands operands;
  at::Tensor x, w;

  ReadyOperands(const MatmulOperands& given, bool transposed) : operands(given) {
    if (transposed && !has_contiguous_rows(given.x)) operands.x = x = copy_of(given.x);
    if (given.w.compact != nullptr) return;
    if (transposed && !has_contiguous_rows(given.w.t())) {
      operands.w = Operand(w = copy_of(given.w.t())).t();
    } else if (!transposed && !has_contiguous_rows(given.w)) {
      operands.w = w = copy_of(given.w);
    }
  }
};

}  // namespace

bool is_kernel_ready(const at::Tensor& tensor) {
  return tensor.is_cpu() && tensor.scalar_type() == at::kFloat && tensor.layout() == at::kStrided &&
         !tensor.is_neg() && !tensor._is_zerotensor();
}

bool is_kernel_ready_matrix(const at::Tensor& tensor) {
  return is_kernel_ready(tensor) && tensor.dim() == 2;
}

Operand::Operand(const at::Tensor& matrix)
    : numbers(matrix.data_ptr<float>()),
      rows(matrix.size(0)),
      columns(matrix.size(1)),
      row(matrix.stride(0)),
      column(matrix.stride(1)) {}

Operand LayerMatrix::operand() const {
  if (compact == nullptr) return tensor;
  Operand operand;
  operand.rows = tensor.size(0);
  operand.columns = tensor.size(1);
  operand.row = tensor.stride(0);
  operand.column = tensor.stride(1);
  operand.compact = compact;
  return operand;
}

at::Tensor LayerMatrix::dense() const {
  if (compact == nullptr) return tensor;
  const auto whole = widened(*compact);
  return is_transposed(operand()) ? whole.t() : whole;
}

Operand Operand::t() const {
  Operand transposed = *this;
  std::swap(transposed.rows, transposed.columns);
  std::swap(transposed.row, transposed.column);
  return transposed;
}

at::Tensor product_by(Multiply multiply, const MatmulOperands& first, const MatmulOperands& second,
                      const at::Tensor& bias, Activation activation) {
  const auto* compact = first.w.compact;
  const bool transposed = compact == nullptr ? reads_transposed(first.w) : is_transposed(first.w);
  const ReadyOperands one(first, transposed), two(second, transposed);
  const auto contiguous_bias = bias.defined() ? bias.contiguous() : bias;
  auto y = empty_matrix(first.x.rows, first.w.columns);
  const ThinProduct product = {.first = thin_term(one.operands, transposed),
                               .second = thin_term(two.operands, transposed),
                               .rows = first.x.rows,
                               .columns = first.w.columns,
                               .bias = bias.defined() ? contiguous_bias.data_ptr<float>() : nullptr,
                               .rectify = activation == Activation::kRelu,
                               .y = y.data_ptr<float>(),
                               .y_row = first.w.columns};
  if (compact != nullptr) {
    const auto with = transposed ? &multiply_compact_transposed : &multiply_compact;
    with(product, *compact, kernel_table());
    return y;
  }
  (transposed ? &multiply_transposed : multiply)(product, kernel_table());
  return y;
}

ThinProduct thin_product(const MatmulOperands& operands) {
  return {.first = thin_term(operands, /*transposed=*/false),
          .rows = operands.x.rows,
          .columns = operands.w.columns};
}

at::Tensor product(const MatmulOperands& first, const MatmulOperands& second,
                   const at::Tensor& bias, Activation activation) {
  return product_by(&multiply, first, second, bias, activation);
}

at::Tensor transposed_product(const MatmulOperands& operands) {
  const auto transposed = product(operands);
  return copy_of(Operand(transposed).t());
}

}  // namespace lowrank::kernels
