#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "app/data/source.h"

namespace lowrank::app {

/// Sets the labels and classes of a data set from numbers, (N) or (N, 1) of any integer dtype or
/// (N, ...) of a floating-point one; source.h says what they mean. `where` is what messages call
/// them. Throws FileError for labels that are negative, above 999,999, not finite, not one for each
/// example, or not what the source says that they are.
void set_labels(Dataset& dataset, const at::Tensor& labels, const DataSource& source,
                const std::string& where);

/// Sets what stands for labels where there are none: zeros, for the classes that the source knows
/// or for numbers, as its loss needs them.
void set_no_labels(Dataset& dataset, const DataSource& source);

/// Sets them from text, one entry for each example. If `known` holds names, the classes are these,
/// and an entry that is none of them is refused.
void set_labels(Dataset& dataset, const std::vector<std::string>& labels,
                const std::vector<std::string>& known, const DataSource& source,
                const std::string& where);

}  // namespace lowrank::app
