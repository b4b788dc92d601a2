#pragma once

#include <ATen/core/Tensor.h>
#include <fmt/format.h>
#include <lowrank/adapter/lora_config.h>
#include <lowrank/error.h>

#include <optional>
#include <string>

#include "adapter/init/corda.h"
#include "adapter/init/eva_sketch.h"
#include "adapter/targets/targets.h"

namespace lowrank {

/// What a run over representative data has shown of one layer: one of these, as the config's init
/// asks for; none for an embedding, and for other initialisations.
struct LayerData {
  std::optional<init::EvaSketch> inputs;
  std::optional<init::CordaCovariance> covariance;
  at::Tensor gradient;  // of the loss by the weight, in its shape
};

struct InitialFactors {
  at::Tensor a;        // (rank, in...)
  at::Tensor b;        // (out, rank...)
  at::Tensor bias;     // (out), zero, where the config has lora_bias
  at::Tensor minus_a;  // what is taken off the base, so that an adapted model starts as its base;
  at::Tensor minus_b;  // undefined where B·A starts at zero
};

/// Whether what is taken off the base comes from data, which no file holds.
bool comes_from_data(LoraInit init);

/// Draws the factors for one weight from LibTorch's default CPU generator, so that a seed gives the
/// same factors on every device and PEFT's for its own initialisations; float64 where the weight
/// is, else float32. Throws ArgumentError and TensorError that name the layer.
InitialFactors initial_factors(const Target& target, const LoraConfig& config, LayerData data);

/// Gives what `make` gives; its ArgumentErrors and TensorErrors also say where they happened.
template <class F>
auto at_layer(const std::string& path, const F& make) {
  const auto at = [&](const Error& error) {
    return fmt::format("{} (At the layer \"{}\".)", error.what(), path);
  };
  try {
    return make();
  } catch (const ArgumentError& error) {
    throw ArgumentError(at(error));
  } catch (const TensorError& error) {
    throw TensorError(at(error));
  }
}

}  // namespace lowrank
