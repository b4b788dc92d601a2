#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <lowrank/error.h>
#include <lowrank/train/sampler.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "support/expect_error.h"

namespace lowrank {
namespace {

at::Tensor sorted(const at::Tensor& values) { return std::get<0>(values.sort()); }

std::vector<at::Tensor> take(Sampler& sampler, int64_t batches) {
  std::vector<at::Tensor> taken;
  for (int64_t i = 0; i < batches; ++i) taken.push_back(sampler.next());
  return taken;
}

TEST(Sampler, GivesEachIndexOnceAnEpoch) {
  const at::Tensor indices = at::arange(100, 123, at::kLong);
  Sampler sampler(indices, {.batch_size = 5, .seed = 3});
  EXPECT_EQ(sampler.batches_per_epoch(), 5);
  at::Tensor before;
  for (int epoch = 0; epoch < 3; ++epoch) {
    const auto batches = take(sampler, 5);
    EXPECT_EQ(batches.back().numel(), 3);
    const at::Tensor order = at::cat(batches);
    EXPECT_TRUE(at::equal(sorted(order), indices));
    EXPECT_FALSE(at::equal(order, indices));
    if (before.defined()) {
      EXPECT_FALSE(at::equal(order, before));
    }
    before = order;
  }
}

TEST(Sampler, DependsOnItsSeedAlone) {
  const at::Tensor indices = at::arange(50, at::kLong);
  at::manual_seed(1);
  Sampler first(indices, {.batch_size = 50, .seed = 7});
  const at::Tensor order = first.next();
  const at::Tensor drawn = at::rand({4});
  at::manual_seed(1);
  EXPECT_TRUE(at::equal(drawn, at::rand({4})));  // nothing was drawn from the global generator
  Sampler second(indices, {.batch_size = 50, .seed = 7});
  EXPECT_TRUE(at::equal(order, second.next()));
  Sampler other(indices, {.batch_size = 50, .seed = 8});
  EXPECT_FALSE(at::equal(order, other.next()));
  Sampler high(indices, {.batch_size = 50, .seed = 7 + (uint64_t{1} << 32)});
  EXPECT_FALSE(at::equal(order, high.next()));  // all 64 bits of the seed count
}

TEST(Sampler, KeepsTheOrderWithoutShuffle) {
  const at::Tensor indices = at::tensor({4, 2, 9}, at::kLong);
  Sampler sampler(indices, {.batch_size = 3, .shuffle = false});
  EXPECT_TRUE(at::equal(sampler.next(), indices));
  EXPECT_TRUE(at::equal(sampler.next(), indices));
}

TEST(Sampler, GoesOnAtAStoredPosition) {
  const at::Tensor own = at::arange(17, at::kLong);
  const at::Tensor others = at::arange(100, 130, at::kLong);
  for (const bool replay : {false, true}) {
    const SamplerOptions options{.batch_size = 4, .seed = 5, .replay = replay ? 0.5 : 0.0};
    const at::Tensor second = replay ? others : at::Tensor();
    Sampler whole(own, options, second);
    const auto batches = take(whole, 30);
    for (const int64_t step : {0, 1, 4, 5, 13, 29}) {
      Sampler resumed(own, options, second);
      resumed.seek(resumed.position_of_step(step));
      for (int64_t i = step; i < 30; ++i) {
        EXPECT_TRUE(at::equal(resumed.next(), batches[static_cast<size_t>(i)]));
      }
      EXPECT_EQ(resumed.position(), whole.position());
    }
  }
}

TEST(Sampler, MixesInTheReplayedSet) {
  const at::Tensor own = at::arange(20, at::kLong);
  const at::Tensor others = at::arange(100, 180, at::kLong);
  Sampler sampler(own, {.batch_size = 10, .seed = 0, .replay = 0.5}, others);
  EXPECT_EQ(sampler.batches_per_epoch(), 4);
  const auto batches = take(sampler, 4);
  std::vector<at::Tensor> seen_own;
  std::vector<at::Tensor> seen_others;
  for (const auto& batch : batches) {
    ASSERT_EQ(batch.numel(), 10);
    seen_own.push_back(batch.narrow(0, 0, 5));
    seen_others.push_back(batch.narrow(0, 5, 5));
  }
  EXPECT_TRUE(at::equal(sorted(at::cat(seen_own)), own));
  const at::Tensor replayed = sorted(at::cat(seen_others));
  EXPECT_TRUE(replayed.ge(100).all().item<bool>());
  EXPECT_TRUE(
      replayed.narrow(0, 1, 19).gt(replayed.narrow(0, 0, 19)).all().item<bool>());  // distinct
}

TEST(Sampler, RoundsTheShareAndKeepsOneOfEither) {
  const at::Tensor own = at::arange(0, 90, at::kLong);
  const at::Tensor others = at::arange(100, 200, at::kLong);
  const auto replayed = [&](int64_t batch_size, double share) {
    Sampler sampler(own, {.batch_size = batch_size, .replay = share}, others);
    return sampler.next().ge(100).sum().item<int64_t>();
  };
  EXPECT_EQ(replayed(10, 0.5), 5);
  EXPECT_EQ(replayed(10, 0.01), 1);
  EXPECT_EQ(replayed(10, 0.99), 9);
  EXPECT_EQ(replayed(5, 0.5), 3);  // 2.5 is rounded up
  EXPECT_EQ(replayed(2, 0.9), 1);
  EXPECT_EQ(replayed(3, 0.1), 1);
}

TEST(Sampler, KeepsTheMixtureInTheLastBatch) {
  const at::Tensor own = at::arange(0, 12, at::kLong);
  Sampler sampler(own, {.batch_size = 10, .replay = 0.5}, at::arange(100, 200, at::kLong));
  const at::Tensor last = take(sampler, 3).back();
  EXPECT_EQ(last.numel(), 4);
  EXPECT_EQ(last.ge(100).sum().item<int64_t>(), 2);
}

TEST(Sampler, RepeatsASmallReplayedSetEvenly) {
  const at::Tensor own = at::arange(0, 40, at::kLong);
  Sampler sampler(own, {.batch_size = 10, .replay = 0.5}, at::arange(100, 108, at::kLong));
  const at::Tensor all = at::cat(take(sampler, 8));
  for (int64_t i = 100; i < 108; ++i) EXPECT_EQ(all.eq(i).sum().item<int64_t>(), 5);
}

TEST(Sampler, RefusesImpossibleOptions) {
  const at::Tensor own = at::arange(4, at::kLong);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  LOWRANK_EXPECT_ERROR(Sampler(own, {.batch_size = 0}), ArgumentError,
                       "[sampler] batch_size must be at least 1. Got 0.");
  for (const double replay : {-0.1, 1.0, nan}) {
    LOWRANK_EXPECT_ERROR(Sampler(own, {.replay = replay}, own), ArgumentError,
                         "[sampler] replay must be at least 0 and below 1. Got");
  }
  LOWRANK_EXPECT_ERROR(Sampler(own, {.replay = 0.5}), ArgumentError,
                       "[sampler] replay needs a share above 0 and a second set of indices. Got a "
                       "share and no set.");
  LOWRANK_EXPECT_ERROR(Sampler(own, {}, own), ArgumentError, "Got a set and no share.");
  LOWRANK_EXPECT_ERROR(Sampler(own, {.batch_size = 1, .replay = 0.5}, own), ArgumentError,
                       "[sampler] replay needs batches of at least 2. Got a batch_size of 1.");
  LOWRANK_EXPECT_ERROR(Sampler(at::empty({0}, at::kLong)), ArgumentError,
                       "[sampler] indices must be int64 of one dimension and not empty. Got");
  LOWRANK_EXPECT_ERROR(Sampler{at::Tensor()}, ArgumentError, "Got an undefined tensor.");
}

TEST(Sampler, RefusesPositionsNoEpochHas) {
  Sampler sampler(at::arange(4, at::kLong), {.batch_size = 2});
  LOWRANK_EXPECT_ERROR(
      sampler.seek({0, 2}), ArgumentError,
      "[sampler] a position must be an epoch from 0 and a batch of 0 to 1. Got epoch "
      "0, batch 2.");
  LOWRANK_EXPECT_ERROR(sampler.seek({-1, 0}), ArgumentError, "Got epoch -1, batch 0.");
  LOWRANK_EXPECT_ERROR(sampler.position_of_step(-1), ArgumentError, "a step must be at least 0.");
}

TEST(SplitValidation, DividesBySeedAlone) {
  const at::Tensor indices = at::arange(10, 110, at::kLong);
  const auto parts = split_validation(indices, 0.2, 4);
  EXPECT_EQ(parts.validation.numel(), 20);
  EXPECT_TRUE(at::equal(sorted(at::cat({parts.train, parts.validation})), indices));
  EXPECT_TRUE(at::equal(sorted(parts.train), parts.train));
  EXPECT_TRUE(at::equal(parts.validation, split_validation(indices, 0.2, 4).validation));
  EXPECT_FALSE(at::equal(parts.validation, split_validation(indices, 0.2, 5).validation));
}

TEST(SplitValidation, KeepsOneOfEither) {
  const at::Tensor indices = at::arange(3, at::kLong);
  EXPECT_EQ(split_validation(indices, 0.01, 0).validation.numel(), 1);
  EXPECT_EQ(split_validation(indices, 0.99, 0).train.numel(), 1);
  EXPECT_EQ(split_validation(indices, 0, 0).validation.numel(), 0);
  EXPECT_TRUE(at::equal(split_validation(indices, 0, 0).train, indices));
  LOWRANK_EXPECT_ERROR(split_validation(indices, 1, 0), ArgumentError,
                       "[sampler] the validation share must be at least 0 and below 1. Got 1.");
  LOWRANK_EXPECT_ERROR(split_validation(indices.narrow(0, 0, 1), 0.5, 0), ArgumentError,
                       "[sampler] a validation share needs at least 2 examples. Got 1.");
}

}  // namespace
}  // namespace lowrank
