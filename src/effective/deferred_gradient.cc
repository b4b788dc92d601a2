#include "effective/deferred_gradient.h"

#include <lowrank/error.h>

namespace lowrank::effective {

bool DeferredGradient::offer(const GradientProduct& product) {
  const std::scoped_lock lock(mutex_);
  if (product_) return false;
  product_ = product;
  version_of_dy_ = product.dy._version();
  version_of_x_ = product.x._version();
  return true;
}

std::optional<GradientProduct> DeferredGradient::held() const {
  const std::scoped_lock lock(mutex_);
  if (product_ &&
      (product_->dy._version() != version_of_dy_ || product_->x._version() != version_of_x_)) {
    fail<TensorError>(
        "optimizer", "the tensors that a gradient is computed from must not change before the step",
        "one that was changed in place after the backward pass",
        "Write new inputs after the step, or into another tensor; zero_grad() drops "
        "this gradient.");
  }
  return product_;
}

void DeferredGradient::drop() {
  const std::scoped_lock lock(mutex_);
  product_.reset();
}

}  // namespace lowrank::effective
