#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/optim/accelerate.h>

#include <functional>
#include <memory>

#include "effective/deferred_gradient.h"

namespace lowrank {

/// Where a weight's gradient may be left as a product; null: nowhere.
using DeferredOf =
    std::function<std::shared_ptr<effective::DeferredGradient>(const at::Tensor& weight)>;

/// accelerate(model), and the gradients of the weights are deferred to these places.
Acceleration accelerate(torch::nn::Module& model, const DeferredOf& deferred_of);

}  // namespace lowrank
