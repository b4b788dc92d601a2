#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/adapter/lora_config.h>

#include "adapter/targets.h"

namespace lowrank {

struct InitialFactors {
  at::Tensor a;        // (rank, in...)
  at::Tensor b;        // (out, rank...)
  at::Tensor bias;     // (out), zero, where the config has lora_bias
  at::Tensor minus_a;  // what is taken off the base, so that an adapted model starts as its base;
  at::Tensor minus_b;  // undefined where B·A starts at zero
};

/// Draws the factors for one weight from LibTorch's default CPU generator, so that a seed gives the
/// same factors on every device and PEFT's for its own initialisations; float64 where the weight
/// is, else float32.
InitialFactors initial_factors(const Target& target, const LoraConfig& config);

}  // namespace lowrank
