#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "effective/meaning.h"
#include "kernels/add_product.h"

/// The sum of what several adapters add to a weight, as one product that can be added in one pass
/// over the weight's memory.
namespace lowrank {

/// left·right, which has the shape of the weight as a row-major matrix: left is (rows, rank), right
/// is (rank, columns), both contiguous float32.
struct LowRankSum {
  at::Tensor left, right;
};

/// Returns the sum of all terms. Returns nothing if there are other parts than factors (DoRA, a
/// replacement, biases), if one product cannot express them (experts, groups), or if a tensor is
/// not contiguous float32 on the CPU.
std::optional<LowRankSum> low_rank_sum(const at::Tensor& weight, const effective::Site& site,
                                       const effective::Meaning& meaning);

/// Returns true if the largest magnitudes of weight and sum show that no element of weight + sum
/// can overflow or be NaN. False means that they leave it open.
bool is_provably_finite(const at::Tensor& weight, const LowRankSum& sum);

/// Computes to = from + sum, where `from` is the tensor that the sum was made for. `to` has the
/// shape of `from`. It may be the same tensor, have other strides, or have another dtype, to which
/// the result is rounded.
kernels::SumFigures write_sum(const at::Tensor& to, const at::Tensor& from, const LowRankSum& sum);

}  // namespace lowrank
