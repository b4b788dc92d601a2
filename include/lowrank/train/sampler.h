#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/export.h>

#include <cstdint>

namespace lowrank {

struct SamplerOptions {
  int64_t batch_size = 10;  // at least 1; the last batch of an epoch may be smaller
  uint64_t seed = 0;        // seed of the order; used for nothing else
  bool shuffle = true;      // false: every epoch has the order of the indices
  double replay = 0;        // share of each batch taken from the second set, in [0, 1); 0: none
};

/// A sampler's position: the next batch is number `batch` of epoch `epoch`, both counted from 0.
struct SamplerPosition {
  int64_t epoch = 0;
  int64_t batch = 0;
  bool operator==(const SamplerPosition&) const = default;
};

/// Gives the batches of a training run as tensors of indices, one epoch after another without end.
///
/// The order of an epoch is a permutation drawn by a separate generator that is seeded with (seed,
/// epoch). It depends neither on LibTorch's global generator nor on what was drawn before, so a run
/// that is resumed at a stored position sees the same batches as an uninterrupted run.
///
/// With `replay`, each batch also holds indices of a second set: round(batch_size * replay) of
/// them, but at least one index of each set (a batch of 10 at 0.5 is 5 and 5, at 0.01 it is 9 and
/// 1; halves are rounded up). The indices of the first set come first. An epoch is one pass over
/// the first set. The second set is drawn without repetition until it is used up, and drawn anew in
/// each epoch. A smaller last batch keeps the mixture, rounded in the same way.
class LOWRANK_API Sampler {
 public:
  /// `indices` and `replayed` are int64 of one dimension, and are copied to the CPU. Throws
  /// ArgumentError for an option out of range, for no indices, for a replay share without a second
  /// set (or the reverse), and for a replay share with batches of one.
  explicit Sampler(const at::Tensor& indices, const SamplerOptions& options = {},
                   const at::Tensor& replayed = {});

  /// Returns the next batch, int64 (B), and moves on by one.
  at::Tensor next();

  int64_t batches_per_epoch() const;
  SamplerPosition position() const { return position_; }
  const SamplerOptions& options() const { return options_; }

  /// Makes the batch at `position` the next one. Throws ArgumentError if no epoch has it.
  void seek(SamplerPosition position);

  /// Returns the position of batch number `step` of the run, counted from 0.
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
  at::Tensor replay_order_;  // of the second set, as many indices as the epoch needs
};

/// The two parts of a set of indices, each in its original order.
struct ValidationSplit {
  at::Tensor train;       // int64
  at::Tensor validation;  // int64
};

/// Holds back round(N * share) of `indices` (int64 (N)), at least one and at most N - 1. The choice
/// is random and depends only on `seed`. A share of 0 holds back nothing. Throws ArgumentError for
/// a share outside of [0, 1), and for fewer than two indices.
LOWRANK_API ValidationSplit split_validation(const at::Tensor& indices, double share,
                                             uint64_t seed);

}  // namespace lowrank
