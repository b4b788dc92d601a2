#pragma once

#include <ATen/core/dispatch/Dispatcher.h>

#include <optional>

#include "effective/ops/factored_output.h"

/// Mixed batches: each row of a batch has its own adapter (Adapter::use_rows).
namespace lowrank::effective {

/// y plus what each part of the batch adds in its rows, its change of the marked `bias` included;
/// see add_terms.
at::Tensor add_terms_by_row(const at::Tensor& y, const at::Tensor& x, const at::Tensor& weight,
                            const OptionalTensor& bias, const WeightReading& reading,
                            const Layer& layer);

/// Reads a bias that a mixed batch holds for. Returns nothing for any other bias.
std::optional<WeightReading> read_mixed_bias(const at::Tensor& bias);

/// y (N, ..., out) of a linear layer, plus what each part of the batch adds to the base bias, in
/// the part's rows.
at::Tensor add_bias_by_row(const at::Tensor& y, const at::Tensor& bias,
                           const WeightReading& reading);

/// Handles add(y, bias) and add_(y, bias) with a bias that a mixed batch holds for; Linear::forward
/// of LibTorch 1.13 calls them if its input has more than two dimensions. Returns false, and does
/// nothing, for any other call.
bool try_add_bias_by_row(const c10::OperatorHandle& op, torch::jit::Stack* stack);

}  // namespace lowrank::effective
