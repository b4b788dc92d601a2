#include "app/runs/adapter_checks.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <lowrank/io/sha256.h>
#include <torch/nn/module.h>

namespace lowrank::app {
namespace {

/// Returns the largest ‖found − expected‖ / ‖expected‖ that rounding explains for the dtype.
double tolerance(at::ScalarType dtype) { return dtype == at::kDouble ? 1e-13 : 1e-5; }

double relative_difference(const at::Tensor& found, const at::Tensor& expected) {
  const auto reference = expected.to(at::kDouble);
  const double norm = reference.norm().item<double>();
  const double difference = (found.to(at::kDouble) - reference).norm().item<double>();
  return norm > 0 ? difference / norm : difference;
}

/// Forms W + s·B·A in float64, from the stored numbers alone.
at::Tensor exact_weight(const AdaptedLayer& layer) {
  const auto w = layer.weight.to(at::kDouble);
  const auto b = layer.b.detach().to(at::kDouble);
  const auto a = layer.a.detach().to(at::kDouble);
  return w + layer.scaling * b.mm(a);
}

Check unchanged_base(const Checked& checked) {
  const auto now = parameter_sums(*checked.base_model.model.mlp());
  size_t same = 0;
  for (const auto& [name, sum] : checked.sums_before) same += now.at(name) == sum ? 1 : 0;
  return {"base_unchanged", same == now.size() && same == checked.sums_before.size(),
          "training did not change the base",
          fmt::format("{} of {} tensors have the SHA-256 they had before", same, now.size())};
}

Check only_factors_have_gradients(const Checked& checked) {
  size_t base = 0;
  for (const auto& parameter : checked.base_model.model.mlp()->parameters()) {
    if (parameter.grad().defined() || parameter.requires_grad()) ++base;
  }
  const auto factors = checked.adapter.parameters();
  size_t with = 0;
  for (const auto& factor : factors) {
    if (factor.grad().defined() && factor.grad().ne(0).any().item<bool>()) ++with;
  }
  return {"only_lora_gradients", base == 0 && with == factors.size(),
          "only the adapter was trained",
          fmt::format("{} of {} factors and {} base tensors have gradients", with, factors.size(),
                      base)};
}

/// Passes an identity matrix through each layer's weight, which gives what the layer multiplies by.
Check identity_matrix(const Checked& checked) {
  double worst = 0;
  size_t exact = 0;
  const auto layers = checked.adapter.layers();
  const auto parameters = checked.base_model.model.mlp()->named_parameters();
  for (const auto& layer : layers) {
    const auto eye = at::eye(layer.weight.size(1), layer.weight.options());
    const auto& adapted = parameters[layer.parameter];
    worst = std::max(worst, relative_difference(at::linear(eye, adapted), exact_weight(layer).t()));
    const DisableAdapter off(checked.adapter);
    if (at::equal(at::linear(eye, adapted), layer.weight.t())) ++exact;
  }
  const double most = tolerance(checked.resources.dtype);
  return {
      "identity_gives_effective_weight", worst <= most && exact == layers.size(),
      "each layer multiplies by W + alpha/r B A, and by W alone when LoRA is off",
      fmt::format("within {:.1e} of (W + alpha/r B A)ᵀ in float64 (at most {:.0e}); Wᵀ bit for bit "
                  "when off, in {} of {} layers",
                  worst, most, exact, layers.size())};
}

Check dense_model(const Checked& checked) {
  auto dense = load_base(checked.base_folder, checked.resources);
  auto parameters = dense.model.mlp()->named_parameters();
  for (const auto& layer : checked.adapter.layers()) {
    parameters[layer.parameter].copy_(exact_weight(layer));
  }
  const double difference =
      relative_difference(checked.on, outputs_of(dense, *checked.data, checked.resources));
  const double most = tolerance(checked.resources.dtype);
  return {"equals_dense_model", difference <= most,
          "an ordinary network with those weights answers the same",
          fmt::format("logits within {:.1e} of a dense model of those weights (at most {:.0e})",
                      difference, most)};
}

Check off_is_base(const Checked& checked) {
  return {
      "off_is_base", at::equal(checked.off, checked.base), "switched off, the network is its base",
      fmt::format("{} logits bit-identical", checked.off.eq(checked.base).sum().item<int64_t>())};
}

Check reloaded(const Checked& checked) {
  auto fresh = load_base(checked.base_folder, checked.resources);
  const auto loaded = fresh.model.load_adapter(checked.adapter_folder);
  const auto logits = outputs_of(fresh, *checked.data, checked.resources);
  return {"reloaded_is_same", at::equal(logits, checked.on) && loaded.report.base_matches(),
          "saved and read again, the adapter is the same",
          fmt::format("{} logits bit-identical with base and adapter read from disk",
                      logits.eq(checked.on).sum().item<int64_t>())};
}

/// Merging rounds W + s·B·A to W's dtype, so outputs agree within a tolerance, and predictions
/// wherever the two largest logits differ by more than that.
Check merged(Checked& checked) {
  checked.adapter.merge();
  const auto logits = outputs_of(checked.base_model, *checked.data, checked.resources);
  checked.adapter.unmerge();
  const double difference = relative_difference(logits, checked.on);
  const double most = tolerance(checked.resources.dtype);
  const auto top = std::get<0>(checked.on.topk(2, 1));
  const auto clear = (top.select(1, 0) - top.select(1, 1)).gt(most * top.abs().max());
  const auto equal = logits.argmax(1).eq(checked.on.argmax(1));
  const auto clear_count = clear.sum().item<int64_t>();
  const auto unclear = equal.numel() - clear_count;
  const auto agreed = clear.logical_and(equal).sum().item<int64_t>();
  return {"merged_agrees", difference <= most && agreed == clear_count,
          "merged into the weights, it answers the same",
          fmt::format("logits within {:.1e} (at most {:.0e}); the same prediction for {} of {} "
                      "images{}",
                      difference, most, agreed, clear_count,
                      unclear > 0 ? fmt::format(" ({} more are too close to call)", unclear) : "")};
}

}  // namespace

std::map<std::string, std::string> parameter_sums(const torch::nn::Module& model) {
  std::map<std::string, std::string> sums;
  for (const auto& item : model.named_parameters()) sums[item.key()] = sha256_hex(item.value());
  return sums;
}

std::vector<Check> check_adapter(Checked& checked) {
  const at::NoGradGuard no_grad;
  std::vector<Check> checks = {unchanged_base(checked),  only_factors_have_gradients(checked),
                               identity_matrix(checked), dense_model(checked),
                               off_is_base(checked),     reloaded(checked),
                               merged(checked)};
  checks.push_back(unchanged_base(checked));
  checks.back().name = "base_restored_after_unmerge";
  checks.back().meaning = "taken out of the weights again, it leaves the base";
  return checks;
}

}  // namespace lowrank::app
