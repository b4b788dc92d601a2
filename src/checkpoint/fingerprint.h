#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/checkpoint/checkpoint.h>

#include <string>
#include <vector>

namespace lowrank {

/// The SHA-256 of a model's tensors with their names, dtypes and shapes, in any order; what
/// base_fingerprint() returns.
class Fingerprint {
 public:
  void add(const std::string& name, const at::Tensor& tensor);
  std::string hex() const;

 private:
  std::vector<std::string> lines_;
};

/// Returns that of all tensors of a checkpoint, whose numbers are read on all threads. A model with
/// the same parameters and buffers has the same.
std::string fingerprint_of(const Checkpoint& checkpoint);

}  // namespace lowrank
