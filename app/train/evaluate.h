#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "app/images/dataset.h"

namespace lowrank::app {

/// Returns the logits (N, classes) of all images, on the CPU, computed without gradients. The
/// batches have a fixed size, so that the same weights give the same bits.
at::Tensor compute_logits(const std::function<at::Tensor(const at::Tensor&)>& forward,
                          const ImageDataset& data, const Normalization& normalization,
                          at::ScalarType dtype = at::kFloat, at::Device device = at::kCPU);

/// How many images were classified right and wrong.
struct Evaluation {
  int64_t correct = 0;
  int64_t total = 0;
  std::vector<int64_t> wrong_by_class;  ///< wrong predictions among the images of each class
  std::vector<int64_t> total_by_class;
  at::Tensor confusion;  ///< int64 (classes, classes): rows are true classes, columns predictions

  double accuracy() const;
  bool operator==(const Evaluation& other) const;
};

/// Compares the largest logit of each row with the label. Throws TensorError if `logits` is not
/// (N, data.classes).
Evaluation evaluate(const at::Tensor& logits, const ImageDataset& data);

}  // namespace lowrank::app
