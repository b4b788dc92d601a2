#pragma once

#include <lowrank/adapter/combine.h>
#include <lowrank/export.h>
#include <lowrank/weights/report.h>

#include <filesystem>
#include <string>
#include <vector>

namespace lowrank {

struct CombineFoldersOptions {
  CombineOptions combine{};
  bool force = false;  ///< replace an adapter that is in the folder
};

/// Combines the adapters of some folders with these weights, layer by layer, into a new one, as
/// Adapter::combine() does (adapter/combine.h says what each method gives); no model is needed. A
/// layer that only some of them adapt is combined from those alone. The scalings go into the
/// factors, so that alpha is equal to the rank, and B and A have the widest dtype of the factors.
///
/// Returns, for each layer, how far the result is from Σ wᵢ·sᵢ·Bᵢ·Aᵢ, after rounding; it is also
/// written to lowrank_report.json.
///
/// Throws ArgumentError as check(options.combine) does, and unless there are folders and a weight
/// for each. Throws FileError, naming the folder, for an adapter that Adapter::combine() would
/// refuse, for adapters whose files name different bases, and if `to` holds an adapter and `force`
/// is false. Throws TensorError as Adapter::combine() does.
LOWRANK_API WeightsReport combine_adapter_folders(const std::vector<std::filesystem::path>& folders,
                                                  const std::vector<double>& weights,
                                                  const std::filesystem::path& to,
                                                  const CombineFoldersOptions& options = {});

}  // namespace lowrank
