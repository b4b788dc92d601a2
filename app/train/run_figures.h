#pragma once

#include <lowrank/adapter/adapter.h>
#include <lowrank/train/run_log.h>

#include <nlohmann/json_fwd.hpp>
#include <optional>

#include "app/train/example_task.h"

/// What the command adds to the log of a run.
namespace lowrank::app {

/// Writes the options of a run as text.
void log_options(RunLog& log, const nlohmann::ordered_json& identity);

/// Returns the singular values of s·B·A, float64 (min(out, in, rank)), descending; nullopt for a
/// layer whose factors do not make one matrix (convolutions with groups, experts).
std::optional<at::Tensor> singular_values_of_update(const AdaptedLayer& layer);

/// Writes the singular values of s·B·A of each layer as a histogram, as far as it has them.
void log_spectra(RunLog& log, int64_t step, const Adapter& adapter);

/// Writes the first images at `indices` (int64 (N)) that are classified wrong, at most eight.
void log_mistakes(RunLog& log, int64_t step, const ExampleTask& task, const at::Tensor& indices);

}  // namespace lowrank::app
