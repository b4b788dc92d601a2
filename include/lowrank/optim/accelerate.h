#pragma once

#include <lowrank/export.h>

#include <cstddef>
#include <memory>

namespace torch::nn {
class Module;
}

namespace lowrank {

/// A handle on what accelerate() did to a model. The acceleration ends with the handle.
class LOWRANK_API Acceleration {
 public:
  Acceleration(Acceleration&&) noexcept;
  Acceleration& operator=(Acceleration&&) noexcept;
  ~Acceleration();

  /// The number of weights that this call to accelerate() accelerated.
  size_t layers() const;
  /// Ends the acceleration: LibTorch computes the whole model again. Must not run at the same time
  /// as a forward pass of the model.
  void end();

  /// Used by accelerate() only.
  struct Impl;
  explicit Acceleration(std::unique_ptr<Impl> impl);

 private:
  std::unique_ptr<Impl> impl_;
};

/// Accelerates the linear layers of a model without an adapter: the kernels that adapted layers use
/// compute their products, forward and backward, in float32 on the CPU. LibTorch computes
/// everything else as before. Weights, gradients and files do not change; results agree with
/// LibTorch's to rounding. A layer that is adapted later stays accelerated while its adapter is
/// off. A weight that is converted or copied loses its acceleration, so call this after
/// module.to().
[[nodiscard]] LOWRANK_API Acceleration accelerate(torch::nn::Module& model);

}  // namespace lowrank
