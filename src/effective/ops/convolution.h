#pragma once

#include <ATen/core/dispatch/Dispatcher.h>

#include <string_view>

namespace lowrank::effective {

/// The convolutions that layers and TorchScript write: conv1d, conv2d, conv3d with all their
/// overloads, convolution, _convolution.
bool is_convolution(std::string_view operator_name);

/// y = conv(x, W) + bias + s·B·conv(x, A): A takes the layer's kernel, stride, padding and dilation
/// and reads all channels, B is 1×1 with the layer's groups (PEFT, tuners/lora/layer.py, _ConvNd,
/// which drops the dilation). The operator's arguments are on the stack; the result takes their
/// place. False, with the stack untouched, where the weight is not exactly an adapted
/// convolution's.
bool try_factored_convolution(const c10::OperatorHandle& op, torch::jit::Stack* stack);

}  // namespace lowrank::effective
