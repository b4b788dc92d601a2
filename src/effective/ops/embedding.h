#pragma once

#include <ATen/core/Tensor.h>

namespace lowrank::effective {

/// The rows of W (entries, width) at `indices`, plus s·(the rows of Aᵀ at `indices`)·Bᵀ.
at::Tensor embedding(const at::Tensor& weight, const at::Tensor& indices, int64_t padding_idx,
                     bool scale_grad_by_freq, bool sparse);

}  // namespace lowrank::effective
