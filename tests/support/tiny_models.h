#pragma once

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <lowrank/adapter/adapter.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "app/models/model_folder.h"

namespace lowrank {

/// Writes an untrained model for images of 4 x 4 pixels and returns its folder.
inline std::string save_tiny_base(const std::filesystem::path& folder, uint64_t seed = 0,
                                  const std::vector<int64_t>& sizes = {16, 8, 10}) {
  at::manual_seed(seed);
  app::save_mlp({app::Mlp(app::MlpOptions{.sizes = sizes}), {}}, folder);
  return folder.string();
}

/// Writes an adapter for the model in `base` and returns its folder. The factors change the model's
/// outputs, unless `zero_b` is set.
inline std::string save_tiny_adapter(const std::filesystem::path& base,
                                     const std::filesystem::path& folder, bool zero_b = false) {
  auto classifier = app::load_mlp(base);
  at::manual_seed(7);
  const auto adapter = attach(*classifier.model, {.rank = 2, .alpha = 4});
  const at::NoGradGuard no_grad;
  for (const auto& layer : adapter.layers()) {
    if (!zero_b) layer.b.normal_();
  }
  adapter.save(folder, {.base_model = base.string()});
  return folder.string();
}

}  // namespace lowrank
