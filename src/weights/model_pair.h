#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/checkpoint/checkpoint.h>

#include <cstdint>
#include <string>
#include <vector>

namespace lowrank {

/// Returns "layers.0.mlp" for "layers.0.mlp.weight"; nothing if the name has no dot.
std::string module_of(const std::string& name);

/// The tensors that differ between two models.
struct ModelChanges {
  std::vector<std::string> layers;  // weights that an update s·B·A can stand for
  std::vector<std::string> others;  // norms, biases, tables of embeddings, heads
  int64_t unchanged = 0;
};

/// Two checkpoints of one model, before and after it was fine-tuned.
class ModelPair {
 public:
  /// Throws FileError that names them if the models have other tensors or shapes; tables may have
  /// more rows afterwards, as where tokens were added. `transposed`: weights are (in, out).
  ModelPair(const Checkpoint& base, const Checkpoint& tuned, bool transposed);

  const Checkpoint& base() const { return base_; }
  const Checkpoint& tuned() const { return tuned_; }

  /// Reads both models. Throws TensorError for a layer's weight that is not finite.
  ModelChanges changes() const;

  /// Returns one of the two weights as a matrix (out, in).
  at::Tensor matrix(const at::Tensor& weight) const;
  /// Returns tuned - base as a matrix (out, in) in float64. With `in_float32` one of more than 2^24
  /// numbers is rounded to float32, which takes half the memory.
  at::Tensor difference(const std::string& name, bool in_float32) const;

 private:
  void require_same_tensors() const;

  Checkpoint base_, tuned_;
  bool transposed_;
};

}  // namespace lowrank
