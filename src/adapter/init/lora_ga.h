#pragma once

#include <lowrank/adapter/init_options.h>

#include "adapter/init/factor_pair.h"

namespace lowrank::init {

/// LoRA-GA (Wang et al., arXiv 2407.05000; PEFT's lora_ga_init). `gradient` (out, in) is the
/// gradient of the loss with respect to `w` (out, in). From its first 2r triplets, A takes r rows
/// of Vᵀ and B takes r columns of U·S, as the options say. The first step of the adapter then goes
/// in the direction of full fine-tuning.
///
/// The triplets come from randomized_svd() with q = min(4·rank, out, in) and 4 iterations, which
/// draws random numbers. kRandom then draws a permutation, as PEFT does. For kWeightSvd the norm of
/// W is exact, whereas PEFT takes another randomized_svd().
///
/// Throws ArgumentError for a rank below 1 or above min(out, in)/2, and for a scaling or
/// stable_gamma that is not finite and above 0. Throws TensorError for tensors that are not real,
/// finite matrices of the same shape.
FactorPair lora_ga(const at::Tensor& w, const at::Tensor& gradient, int64_t rank, double scaling,
                   const LoraGaConfig& options = {});

}  // namespace lowrank::init
