#include <fmt/ranges.h>
#include <lowrank/adapter/adapter.h>
#include <lowrank/io/sha256.h>
#include <torch/nn/module.h>

#include <algorithm>

#include "adapter/state.h"

namespace lowrank {

std::string fingerprint_of(const std::vector<BaseParameter>& parameters) {
  std::vector<std::string> lines;
  lines.reserve(parameters.size());
  for (const auto& parameter : parameters) {
    lines.push_back(
        fmt::format("{} {} {} {}\n", parameter.name, c10::toString(parameter.tensor.scalar_type()),
                    fmt::join(parameter.tensor.sizes(), " "), sha256_hex(parameter.tensor)));
  }
  std::sort(lines.begin(), lines.end());
  Sha256 sum;
  for (const auto& line : lines) sum.update(line.data(), line.size());
  return sum.hex();
}

std::string base_fingerprint(const torch::nn::Module& model) {
  std::vector<BaseParameter> parameters;
  for (const auto& item : model.named_parameters()) {
    parameters.push_back({item.key(), item.value(), false});
  }
  return fingerprint_of(parameters);
}

}  // namespace lowrank
