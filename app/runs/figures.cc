#include "app/runs/figures.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <lowrank/linalg/leading_svd.h>
#include <lowrank/linalg/rank_rule.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "app/images/base64.h"
#include "app/images/image_file.h"
#include "app/reports/evaluation_report.h"
#include "app/train/evaluate.h"
#include "app/train/run_figures.h"

namespace lowrank::app {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kKeptValues = 64, kKeptClasses = 64, kKeptImages = 12;
/// Above this many numbers, a weight is not decomposed: that would take longer than short runs do.
constexpr int64_t kLargestWeight = int64_t{1} << 24;

Json spectrum_json(const at::Tensor& values, double energy, int64_t count) {
  const auto largest = values.narrow(0, 0, std::min(kKeptValues, values.size(0)));
  const auto wide = largest.to(at::kCPU, at::kDouble).contiguous();
  const auto* numbers = wide.data_ptr<double>();
  return {{"singular_values", std::vector<double>(numbers, numbers + wide.numel())},
          {"energy", energy},
          {"count", count}};
}

Json weight_spectrum(const at::Tensor& weight) {
  if (weight.dim() < 2 || weight.numel() == 0 || weight.numel() > kLargestWeight) return nullptr;
  const auto w = weight.detach().flatten(1);
  const auto energy = w.to(at::kDouble).square().sum().item<double>();
  if (!std::isfinite(energy)) return nullptr;
  const auto count = std::min(w.size(0), w.size(1));
  return spectrum_json(leading_svd(w, RankRule::at_most(kKeptValues)).s, energy, count);
}

Json update_spectrum(const AdaptedLayer& layer) {
  const auto is_finite = [](const at::Tensor& factor) {
    return std::isfinite(factor.detach().to(at::kDouble).square().sum().item<double>());
  };
  if (!is_finite(layer.a) || !is_finite(layer.b)) return nullptr;
  const auto values = singular_values_of_update(layer);
  if (!values) return nullptr;
  return spectrum_json(*values, values->square().sum().item<double>(), values->size(0));
}

Json model_figures(const Dataset& data, const at::Tensor& outputs) {
  if (data.classes == 0) return to_json(regression_error(outputs, data));
  const auto evaluation = evaluate(outputs, data);
  auto json = to_json(evaluation);
  if (data.classes <= kKeptClasses) json["confusion"] = confusion_json(evaluation);
  return json;
}

/// The examples at which `which` holds, and images of the first of them.
Json examples(const Dataset& data, const at::Tensor& which, const at::Tensor& before,
              const at::Tensor& after) {
  Json images = Json::array();
  const auto indices = which.nonzero().flatten();
  for (int64_t i = 0; data.holds_images() && i < std::min(kKeptImages, indices.size(0)); ++i) {
    const auto at = indices[i].item<int64_t>();
    images.push_back({{"index", at},
                      {"label", class_name(data, data.labels[at].item<int64_t>())},
                      {"before", class_name(data, before[at].item<int64_t>())},
                      {"after", class_name(data, after[at].item<int64_t>())},
                      {"png", base64(png_bytes(data.inputs[at]))}});
  }
  return {{"count", indices.size(0)}, {"images", images}};
}

}  // namespace

Json layer_figures(const Adapter& adapter) {
  const at::NoGradGuard no_grad;
  Json layers = Json::array();
  for (const auto& layer : adapter.layers()) {
    layers.push_back({{"name", layer.name},
                      {"shape", layer.weight.sizes().vec()},
                      {"rank", layer.a.size(0)},
                      {"scaling", layer.scaling},
                      {"weight", weight_spectrum(layer.weight)},
                      {"update", update_spectrum(layer)}});
  }
  return layers;
}

Json evaluation_figures(const Dataset& data, const at::Tensor& off, const at::Tensor& on) {
  Json json = {{"data", data.name}, {"examples", data.size()}};
  if (!data.class_names.empty()) json["class_names"] = data.class_names;
  json["off"] = model_figures(data, off);
  if (!on.defined()) return json;
  json["on"] = model_figures(data, on);
  if (data.classes == 0) return json;
  const auto before = off.argmax(1), after = on.argmax(1);
  const auto was_right = before.eq(data.labels), is_right = after.eq(data.labels);
  json["mended"] = examples(data, was_right.logical_not().logical_and(is_right), before, after);
  json["broken"] = examples(data, was_right.logical_and(is_right.logical_not()), before, after);
  return json;
}

}  // namespace lowrank::app
