#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/linalg/thin_svd.h>

/// The initialisations that do not start with B = 0 and random A: one pair of files each, as
/// PEFT defines them (tuners/lora/layer.py; huggingface/peft at 0.21.2). All are pure functions of
/// their tensors; those that draw say so. W is (out, in), whatever its layer stores.
///
/// Where a method starts with B·A ≠ 0 the caller makes the base W - s·B·A, so that the model
/// starts as it was. Factors come in float64 where W is float64, else in float32, on W's device;
/// they are computed in float64.
namespace lowrank::init {

struct FactorPair {
  at::Tensor a;  // (rank, in)
  at::Tensor b;  // (out, rank)
};

/// A = √(S/s)·Vᵀ and B = U·√(S/s) in `dtype`: s·B·A = U·diag(S)·Vᵀ.
FactorPair balanced_factors(const Svd& decomposition, double scaling, at::ScalarType dtype);

/// The triplets [first, first + count) of a decomposition.
Svd triplets(const Svd& decomposition, int64_t first, int64_t count);

/// Throws ArgumentError, "[method] ...", for a rank below 1 or above `most`, which is what
/// `meaning` says.
void require_rank(const char* method, int64_t rank, int64_t most, const char* meaning);

/// Throws ArgumentError for a scaling that is not above 0 and finite: it is divided by.
void require_scaling(const char* method, double scaling);

/// Draws from LibTorch's default CPU generator what PEFT draws and throws away before any of its
/// initialisations of a Linear layer: the weights of nn.Linear(in, rank) and nn.Linear(rank, out).
/// Then the method, layer by layer: that is PEFT's stream of a seed.
void discard_linear_draws(int64_t in, int64_t out, int64_t rank);

}  // namespace lowrank::init
