#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/adapter/parameter_group.h>
#include <lowrank/export.h>
#include <lowrank/optim/accelerate.h>

#include <cstdint>
#include <memory>
#include <vector>

namespace lowrank {

namespace effective {
class DeferredGradient;
}

struct AdamOptions {
  double learning_rate = 1e-3;  // above 0; may be changed between steps
  double beta1 = 0.9;           // decay of the mean of the gradients, in [0, 1)
  double beta2 = 0.999;         // decay of the mean of their squares, in [0, 1)
  double epsilon = 1e-8;        // added to the denominator, at least 0
};

/// Adam (Kingma & Ba, arXiv 1412.6980, algorithm 1) with the arithmetic of torch.optim.Adam, in one
/// pass over the memory of dense float32 and float64 parameters on the CPU, where numbers too small
/// to be normal count as zero. Any other parameter takes LibTorch's operators.
class LOWRANK_API Adam {
 public:
  /// What the optimizer keeps for one parameter, in its shape and dtype, zero at first.
  struct Moments {
    int64_t steps = 0;      // that it had a gradient in
    at::Tensor exp_avg;     // mean of the gradients
    at::Tensor exp_avg_sq;  // mean of their squares
  };

  /// Throws ArgumentError for an option out of its range, and for no parameters.
  explicit Adam(std::vector<at::Tensor> parameters, const AdamOptions& options = {});
  /// Each group at its own rate: options().learning_rate is the first one's, and as it changes the
  /// others keep their ratio to it. Throws as above, also for a group's rate.
  explicit Adam(const std::vector<ParameterGroup>& groups, const AdamOptions& options = {});

  AdamOptions& options() { return options_; }

  /// Drops all gradients, so that the next backward pass need not add to zeros.
  void zero_grad();

  /// Moves each parameter that has a gradient. Throws TensorError, before anything is moved or any
  /// gradient is dropped, for a sparse gradient, for a parameter that has another shape, dtype or
  /// device than when the optimizer was made or than its gradient (module.to(), set_data()), and
  /// where accelerate(model, optimizer) left a gradient that was changed since.
  void step();

  /// Forms the gradients that accelerate(model, optimizer) left as products, so that .grad of each
  /// parameter is what it is without: to clip or to look at. step() then reads them from there.
  void form_gradients();

  /// For checkpoints: the moments, in the order of the parameters.
  const std::vector<Moments>& moments() const { return moments_; }
  /// Goes on from there. Throws TensorError for moments of other shapes or dtypes.
  void restore(const std::vector<Moments>& moments);

 private:
  friend Acceleration accelerate(torch::nn::Module& model, Adam& optimizer);

  std::vector<at::Tensor> parameters_;
  std::vector<std::shared_ptr<effective::DeferredGradient>> deferred_;  // null: .grad alone
  std::vector<Moments> moments_;
  std::vector<double> ratios_;  // of each parameter's rate to options_.learning_rate
  AdamOptions options_;
};

/// What accelerate(model) does, and the backward pass leaves the gradients of those layers' weights
/// that `optimizer` moves as products dyᵀ·x, which step() forms as it goes over the weights: they
/// are never written to memory. The steps are bit for bit those of accelerate(model) where one
/// backward pass precedes each. Until form_gradients() `.grad` of these weights is undefined,
/// hooks on them are not called, and torch::autograd::grad() does not find them; a layer's second
/// gradient before a step goes to `.grad` as usual. What a product is made of must stay as it is
/// until the step, which throws TensorError otherwise. Ends with the first of the Acceleration and
/// the optimizer.
[[nodiscard]] LOWRANK_API Acceleration accelerate(torch::nn::Module& model, Adam& optimizer);

}  // namespace lowrank
