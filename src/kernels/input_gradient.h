#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/products.h"
#include "kernels/thin_product.h"

/// The gradient dy·W of a layer's input: a few rows times a large matrix that is read once.
namespace lowrank::kernels {

/// What multiply() computes, within the same bound, for a large matrix w that is read once. The
/// upper and the lower half of w's rows are multiplied separately and then added, so that each of
/// two threads reads its half of w from start to end. The order of the sums depends on the sizes of
/// w alone. `rectify` must not be set.
void multiply_halves(const ThinProduct& product, const KernelTable& kernels = kernel_table());

/// The input gradient dy·W (+ dy₂·W₂), by multiply_halves(): each of two threads reads half of the
/// rows of W.
at::Tensor input_gradient(const MatmulOperands& first, const MatmulOperands& second = {});

}  // namespace lowrank::kernels
