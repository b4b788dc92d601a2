#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <lowrank/adapter/combine.h>

#include <vector>

#include "adapter/combine/combine_plan.h"

namespace lowrank {

/// Keeps the int(density · n) entries of `x` that are largest in magnitude, where n is the number
/// of its entries, and sets the rest to zero (PEFT's magnitude_based_pruning). Which of several
/// equal entries it keeps is unspecified.
at::Tensor prune_by_magnitude(const at::Tensor& x, double density);

/// Returns `x` / density where a draw of `generator` is below density, and zero elsewhere, so that
/// the expected value is x (PEFT's random_pruning). `generator` is on the CPU, so that a seed keeps
/// the same entries on every device.
at::Tensor prune_at_random(const at::Tensor& x, double density, at::Generator& generator);

/// Returns TIES's disjoint mean of the weighted `tensors`. The elected sign of an entry is that of
/// the sum of its values, or of the sum of their signs (a sum of 0 counts as positive). The values
/// with this sign are multiplied by their weights and averaged over their number. The weights play
/// no part in the election (PEFT's calculate_majority_sign_mask and disjoint_merge).
at::Tensor elected_mean(const std::vector<at::Tensor>& tensors, const std::vector<double>& weights,
                        MajoritySign sign);

/// Prunes `tensors` (of one shape, float64), then adds them or takes their elected mean with
/// `weights`, as `plan` says.
at::Tensor merge_tensors(const std::vector<at::Tensor>& tensors, const std::vector<double>& weights,
                         const CombinePlan& plan, const CombineOptions& options,
                         at::Generator& generator);

}  // namespace lowrank
