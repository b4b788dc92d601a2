#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <lowrank/adapter/combine.h>

#include <vector>

#include "adapter/combine/combine_plan.h"

namespace lowrank {

/// `x` with the int(density · n) entries of its n that are largest in magnitude, zero elsewhere
/// (PEFT's magnitude_based_pruning; which of equal ones stay is left open).
at::Tensor prune_by_magnitude(const at::Tensor& x, double density);

/// `x` / density where a draw of `generator` (a CPU one, so that a seed keeps the same entries on
/// every device) is below density, zero elsewhere: the expected value is x (PEFT's random_pruning).
at::Tensor prune_at_random(const at::Tensor& x, double density, at::Generator& generator);

/// TIES's elected, disjoint mean of the weighted `tensors`: each entry's sign is that of the sum of
/// its values, or of its signs (a sum of 0 counts as positive); the entries that have it are
/// multiplied by their weights and averaged over their number. The weights have no say in the
/// election (PEFT's calculate_majority_sign_mask and disjoint_merge).
at::Tensor elected_mean(const std::vector<at::Tensor>& tensors, const std::vector<double>& weights,
                        MajoritySign sign);

/// Prunes `tensors` (one shape, float64), then adds or elects with `weights`, as `plan` says.
at::Tensor merge_tensors(const std::vector<at::Tensor>& tensors, const std::vector<double>& weights,
                         const CombinePlan& plan, const CombineOptions& options,
                         at::Generator& generator);

}  // namespace lowrank
