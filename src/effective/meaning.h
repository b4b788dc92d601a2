#pragma once

#include <ATen/core/Tensor.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "effective/layer_kind.h"

/// The meaning of an adapted tensor, as opposed to what its storage holds.
namespace lowrank::effective {

class Switchboard;

/// One adapter's part in one weight: scaling · (B·A - B₀·A₀).
struct Term {
  at::Tensor a = {};        ///< (rank, in...)
  at::Tensor b = {};        ///< (out, rank...); of a vector: the added values (out), without an `a`
  at::Tensor minus_a = {};  ///< A₀, if PiSSA or the like subtracts B₀·A₀; else undefined
  at::Tensor minus_b = {};  ///< B₀, likewise
  at::Tensor magnitude = {};  ///< (out), DoRA's m; undefined without DoRA
  double scaling = 1;
  double dropout = 0;  ///< probability, applied to the input of A in training
};

/// What one tensor means under a selection of adapters.
struct Meaning {
  std::vector<Term> terms;
  at::Tensor replacement;  ///< used in place of the tensor; undefined if there is none
  at::Tensor rows;         ///< int64, the only rows that are replaced; undefined: all of them
  /// If set, called with the input (..., in) of each product with a linear layer's weight, while
  /// the weight means its base. Must not throw.
  std::function<void(const at::Tensor& x)> observe;

  bool is_base() const { return terms.empty() && !replacement.defined(); }
};

/// An adapted tensor's place in its model; shared by the tensor, its views and its copies. The
/// fields that every operator reads come first, in one cache line.
struct Site {
  LayerKind kind = LayerKind::kLinear;
  size_t index = 0;                                ///< index into Selection::meanings
  std::shared_ptr<Switchboard> board;              ///< which adapters are on
  std::string path;                                ///< "encoder.query", for messages
  bool is_statistic = false;                       ///< a running_mean and the like, not a weight
  int64_t groups = 1;                              ///< groups of a convolution
  std::function<bool()> is_training;               ///< empty: never in training
  mutable std::atomic<int64_t> factored_reads{0};  ///< operators computed in factored form
  mutable std::atomic<int64_t> dense_reads{0};     ///< operators given the dense weight

  bool trains() const { return is_training && is_training(); }
};

/// scaling · (B·A - B₀·A₀) in the weight's own shape, in the factors' dtype.
at::Tensor low_rank_delta(const Term& term, const Site& site, at::IntArrayRef shape);

/// The effective weight of `weight` (which has no mark) as a dense tensor, under autograd, in its
/// own dtype and on its own device. A DoRA term adds dora_weight() - W, any other term
/// low_rank_delta(). Throws TensorError, naming the site, for the factors of a grouped convolution,
/// which no dense weight can express.
at::Tensor effective_weight(const at::Tensor& weight, const Site& site, const Meaning& meaning);

/// `factor` on the device of `other`.
at::Tensor on_device_of(const at::Tensor& factor, const at::Tensor& other);

}  // namespace lowrank::effective
