#pragma once

#include <ATen/core/dispatch/Dispatcher.h>

#include <string_view>

namespace lowrank::effective {

/// Returns whether this is one of the convolutions that layers and TorchScript call: conv1d,
/// conv2d, conv3d with all their overloads, convolution, _convolution.
bool is_convolution(std::string_view operator_name);

/// y = conv(x, W) + bias + s·B·conv(x, A): A takes the layer's kernel, stride, padding and dilation
/// and reads all channels, B is 1×1 with the layer's groups (PEFT, tuners/lora/layer.py, _ConvNd,
/// which drops the dilation). The operator's arguments are on the stack, and the result takes their
/// place. Returns false, with the stack untouched, unless the weight is exactly an adapted
/// convolution's.
bool try_factored_convolution(const c10::OperatorHandle& op, torch::jit::Stack* stack);

}  // namespace lowrank::effective
