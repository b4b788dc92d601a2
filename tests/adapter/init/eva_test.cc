#include "adapter/init/eva.h"

#include <ATen/ATen.h>
#include <lowrank/error.h>

#include <cmath>

#include "adapter/init/init_support.h"
#include "support/expect_error.h"

namespace lowrank::init {
namespace {

using Ranks = std::vector<int64_t>;

at::Tensor ratios(const std::vector<double>& values) { return at::tensor(values, at::kDouble); }

TEST(EvaComponents, RoundAsPythonDoes) {
  EXPECT_EQ(eva_components(4, 2), 8);
  EXPECT_EQ(eva_components(5, 1.5), 8);  // 7.5
  EXPECT_EQ(eva_components(3, 1.5), 4);  // 4.5
  EXPECT_EQ(eva_components(3, 1.2), 4);  // 3.6
}

TEST(EvaRanks, GoWhereTheVarianceIs) {
  const auto steep = ratios({0.9, 0.05, 0.02, 0.01});
  const auto flat = ratios({0.3, 0.25, 0.2, 0.15});
  EXPECT_EQ(eva_ranks({steep, flat}, {2, 2}, 2), (Ranks{1, 3}));
  EXPECT_EQ(eva_ranks({flat, steep, flat}, {2, 2, 2}, 2), (Ranks{3, 1, 2}));
}

TEST(EvaRanks, AreBoundByRho) {
  const auto none = ratios({0.1, 0, 0, 0});
  const auto all = ratios({0.4, 0.3, 0.2, 0.15});
  EXPECT_EQ(eva_ranks({none, all}, {2, 2}, 1), (Ranks{2, 2}));
  EXPECT_EQ(eva_ranks({none, all}, {2, 2}, 1.5), (Ranks{1, 3}));
  EXPECT_EQ(eva_ranks({none, all}, {2, 2}, 2), (Ranks{0, 4}));
}

TEST(EvaRanks, EarlierLayersComeFirstWhereRatiosAreEqual) {
  const auto shared = ratios({0.5, 0.3, 0.2});
  EXPECT_EQ(eva_ranks({shared, shared}, {1, 2}, 1.5), (Ranks{2, 1}));
}

TEST(EvaRanks, NeverExceedTheComponentsThereAre) {
  EXPECT_EQ(eva_ranks({ratios({0.5}), ratios({0.4, 0.3})}, {4, 4}, 2), (Ranks{1, 2}));
}

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
  LOWRANK_EXPECT_ERROR(eva_components(0, 2), ArgumentError,
                       "[eva] the rank must be at least 1. Got 0.");
  LOWRANK_EXPECT_ERROR(eva_components(4, 0.5), ArgumentError,
                       "[eva] rho must be finite and at least 1. Got 0.5.");
  LOWRANK_EXPECT_ERROR(eva_ranks({ratios({1})}, {1, 2}, 2), ArgumentError,
                       "[eva] there must be ratios for 2 layers. Got 1.");
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
