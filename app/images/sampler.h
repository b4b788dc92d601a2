#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace lowrank::app {

struct SamplerOptions {
  int64_t batch_size = 10;  // images a batch, at least 1; the last batch of an epoch may be smaller
  uint64_t seed = 0;        // of the order; nothing else is drawn from it or changes it
  bool shuffle = true;      // false: the order of the indices, the same in each epoch
  double replay = 0;        // share of each batch taken from the second set, in [0, 1); 0: none
};

/// Where a sampler stands: the next batch it gives is number `batch` of epoch `epoch`, both from 0.
struct SamplerPosition {
  int64_t epoch = 0;
  int64_t batch = 0;
  bool operator==(const SamplerPosition&) const = default;
};

/// Gives the batches of a training run as tensors of indices, epoch after epoch without end.
///
/// The order of an epoch is a permutation drawn by a generator of its own from (seed, epoch), so it
/// depends neither on LibTorch's global generator nor on what was drawn before: a run that goes on
/// at a stored position sees the batches it would have seen.
///
/// With `replay` each batch also holds indices of a second set: round(batch_size * replay) of
/// them, but at least one of either set (a batch of 10 at 0.5 is 5 and 5, at 0.01 it is 9 and 1;
/// halves are rounded up). First come the indices of the first set, then the others. An epoch is
/// one pass over the first set; the second is drawn without repetition until it is used up, and
/// anew in each epoch. The smaller last batch keeps the mixture, rounded in the same way.
class Sampler {
 public:
  /// `indices` and `replayed`: int64, one dimension, copied to the CPU. Throws ArgumentError for
  /// an option out of its range, no indices, a replay without a second set (or the reverse), and a
  /// replay with batches of one.
  explicit Sampler(const at::Tensor& indices, const SamplerOptions& options = {},
                   const at::Tensor& replayed = {});

  /// The next batch: int64 (B). Moves on by one.
  at::Tensor next();

  int64_t batches_per_epoch() const;
  SamplerPosition position() const { return position_; }
  const SamplerOptions& options() const { return options_; }

  /// Makes `position` the next one. Throws ArgumentError for one that no epoch has.
  void seek(SamplerPosition position);

  /// The position of batch number `step` of the run, from 0.
  SamplerPosition position_of_step(int64_t step) const;

 private:
  int64_t replayed_among(int64_t own) const;
  void load_epoch(int64_t epoch);
  at::Tensor permuted(const at::Tensor& indices, int64_t epoch, int64_t stream) const;

  at::Tensor indices_;
  at::Tensor replayed_;
  SamplerOptions options_;
  int64_t own_per_batch_ = 0;
  SamplerPosition position_;
  int64_t loaded_epoch_ = -1;
  at::Tensor order_;         // of the first set in the loaded epoch
  at::Tensor replay_order_;  // of the second, as many as the epoch needs
};

/// The two parts of a set of indices, each in the order it had.
struct ValidationSplit {
  at::Tensor train;       // int64
  at::Tensor validation;  // int64
};

/// Holds back round(N * share) of `indices` (int64 (N)), at least one and at most N - 1, chosen at
/// random from `seed` alone; a share of 0 holds back nothing. Throws ArgumentError for a share
/// outside of [0, 1), and for fewer than two indices to divide.
ValidationSplit split_validation(const at::Tensor& indices, double share, uint64_t seed);

}  // namespace lowrank::app
