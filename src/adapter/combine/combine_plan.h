#pragma once

#include <lowrank/adapter/combine.h>

namespace lowrank {

/// The steps of a combining method.
struct CombinePlan {
  enum class On {
    kStack,    // all factors, stacked side by side
    kFactors,  // all A's and all B's, separately
    kProduct,  // Σ wᵢ·ΔWᵢ as a product of stacked factors
    kDense,    // the dense ΔWᵢ
  };
  enum class Pruning { kNone, kMagnitude, kRandom };

  On on = On::kStack;
  Pruning pruning = Pruning::kNone;
  bool elect = false;  // true: TIES's sign election; false: a sum

  bool truncates() const { return on == On::kProduct || on == On::kDense; }
};

CombinePlan combine_plan(CombineMethod method);

}  // namespace lowrank
