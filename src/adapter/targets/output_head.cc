#include "adapter/targets/output_head.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "adapter/config/name_matching.h"

namespace lowrank {
namespace {

bool is_tied_to_embedding(const ModelLayer& layer, const std::vector<ModelLayer>& layers) {
  const auto weight = layer.parameter("weight");
  return std::any_of(layers.begin(), layers.end(), [&](const ModelLayer& other) {
    if (other.kind != LayerKind::kEmbedding) return false;
    const auto entries = other.parameter("weight");
    return entries.is_alias_of(weight) && entries.storage_offset() == weight.storage_offset();
  });
}

}  // namespace

bool is_output_head(const ModelLayer& layer, const std::vector<ModelLayer>& layers) {
  if (matches_name(layer.name, "lm_head") || matches_name(layer.name, "embed_out")) return true;
  if (layer.name == "score" || layer.name == "classifier") {
    return layers.front().type.ends_with("ForSequenceClassification");
  }
  return is_tied_to_embedding(layer, layers);
}

}  // namespace lowrank
