#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/adapter/lora_config.h>

namespace lowrank {

struct InitialFactors {
  at::Tensor a;  // (rank, in)
  at::Tensor b;  // (out, rank), zero
};

/// Draws the factors for `weight` (out, in) from LibTorch's default CPU generator, so that a seed
/// gives the same factors on every device; float64 where the weight is, else float32.
InitialFactors initial_factors(const at::Tensor& weight, int64_t rank, LoraInit init);

}  // namespace lowrank
