#pragma once

#include <lowrank/export.h>

#include <cstddef>
#include <memory>

namespace torch::nn {
class Module;
}

namespace lowrank {

/// What accelerate() began; ends with it.
class LOWRANK_API Acceleration {
 public:
  Acceleration(Acceleration&&) noexcept;
  Acceleration& operator=(Acceleration&&) noexcept;
  ~Acceleration();

  /// How many weights have lowrank's kernels through this one.
  size_t layers() const;
  /// The model is LibTorch's alone again. Must not run beside a forward of the model.
  void end();

  /// For accelerate() alone.
  struct Impl;
  explicit Acceleration(std::unique_ptr<Impl> impl);

 private:
  std::unique_ptr<Impl> impl_;
};

/// Gives the linear layers of a model without an adapter the kernels that adapters have: products
/// of a few rows, forward and backward, in float32 on the CPU; whatever else they meet is
/// LibTorch's as before. Weights, gradients and files are what they were; results agree with
/// LibTorch's to rounding. Layers that are adapted later keep them where the adapter is off. A
/// weight that is converted or copied leaves its acceleration behind: call it after module.to().
[[nodiscard]] LOWRANK_API Acceleration accelerate(torch::nn::Module& model);

}  // namespace lowrank
