#pragma once

#include <ATen/core/dispatch/Dispatcher.h>

#include <optional>

#include "effective/ops/layer_terms.h"

/// Mixed batches: each row of a batch has its own adapter (Adapter::use_rows).
namespace lowrank::effective {

/// y + what each part of the batch adds in its rows, the marked `bias` included; see add_terms.
at::Tensor add_terms_by_row(const at::Tensor& y, const at::Tensor& x, const at::Tensor& weight,
                            const OptionalTensor& bias, const WeightReading& reading,
                            const Layer& layer);

/// How a bias is read while a mixed batch holds for it; nothing otherwise.
std::optional<WeightReading> read_mixed_bias(const at::Tensor& bias);

/// y (N, ..., out) of a linear layer + what each part of the batch adds to its base bias, in the
/// part's rows.
at::Tensor add_bias_by_row(const at::Tensor& y, const at::Tensor& bias,
                           const WeightReading& reading);

/// add(y, bias) or add_(y, bias) of a bias of a mixed batch, which Linear::forward of LibTorch 1.13
/// calls itself where its input has more dimensions than two. False, with nothing done, for
/// anything else.
bool try_add_bias_by_row(const c10::OperatorHandle& op, torch::jit::Stack* stack);

}  // namespace lowrank::effective
