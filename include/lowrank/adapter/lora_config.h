#pragma once

#include <lowrank/export.h>

#include <cstdint>
#include <string>
#include <vector>

namespace lowrank {

/// How the factors start. B always starts at zero, so that an adapter starts as the base.
enum class LoraInit {
  kKaimingUniform,  ///< A ~ U(-1/√in, 1/√in): PEFT's default, with PEFT's own draws for one seed
  kNormal,          ///< A ~ N(0, 1): the LoRA notebook's
};

/// What is attached to which layers (Hu et al., "LoRA", arXiv 2106.09685, section 4.1).
struct LoraConfig {
  /// r, the number of rows of A and columns of B; at least 1. Above min(in, out) it brings nothing.
  int64_t rank = 8;
  /// Scales the update: scaling = alpha / rank. Finite and not 0.
  double alpha = 8;
  /// Names of layers: a dotted path, or its last components ("attention.query" matches
  /// "layer.0.attention.query"); or the one word "all-linear", every Linear layer.
  std::vector<std::string> target_modules = {"all-linear"};
  LoraInit init = LoraInit::kKaimingUniform;
  /// scaling = alpha / √rank instead (Kalajdzievski, "rsLoRA", arXiv 2312.03732).
  bool use_rslora = false;

  /// alpha / rank, or alpha / √rank with rsLoRA.
  LOWRANK_API double scaling() const;
};

/// Throws ArgumentError for a rank below 1, and for an alpha that is 0 or not finite.
LOWRANK_API void check(const LoraConfig& config);

}  // namespace lowrank
