#pragma once

#include <vector>

#include "adapter/targets/model_view.h"

namespace lowrank {

/// Returns whether "all-linear" leaves this layer out as the output head. PEFT asks transformers
/// for the output embedding of a model, and looks for score or classifier if the task is sequence
/// classification (tuners/tuners_utils.py, _maybe_include_all_linear_layers); in a model that
/// transformers does not know it leaves nothing out. Here, without transformers, the head is
/// lm_head or embed_out, a Linear that shares an Embedding's weight, and score or classifier of a
/// model whose class is named ...ForSequenceClassification.
bool is_output_head(const ModelLayer& layer, const std::vector<ModelLayer>& layers);

}  // namespace lowrank
