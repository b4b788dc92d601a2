#pragma once

#include <lowrank/adapter/init_options.h>

#include "adapter/init/factor_pair.h"

namespace lowrank::init {

/// LoRA-GA (Wang et al., arXiv 2407.05000; PEFT's lora_ga_init): with the first 2r triplets of the
/// `gradient` (out, in) of the loss by `w` (out, in), A is r of its Vᵀ and B is r of its U·S, as
/// the options say: the first step of the adapter goes where that of full fine-tuning goes.
///
/// The triplets come from randomized_svd() with q = min(4·rank, out, in) and 4 iterations, which
/// draws; then kRandom draws a permutation, as PEFT does. For kWeightSvd the norm of W is exact,
/// where PEFT takes one more randomized_svd().
///
/// Throws ArgumentError for a rank below 1 or above min(out, in)/2, for a scaling or stable_gamma
/// that is not finite and above 0; TensorError for tensors that are no real, finite matrices of one
/// shape.
FactorPair lora_ga(const at::Tensor& w, const at::Tensor& gradient, int64_t rank, double scaling,
                   const LoraGaConfig& options = {});

}  // namespace lowrank::init
