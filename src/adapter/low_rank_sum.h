#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "effective/meaning.h"
#include "kernels/add_product.h"

/// What adapters add to a weight as one product, for one pass over the weight's memory.
namespace lowrank {

/// left·right with the weight as a matrix that lies row after row: (rows, rank), (rank, columns),
/// contiguous float32.
struct LowRankSum {
  at::Tensor left, right;
};

/// Of all terms together. Nothing where there are other parts than factors (DoRA, a replacement,
/// biases), where one product cannot express them (experts, groups), or where a tensor is not
/// contiguous float32 on the CPU.
std::optional<LowRankSum> low_rank_sum(const at::Tensor& weight, const effective::Site& site,
                                       const effective::Meaning& meaning);

/// Whether no number of weight + sum can overflow, or be NaN: by the largest of each. False where
/// that leaves it open.
bool is_surely_finite(const at::Tensor& weight, const LowRankSum& sum);

/// to = from + sum, for the `from` that the sum was made for; `to`, of its shape, may be itself,
/// lie otherwise, or be of another dtype, to which the sum is rounded.
kernels::SumFigures write_sum(const at::Tensor& to, const at::Tensor& from, const LowRankSum& sum);

}  // namespace lowrank
