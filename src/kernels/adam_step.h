#pragma once

#include <cstdint>

#include "kernels/thin_product.h"

/// One step of Adam (Kingma & Ba, arXiv 1412.6980, algorithm 1) on raw memory, in one pass.
/// PyTorch's torch/optim/adam.py, _single_tensor_adam, takes eight passes for the same.
namespace lowrank::kernels {

/// m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g²;
/// p -= step_size m / (sqrt(v) / root_correction2 + epsilon), for `count` elements each.
void adam_step(float* p, const float* g, float* m, float* v, int64_t count, const AdamStep& step);
void adam_step(double* p, const double* g, double* m, double* v, int64_t count,
               const AdamStep& step);

/// The same for a gradient that is a product (rows, columns). It is formed a few rows at a time and
/// never written to memory; p, m and v have its shape, row by row. The gradient is gradient.first
/// alone. The result is bit for bit that of multiply() followed by adam_step().
void adam_step(float* p, float* m, float* v, const ThinProduct& gradient, const AdamStep& step,
               const KernelTable& kernels = kernel_table());

}  // namespace lowrank::kernels
