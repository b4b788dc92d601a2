#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <lowrank/weights/compare.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "linalg/blocks.h"

namespace lowrank {
namespace {

ComparedTensor compare(const std::string& name, const at::Tensor& base, const at::Tensor& tuned) {
  ComparedTensor compared;
  compared.name = name;
  compared.shape = base.sizes().vec();
  const auto one = base.flatten(), other = tuned.flatten();
  double norm = 0, difference = 0;
  for (int64_t begin = 0; begin < one.numel(); begin += kBlockNumbers) {
    const auto size = std::min(kBlockNumbers, one.numel() - begin);
    const auto before = one.narrow(0, begin, size).to(at::kDouble);
    const auto change = other.narrow(0, begin, size).to(at::kDouble).sub(before);
    norm += before.dot(before).item<double>();
    difference += change.dot(change).item<double>();
    compared.largest = std::max(compared.largest, change.abs().max().item<double>());
  }
  compared.norm = std::sqrt(norm);
  compared.difference = std::sqrt(difference);
  return compared;
}

/// Returns the spectrum of the difference of two weights, which is formed block by block.
Spectrum spectrum_of_difference(const std::string& name, const at::Tensor& base,
                                const at::Tensor& tuned) {
  const auto one = base.flatten(), other = tuned.flatten();
  const auto difference = at::empty({one.numel()}, at::kFloat);
  for (int64_t begin = 0; begin < one.numel(); begin += kBlockNumbers) {
    const auto size = std::min(kBlockNumbers, one.numel() - begin);
    const auto before = one.narrow(0, begin, size).to(at::kDouble);
    const auto change = other.narrow(0, begin, size).to(at::kDouble).sub(before);
    difference.narrow(0, begin, size).copy_(change);
  }
  return spectrum(difference.view(base.sizes()).flatten(1), name);
}

bool are_equal_tensors(const at::Tensor& base, const at::Tensor& tuned) {
  return base.scalar_type() == tuned.scalar_type() && at::equal(base, tuned);
}

}  // namespace

double ComparedTensor::relative() const {
  if (difference == 0) return 0;
  return norm == 0 ? std::numeric_limits<double>::infinity() : difference / norm;
}

bool Comparison::are_equal() const {
  return changed.empty() && only_base.empty() && only_tuned.empty() && reshaped.empty();
}

nlohmann::ordered_json to_json(const Comparison& comparison) {
  nlohmann::ordered_json json;
  json["changed"] = nlohmann::ordered_json::array();
  for (const auto& tensor : comparison.changed) {
    json["changed"].push_back({{"name", tensor.name},
                               {"shape", tensor.shape},
                               {"norm", tensor.norm},
                               {"difference", tensor.difference},
                               {"relative", tensor.relative()},
                               {"largest", tensor.largest}});
    if (tensor.spectrum) json["changed"].back()["spectrum"] = to_json(*tensor.spectrum);
  }
  json["equal"] = comparison.equal;
  json["only_base"] = comparison.only_base;
  json["only_tuned"] = comparison.only_tuned;
  json["reshaped"] = comparison.reshaped;
  return json;
}

Comparison compare_checkpoints(const Checkpoint& base, const Checkpoint& tuned,
                               const CompareOptions& options) {
  const at::NoGradGuard no_grad;
  Comparison comparison;
  const auto& names = base.names();
  for (size_t i = 0; i < names.size(); ++i) {
    const auto& name = names[i];
    if (options.on_tensor) {
      options.on_tensor(name, static_cast<int64_t>(i), static_cast<int64_t>(names.size()));
    }
    if (!tuned.contains(name)) {
      comparison.only_base.push_back(name);
      continue;
    }
    if (base.stored(name).shape != tuned.stored(name).shape) {
      comparison.reshaped.push_back(name);
      continue;
    }
    const auto one = base.tensor(name), other = tuned.tensor(name);
    if (are_equal_tensors(one, other)) {
      ++comparison.equal;
    } else {
      auto compared = compare(name, one, other);
      if (compared.largest == 0) {  // another dtype holds the same numbers
        ++comparison.equal;
      } else {
        const bool is_weight = one.dim() >= 2 && one.is_floating_point();
        if (options.spectra && is_weight) {
          compared.spectrum = spectrum_of_difference(name, one, other);
        }
        comparison.changed.push_back(std::move(compared));
      }
    }
  }
  for (const auto& name : tuned.names()) {
    if (!base.contains(name)) comparison.only_tuned.push_back(name);
  }
  return comparison;
}

}  // namespace lowrank
