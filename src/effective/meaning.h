#pragma once

#include <ATen/core/Tensor.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

/// What an adapted tensor means beside what its storage holds: tensors in, tensors out.
namespace lowrank::effective {

class Switchboard;

/// How a weight W lies in memory beside the matrix M (out, in) that factors are made for.
enum class Form {
  kMatrix,      ///< W (out, in): M itself
  kTransposed,  ///< W (in, out): M is its transpose (transformers' Conv1D)
  kConv,        ///< W (out, in / groups, kernel...)
  kEmbedding,   ///< W (entries, width): M (width, entries); read by aten::embedding alone
  kExperts,     ///< W (experts, out, in): one M each; A (rank·experts, in), B (out, rank·experts)
  kTransposedExperts,  ///< W (experts, in, out): the same with each M transposed
  kOther,  ///< W (out, ...) of any other layer, or a tensor that is only replaced; read by all
};

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
  Form form = Form::kMatrix;
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
/// With DoRA each term contributes (m / ‖V‖) V - W with V = W + low_rank_delta, the norm of a row
/// of M held constant (arXiv 2402.09353, section 4.3). Throws TensorError, naming the site, for the
/// factors of a grouped convolution, which no dense weight can express.
at::Tensor dense(const at::Tensor& weight, const Site& site, const Meaning& meaning);

/// ‖V‖ of each row of M, (out), without a history.
at::Tensor row_norms(const at::Tensor& weight, const Site& site, const Term& term);

/// m / ‖V‖ of a DoRA term, (out), without the norm's history.
at::Tensor magnitude_over_norm(const at::Tensor& weight, const Site& site, const Term& term);

/// `factor` on the device of `other`.
at::Tensor on_device_of(const at::Tensor& factor, const at::Tensor& other);

}  // namespace lowrank::effective
