#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <mutex>
#include <optional>

namespace lowrank::effective {

/// The gradient dyᵀ·x of a weight (out, in) from N rows, not multiplied out.
struct GradientProduct {
  at::Tensor dy;  ///< (N, out)
  at::Tensor x;   ///< (N, in)
};

/// Where the backward pass of an accelerated layer leaves its weight's gradient as a product, for
/// an optimizer that takes it in that form (accelerate(model, optimizer)). Holds at most one
/// product.
class DeferredGradient {
 public:
  /// Returns false, and does nothing, if a product is held already.
  bool offer(const GradientProduct& product);
  /// The product that is held, if any. Throws TensorError if dy or x was changed in place after it
  /// was offered.
  std::optional<GradientProduct> held() const;
  void drop();

 private:
  mutable std::mutex mutex_;
  std::optional<GradientProduct> product_;
  int64_t version_of_dy_ = 0, version_of_x_ = 0;
};

}  // namespace lowrank::effective
