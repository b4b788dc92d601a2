#pragma once

#include <lowrank/export.h>

#include <string>

/// Options of the initializations that need data. The fields, the names of values and the defaults
/// are those of PEFT's EvaConfig, CordaConfig and LoraGAConfig (tuners/lora/config.py).
namespace lowrank {

/// EVA (Paischer et al., arXiv 2410.07170).
struct EvaConfig {
  /// No layer gets more than rho times its rank. Finite and at least 1; with 1 the ranks stay as
  /// they are.
  double rho = 2;
  /// Divide each component of the inputs by the square root of its singular value.
  bool whiten = false;
  /// If a layer's rank changes, change its alpha in proportion.
  bool adjust_scaling_factors = true;
};

/// Which singular triplets of W·C the adapter gets.
enum class CordaMethod {
  kIpm,  ///< the largest: "instruction-previewed", learns the task of the inputs
  kKpm,  ///< the smallest: "knowledge-preserved", leaves what the inputs need in the base
};

/// CorDA (Yang et al., arXiv 2406.05223).
struct CordaConfig {
  CordaMethod corda_method = CordaMethod::kIpm;
};

/// Which of the gradient's first 2r singular vectors, counted from 0, start the factors: A gets
/// right ones, B left ones.
enum class LoraGaDirection {
  kArBr,    ///< A: 1, 3, ..., 2r - 1; B: 0, 2, ..., 2r - 2
  kA2rBr,   ///< A: r, ..., 2r - 1; B: 0, ..., r - 1
  kArB2r,   ///< A: 0, ..., r - 1; B: r, ..., 2r - 1
  kRandom,  ///< A and B: the same r of them, at random
};

enum class LoraGaScale {
  kStable,     ///< B is multiplied by ⁴√out / √gamma
  kWeightSvd,  ///< B is multiplied by σ₁(W) / σ, where σ goes with B's first column in the
               ///< gradient's SVD
  kGdScale,    ///< A and B are divided by the scaling
  kUnit,       ///< A and B stay as they are
};

/// LoRA-GA (Wang et al., arXiv 2407.05000).
struct LoraGaConfig {
  LoraGaDirection direction = LoraGaDirection::kArB2r;
  LoraGaScale scale = LoraGaScale::kStable;
  double stable_gamma = 16;  ///< for kStable; finite and above 0
};

/// Convert a method to "ipm" or "kpm" and back. For an unknown name all of these throw
/// ArgumentError.
LOWRANK_API const char* corda_method_name(CordaMethod method);
LOWRANK_API CordaMethod corda_method(const std::string& name);

/// Convert a direction to "ArBr", "A2rBr", "ArB2r" or "random" and back.
LOWRANK_API const char* lora_ga_direction_name(LoraGaDirection direction);
LOWRANK_API LoraGaDirection lora_ga_direction(const std::string& name);

/// Convert a scale to "stable", "weight_svd", "gd_scale" or "unit" and back.
LOWRANK_API const char* lora_ga_scale_name(LoraGaScale scale);
LOWRANK_API LoraGaScale lora_ga_scale(const std::string& name);

}  // namespace lowrank
