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

/// What a run over representative data has collected for one layer. The config's init decides which
/// of these is set; none is for an embedding, or for an init that needs no data.
struct LayerData {
  std::optional<init::EvaSketch> inputs;
  std::optional<init::CordaCovariance> covariance;
  at::Tensor gradient;  // of the loss with respect to the weight, in its shape
};

struct InitialFactors {
  at::Tensor a;        // (rank, in...)
  at::Tensor b;        // (out, rank...)
  at::Tensor bias;     // (out), zero; undefined without lora_bias
  at::Tensor minus_a;  // subtracted from the base, so that an adapted model starts as its base;
  at::Tensor minus_b;  // undefined if B·A starts at zero
};

/// Returns whether this init subtracts factors from the base that come from data. No file holds
/// these factors.
bool subtracts_data_factors(LoraInit init);

/// Makes the initial factors of one weight. Random numbers come from LibTorch's default CPU
/// generator, so that a seed gives the same factors on every device, and those of PEFT for PEFT's
/// initialisations. The factors are float64 if the weight is, otherwise float32. Throws
/// ArgumentError and TensorError that name the layer.
InitialFactors initial_factors(const Target& target, const LoraConfig& config, LayerData data);

/// Returns what `make` returns. If it throws ArgumentError or TensorError, the path of the layer is
/// added to the message.
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
