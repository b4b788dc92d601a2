#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/linalg/thin_svd.h>

/// The initialisations that do not start with B = 0 and random A, as PEFT defines them
/// (tuners/lora/layer.py; huggingface/peft at 0.21.2). Each has a pair of files of its own. All are
/// pure functions of their tensors; those that draw random numbers say so. W is (out, in), however
/// its layer stores it.
///
/// If a method starts with B·A ≠ 0, the caller makes the base W - s·B·A, so that the model starts
/// as it was. Factors are computed in float64 and returned on W's device, in float64 if W is
/// float64, otherwise in float32.
namespace lowrank::init {

struct FactorPair {
  at::Tensor a;  // (rank, in)
  at::Tensor b;  // (out, rank)
};

/// Returns A = √(S/s)·Vᵀ and B = U·√(S/s) in `dtype`, so that s·B·A = U·diag(S)·Vᵀ.
FactorPair balanced_factors(const Svd& decomposition, double scaling, at::ScalarType dtype);

/// Returns the triplets [first, first + count) of a decomposition.
Svd triplets(const Svd& decomposition, int64_t first, int64_t count);

/// Throws ArgumentError, "[method] ...", for a rank below 1 or above `most`. `meaning` describes
/// `most` in the message.
void require_rank(const char* method, int64_t rank, int64_t most, const char* meaning);

/// Throws ArgumentError for a scaling that is not finite and above 0, because it is a divisor.
void require_scaling(const char* method, double scaling);

/// Draws from LibTorch's default CPU generator what PEFT draws and discards before each of its
/// initialisations of a Linear layer: the weights of nn.Linear(in, rank) and nn.Linear(rank, out).
/// Called before the method in each layer, this reproduces PEFT's random numbers for a seed.
void discard_linear_draws(int64_t in, int64_t out, int64_t rank);

}  // namespace lowrank::init
