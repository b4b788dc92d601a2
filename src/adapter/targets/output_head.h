#pragma once

#include <vector>

#include "adapter/targets/model_view.h"

namespace lowrank {

/// Whether "all-linear" leaves this layer out as the output head. PEFT asks transformers for the
/// output embedding of a model, and looks for score or classifier where the task is sequence
/// classification (tuners/tuners_utils.py, _maybe_include_all_linear_layers); of a plain module it
/// leaves nothing out. Here, without transformers: lm_head or embed_out, a Linear that shares an
/// Embedding's weight, and score or classifier of a class named ...ForSequenceClassification.
bool is_output_head(const ModelLayer& layer, const std::vector<ModelLayer>& layers);

}  // namespace lowrank
