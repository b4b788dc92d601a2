#pragma once

#include <c10/core/ScalarType.h>
#include <lowrank/export.h>
#include <lowrank/linalg/rank_rule.h>
#include <lowrank/weights/report.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace lowrank {

struct ResizeOptions {
  RankRule rule = RankRule::numerical();
  std::optional<int64_t> budget = {};  ///< as ExtractOptions::budget
  SplitScale split = SplitScale::kBalanced;
  /// Of the new factors; by default that of each old one.
  std::optional<at::ScalarType> dtype = {};
  bool force = false;  ///< replaces an adapter that is in the folder
  /// Files of this name and content that are written with the adapter.
  std::vector<std::pair<std::string, std::string>> further_files = {};
};

/// Writes the best approximations of an adapter's updates s·B·A with the ranks that the rule
/// chooses for each layer, at least 1, into another folder. They are exact: B = Q_b·R_b, Aᵀ =
/// Q_a·R_a, and the singular values of the small R_b·R_aᵀ are those of B·A, which is never formed.
/// Every layer keeps its scaling s, so alpha follows the rank; ranks that differ go to rank_pattern
/// and alpha_pattern. All other tensors (biases, modules trained whole) are copied. The report is
/// also written to kReportFile.
///
/// Throws FileError if `from` is no adapter; if its factors do not have the ranks that its config
/// says, or are not finite, or not pairs; if it uses DoRA, target_parameters, or an init that
/// changes the base; and if `to` holds an adapter and `force` is false.
LOWRANK_API WeightsReport resize_adapter(const std::filesystem::path& from,
                                         const std::filesystem::path& to,
                                         const ResizeOptions& options);

}  // namespace lowrank
