#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/optim/accelerate.h>

#include <functional>
#include <memory>

#include "effective/deferred_gradient.h"

namespace lowrank {

/// Returns the place where a weight's gradient may be left as a product, or null if there is none.
using DeferredOf =
    std::function<std::shared_ptr<effective::DeferredGradient>(const at::Tensor& weight)>;

/// accelerate(model), with the weights' gradients left at these places.
Acceleration accelerate(torch::nn::Module& model, const DeferredOf& deferred_of);

}  // namespace lowrank
