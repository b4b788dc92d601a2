#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace lowrank::init {

/// The principal components of a layer's inputs, batch by batch, for EVA (eva.h): the incremental
/// PCA of Ross et al. (IJCV 2008) as in PEFT's utils/incremental_pca.py, in float64. Nothing of
/// (in, in) is formed: the components so far, times their singular values, stand for the batches
/// before. Twice the wanted components are kept, so that those asked for are near the exact ones.
/// Batches of any size count; PEFT skips those with fewer rows than components. A batch with more
/// than 512 rows and columns is decomposed by randomized_svd() with a fixed seed, as PEFT does for
/// all; nothing is drawn from LibTorch's default generator.
class EvaSketch {
 public:
  /// For up to `wanted` components (eva_components() says how many). Throws ArgumentError below 1.
  explicit EvaSketch(int64_t wanted);

  /// Takes a batch `x` (..., in); an empty one changes nothing. Throws TensorError for a batch that
  /// is not finite, or of another `in` than those before.
  void add(const at::Tensor& x);

  int64_t samples() const { return samples_; }
  /// How many components there are, at most `wanted`: less than that where fewer rows were added
  /// or `in` is less.
  int64_t available() const;

  /// The first `rank` components (rank, in), float64: orthonormal rows by falling variance, the
  /// largest entry of each positive. Throws ArgumentError for more than available().
  at::Tensor components(int64_t rank) const;
  /// (available), float64: singular values of the centred inputs, falling.
  at::Tensor singular_values() const;
  /// (available), float64: the share of the inputs' variance along each component; 0 where they
  /// have none.
  at::Tensor explained_variance_ratios() const;

  /// True where the last batch turned none of the first `rank` components further than a cosine of
  /// `tau` (PEFT's default is 0.99); false before the second batch.
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
