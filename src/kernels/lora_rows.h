#pragma once

#include <cstdint>
#include <vector>

/// The low-rank part of a linear layer for a few rows of a batch, on plain memory: matrix products
/// of one row are bound by memory, and calls of a library cost more than they do.
namespace lowrank::kernels {

/// One layer's factors: `a` (rank, in), `b` (out, rank), row after row.
struct LoraFactors {
  const float* a;
  const float* b;
  int64_t in, out, rank;
  float scaling;
};

/// y[i] += s·B·(A·x[i]) for each i of `rows`; x (N, in), y (N, out), row after row.
void add_lora_rows(float* y, const float* x, const std::vector<int64_t>& rows,
                   const LoraFactors& factors);

}  // namespace lowrank::kernels
