#pragma once

#include <cstdint>
#include <vector>

/// The low-rank part of a linear layer for a few rows of a batch, on raw memory. A product of one
/// row is limited by memory bandwidth, and calling a library costs more than the product itself.
namespace lowrank::kernels {

/// One layer's factors: `a` (rank, in), `b` (out, rank), row by row.
struct LoraFactors {
  const float* a;
  const float* b;
  int64_t in, out, rank;
  float scaling;
};

/// y[i] += s·B·(A·x[i]) for each i in `rows`; x (N, in), y (N, out), row by row.
void add_lora_rows(float* y, const float* x, const std::vector<int64_t>& rows,
                   const LoraFactors& factors);

}  // namespace lowrank::kernels
