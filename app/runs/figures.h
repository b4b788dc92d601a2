#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/adapter/adapter.h>

#include <nlohmann/json.hpp>

#include "app/data/dataset.h"

/// What a run keeps of itself for its report (app/pages/run_page.h), in kFiguresFile. The report
/// computes nothing, so that it can be made long after the run, and without its data.
namespace lowrank::app {

constexpr const char* kFiguresFile = "figures.json";

/// Returns [{"name", "shape", "rank", "scaling", "weight": SPECTRUM, "update": SPECTRUM}, ...] for
/// the layers of an adapter. A SPECTRUM {"singular_values": [...], "energy", "count"} holds at most
/// the 64 largest of W and of s·B·A, all of them as a sum of squares, and how many there are. It is
/// null for what is no matrix, has NaN, or (W alone) would take long to decompose.
nlohmann::ordered_json layer_figures(const Adapter& adapter);

/// Returns what two models make of the same examples: {"data", "examples", "class_names", "off":
/// {...}, "on": {...}, "mended": {"count", "images": [{"index", "label", "before", "after",
/// "png"}]}, "broken": ...}. `off` and `on` are outputs of the base and with the adapter; without
/// `on`, only the base is described. The confusion matrix is left out for more than 64 classes.
nlohmann::ordered_json evaluation_figures(const Dataset& data, const at::Tensor& off,
                                          const at::Tensor& on = {});

}  // namespace lowrank::app
