#pragma once

#include <lowrank/export.h>

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace lowrank {

/// Which factor of a new adapter holds the singular values of an update s·B·A = U·S·Vᵀ.
enum class SplitScale {
  kBalanced,  ///< half of each, as its square root
  kB,         ///< lora_B; the rows of lora_A have norm 1
  kA,         ///< lora_A; the columns of lora_B have norm 1
};

/// How far one layer of a written adapter is from the update ΔW that it stands for. All norms are
/// computed from the factors as they are written, after rounding, in float64 (except for the
/// spectral norms that extract_adapter() names).
struct LayerError {
  std::string name;  ///< dotted path in the model
  int64_t rows = 0, columns = 0;
  int64_t rank_before = 0;  ///< 0: ΔW was no adapter's update
  int64_t rank = 0;
  double norm = 0;       ///< ‖ΔW‖_F
  double frobenius = 0;  ///< ‖ΔW - s·B·A‖_F
  double spectral = 0;   ///< ‖ΔW - s·B·A‖₂

  /// ‖ΔW - s·B·A‖_F / ‖ΔW‖_F; 0 for ΔW = 0.
  LOWRANK_API double relative() const;
  /// 1 - relative()², the share of the energy Σσ² that is kept.
  LOWRANK_API double retained_energy() const;
};

LOWRANK_API nlohmann::ordered_json to_json(const LayerError& layer);

/// The errors of all layers, and of the whole adapter as one vector.
struct WeightsReport {
  std::vector<LayerError> layers;
  std::vector<std::string> whole = {};    ///< tensors that are saved whole
  int64_t whole_numbers = 0;              ///< in these and in the tensors that are saved with them
  std::vector<std::string> skipped = {};  ///< tensors that changed and are not saved
  int64_t unchanged = 0;                  ///< tensors that are equal in both models
  std::vector<std::string> notes = {};    ///< sentences about what was found in the adapter
  int64_t resumed = 0;                    ///< layers that an interrupted command had finished
  bool config_matches = true;             ///< as LoadReport::config_matches, of the old adapter

  LOWRANK_API double norm() const;
  LOWRANK_API double frobenius() const;
  LOWRANK_API double relative() const;
  LOWRANK_API int64_t parameters() const;  ///< of the factors
};

/// The name of the file, beside what was written, that holds to_json() of its report.
constexpr const char* kReportFile = "lowrank_report.json";

/// {"layers": [{"name", "shape", "rank_before", "rank", "norm", "error": {"frobenius",
/// "relative_frobenius", "spectral", "retained_energy"}}], "total": {...}, "parameters", "whole",
/// "whole_parameters", "skipped", "unchanged", "notes"}
LOWRANK_API nlohmann::ordered_json to_json(const WeightsReport& report);

}  // namespace lowrank
