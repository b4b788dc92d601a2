// Covers src/adapter/targets in comparison with PEFT's own choices.

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <lowrank/io/json.h>

#include "adapter/peft/adapter_config.h"
#include "adapter/targets/targets.h"

namespace lowrank {
namespace {

// PEFT's choices, ranks and alphas come from tests/reference/make_matching.py.
TEST(PeftMatching, ChoosesTheSameLayersAtTheSameRanks) {
  const auto file = read_ordered_json_file(LOWRANK_FIXTURES "/peft_matching.json");
  std::vector<ModelLayer> layers(1);
  for (const auto& path : file["paths"]) {
    ModelLayer layer;
    layer.name = path.get<std::string>();
    layer.kind = LayerKind::kLinear;
    layer.parameters = {{"weight", at::zeros({2, 2})}};
    layers.push_back(layer);
  }
  for (const auto& entry : file["cases"]) {
    auto adapted = nlohmann::ordered_json::array();
    for (const auto& target : find_targets(layers, from_peft_json(entry["config"], "config"))) {
      adapted.push_back({target.path(), target.rank, target.alpha});
    }
    EXPECT_EQ(adapted, entry["adapted"]) << entry["config"];
  }
}

}  // namespace
}  // namespace lowrank
