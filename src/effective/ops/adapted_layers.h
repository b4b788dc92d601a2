#pragma once

#include <ATen/core/dispatch/Dispatcher.h>

#include "effective/ops/compose.h"

namespace lowrank::effective {

/// The convolutions that layers and TorchScript write: conv1d, conv2d, conv3d with all their
/// overloads, convolution, _convolution.
bool is_convolution(std::string_view operator_name);

/// y = conv(x, W) + bias + s·B·conv(x, A): A takes the layer's kernel, stride, padding and dilation
/// and reads all channels, B is 1×1 with the layer's groups (PEFT, tuners/lora/layer.py, _ConvNd,
/// which drops the dilation). The operator's arguments are on the stack; the result takes their
/// place. False, with the stack untouched, where the weight is not exactly an adapted
/// convolution's.
bool try_adapted_convolution(const c10::OperatorHandle& op, torch::jit::Stack* stack);

/// The rows of W (entries, width) at `indices`, + s·(Aᵀ at indices)·Bᵀ.
at::Tensor adapted_embedding(const at::Tensor& weight, const at::Tensor& indices,
                             int64_t padding_idx, bool scale_grad_by_freq, bool sparse);

}  // namespace lowrank::effective
