#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace lowrank::init {

/// The principal components of a layer's inputs, computed batch by batch, for EVA (eva.h): the
/// incremental PCA of Ross et al. (IJCV 2008) as in PEFT's utils/incremental_pca.py, in float64. No
/// (in, in) matrix is formed: the components so far, times their singular values, stand for the
/// earlier batches. Twice the wanted number of components is kept, so that the wanted ones are near
/// the exact ones. Batches of any size count; PEFT skips those with fewer rows than components. A
/// batch with more than 512 rows and columns is decomposed by randomized_svd() with a fixed seed,
/// as PEFT does for all batches. Nothing is drawn from LibTorch's default generator.
class EvaSketch {
 public:
  /// Finds up to `wanted` components (eva_components() says how many). Throws ArgumentError if
  /// `wanted` is below 1.
  explicit EvaSketch(int64_t wanted);

  /// Adds a batch `x` (..., in); an empty one changes nothing. Throws TensorError for a batch that
  /// is not finite, or has another `in` than those before.
  void add(const at::Tensor& x);

  int64_t samples() const { return samples_; }
  /// The number of components that there are: `wanted`, or less if fewer rows were added or `in` is
  /// smaller.
  int64_t available() const;

  /// Returns the first `rank` components (rank, in) in float64: orthonormal rows in the order of
  /// decreasing variance, each with its largest entry positive. Throws ArgumentError for more than
  /// available().
  at::Tensor components(int64_t rank) const;
  /// (available), float64: the singular values of the centred inputs, descending.
  at::Tensor singular_values() const;
  /// (available), float64: the fraction of the inputs' variance along each component; 0 if the
  /// inputs have no variance.
  at::Tensor explained_variance_ratios() const;

  /// Returns whether the last batch left each of the first `rank` components within a cosine of
  /// `tau` (PEFT's default is 0.99) of its previous direction; false before the second batch.
  bool converged(int64_t rank, double tau) const;

 private:
  int64_t wanted_;
  int64_t samples_ = 0;
  double variance_ = 0;    // Σ of the squared deviations from the mean
  at::Tensor mean_;        // (in)
  at::Tensor singular_;    // (kept)
  at::Tensor components_;  // (kept, in)
  at::Tensor previous_;    // the components before the last batch
};

}  // namespace lowrank::init
