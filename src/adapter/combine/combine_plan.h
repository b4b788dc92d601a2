#pragma once

#include <lowrank/adapter/combine.h>

namespace lowrank {

/// What a method of combining is made of.
struct CombinePlan {
  enum class On {
    kStack,    // the factors side by side
    kFactors,  // all A's and all B's by themselves
    kProduct,  // Σ wᵢ·ΔWᵢ as a product of stacked factors
    kDense,    // the ΔWᵢ themselves
  };
  enum class Pruning { kNone, kMagnitude, kRandom };

  On on = On::kStack;
  Pruning pruning = Pruning::kNone;
  bool elect = false;  // TIES's sign election; false: a sum

  bool truncates() const { return on == On::kProduct || on == On::kDense; }
};

CombinePlan combine_plan(CombineMethod method);

}  // namespace lowrank
