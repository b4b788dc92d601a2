#pragma once

#include <ATen/core/Tensor.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "effective/layer_kind.h"

/// What an adapted tensor means beside what its storage holds: tensors in, tensors out.
namespace lowrank::effective {

class Switchboard;

/// One adapter's part in one weight: scaling · (B·A - B₀·A₀).
struct Term {
  at::Tensor a = {};  ///< (rank, in...)
  at::Tensor b = {};  ///< (out, rank...); of a vector: what is added, (out), with no `a`
  at::Tensor minus_a =
      {};  ///< A₀, B₀: taken off the base by PiSSA and its like; undefined elsewhere
  at::Tensor minus_b = {};
  at::Tensor magnitude = {};  ///< (out), DoRA's m; undefined elsewhere
  double scaling = 1;
  double dropout = 0;  ///< of the input of A, in training
};

/// What one tensor means under a selection of adapters.
struct Meaning {
  std::vector<Term> terms;
  at::Tensor replacement;  ///< stands in for the tensor itself; undefined: nothing does
  at::Tensor rows;         ///< int64: the replacement is for these rows alone; undefined: for all
  /// Of a linear layer's weight that means its base: is shown the input (..., in) of each product
  /// with it, and must not throw. Empty: nobody watches.
  std::function<void(const at::Tensor& x)> observe;

  bool is_base() const { return terms.empty() && !replacement.defined(); }
};

/// An adapted tensor's place in its model; shared by the tensor, its views and its copies. What
/// each operator reads comes first, in one line of the cache.
struct Site {
  LayerKind kind = LayerKind::kLinear;
  size_t index = 0;                                ///< in Selection::meanings
  std::shared_ptr<Switchboard> board;              ///< which adapters are on
  std::string path;                                ///< "encoder.query", for messages
  int64_t groups = 1;                              ///< of a convolution
  std::function<bool()> is_training;               ///< empty: never
  mutable std::atomic<int64_t> factored_reads{0};  ///< operators answered by the factors
  mutable std::atomic<int64_t> dense_reads{0};     ///< operators given a dense weight

  bool trains() const { return is_training && is_training(); }
};

/// scaling · (B·A - B₀·A₀) in the weight's own shape, in the factors' dtype.
at::Tensor low_rank_delta(const Term& term, const Site& site, at::IntArrayRef shape);

/// What `weight` (unmarked) means as a dense tensor, under autograd, in its own dtype and device.
/// A DoRA term adds dora_weight() - W, any other low_rank_delta(). Throws TensorError, naming the
/// site, for the factors of a grouped convolution, which no dense weight can express.
at::Tensor effective_weight(const at::Tensor& weight, const Site& site, const Meaning& meaning);

/// `factor` on the device of `other`.
at::Tensor on_device_of(const at::Tensor& factor, const at::Tensor& other);

}  // namespace lowrank::effective
