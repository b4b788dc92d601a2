#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/adapter/parameter_group.h>
#include <lowrank/export.h>
#include <lowrank/optim/accelerate.h>

#include <cstdint>
#include <filesystem>
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
  double weight_decay = 0;      // decoupled (AdamW), at least 0
};

/// Adam (Kingma & Ba, arXiv 1412.6980, algorithm 1), with the arithmetic of torch.optim.Adam. With
/// a weight decay it is AdamW (Loshchilov & Hutter, arXiv 1711.05101, algorithm 2), with the
/// arithmetic of torch.optim.AdamW. There is no amsgrad. Dense float32 and float64 parameters on
/// the CPU are updated in one pass over their memory, in which denormal numbers count as zero. All
/// other parameters are updated with LibTorch's operators.
class LOWRANK_API Adam {
 public:
  /// What the optimizer keeps for one parameter. Both tensors have the parameter's shape and dtype
  /// and start at zero.
  struct Moments {
    int64_t steps = 0;      // number of steps in which the parameter had a gradient
    at::Tensor exp_avg;     // mean of the gradients
    at::Tensor exp_avg_sq;  // mean of their squares
  };

  /// Throws ArgumentError for an option that is out of range, if there are no parameters, and if
  /// none of them requires or has a gradient. (While a model has an adapter, its own parameters are
  /// frozen: give those of Adapter::parameters().)
  explicit Adam(std::vector<at::Tensor> parameters, const AdamOptions& options = {});
  /// Trains each group at its own learning rate. options().learning_rate is the rate of the first
  /// group; when it is changed, the other groups keep their ratio to it. Throws as the constructor
  /// above does, and also for a group whose rate is out of range.
  explicit Adam(const std::vector<ParameterGroup>& groups, const AdamOptions& options = {});

  AdamOptions& options() { return options_; }

  /// Drops all gradients (.grad becomes undefined), so that the next backward pass need not add to
  /// zeros.
  void zero_grad();

  /// Updates each parameter that has a gradient. Throws TensorError, before any parameter is
  /// updated or any gradient is dropped, for a sparse gradient; for a parameter whose shape, dtype
  /// or device has changed since the optimizer was made, or differs from that of its gradient
  /// (after module.to() or set_data()); and if the tensors of a gradient that accelerate(model,
  /// optimizer) left as a product have been changed.
  void step();

  /// Forms the gradients that accelerate(model, optimizer) left as products, so that .grad of each
  /// parameter is what it would be otherwise, for example to clip it or to look at it. step() then
  /// reads the gradients from .grad.
  void form_gradients();

  /// The moments, in the order of the parameters, for checkpoints.
  const std::vector<Moments>& moments() const { return moments_; }
  /// Continues from these moments. Throws TensorError if their shapes or dtypes are not those of
  /// the parameters.
  void restore(const std::vector<Moments>& moments);

  /// Writes the moments to a safetensors file, atomically: "exp_avg.0", "exp_avg_sq.0" and so on,
  /// in the order of the parameters. The options are not in it. Throws FileError if it cannot.
  void save(const std::filesystem::path& path) const;
  /// Continues from the moments in a file that save() wrote. Throws FileError, before anything
  /// changes, if the file is damaged or holds the moments of other parameters.
  void load(const std::filesystem::path& path);

 private:
  friend Acceleration accelerate(torch::nn::Module& model, Adam& optimizer);

  std::vector<at::Tensor> parameters_;
  std::vector<std::shared_ptr<effective::DeferredGradient>> deferred_;  // null: only .grad is used
  std::vector<Moments> moments_;
  std::vector<double> ratios_;  // each parameter's rate over options_.learning_rate
  AdamOptions options_;
};

/// Does what accelerate(model) does. In addition, for the weights that `optimizer` trains, the
/// backward pass keeps dy and x instead of computing the gradient dyᵀ·x. step() forms the product
/// while it goes over the weight, so that these gradients are never written to memory. The steps
/// are bit for bit those of accelerate(model) if one backward pass precedes each.
///
/// Until form_gradients() is called, `.grad` of these weights is undefined, hooks on them are not
/// called, and torch::autograd::grad() does not find them. If a layer gets a second gradient before
/// the step, that one goes to `.grad` as usual. The tensors dy and x of a product must not change
/// until the step, which otherwise throws TensorError. All of this ends with the Acceleration or
/// the optimizer, whichever ends first.
[[nodiscard]] LOWRANK_API Acceleration accelerate(torch::nn::Module& model, Adam& optimizer);

}  // namespace lowrank
