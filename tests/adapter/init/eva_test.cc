#include "adapter/init/eva.h"

#include <ATen/ATen.h>
#include <lowrank/error.h>

#include <cmath>

#include "adapter/init/init_support.h"
#include "support/expect_error.h"

namespace lowrank::init {
namespace {

TEST(Eva, StartsFromTheComponents) {
  at::manual_seed(0);
  EvaSketch sketch(4);
  sketch.add(at::randn({50, 9}));
  const auto pair = eva(sketch, 7, 3);
  EXPECT_TRUE(at::equal(pair.a, sketch.components(3).to(at::kFloat)));
  EXPECT_TRUE(at::equal(pair.b, at::zeros({7, 3})));

  const auto white = eva(sketch, 7, 3, /*whiten=*/true);
  const auto expected =
      sketch.components(3) / sketch.singular_values().slice(0, 0, 3).sqrt().view({3, 1});
  EXPECT_LE(difference(white.a, expected), 1e-6);
  EXPECT_TRUE(at::equal(eva(sketch, 7, 3).a, pair.a)) << "whitening changed the sketch";
}

TEST(Eva, RefusesWhatCannotBe) {
  EvaSketch sketch(4);
  sketch.add(at::ones({10, 4}));
  LOWRANK_EXPECT_ERROR(eva(sketch, 7, 5), ArgumentError,
                       "[eva] the rank must be at least 1 and at most the number of components of "
                       "its inputs, 4. Got 5.");
  LOWRANK_EXPECT_ERROR(eva(sketch, 7, 2, /*whiten=*/true), TensorError,
                       "[eva] the inputs must vary along each component that is whitened. Got a "
                       "singular value of 0. Choose a smaller rank, or do not whiten.");
}

}  // namespace
}  // namespace lowrank::init
