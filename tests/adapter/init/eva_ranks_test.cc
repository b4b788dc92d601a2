#include "adapter/init/eva_ranks.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <lowrank/error.h>

#include <vector>

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

TEST(EvaRanks, RefuseWhatCannotBe) {
  LOWRANK_EXPECT_ERROR(eva_components(0, 2), ArgumentError,
                       "[eva] the rank must be at least 1. Got 0.");
  LOWRANK_EXPECT_ERROR(eva_components(4, 0.5), ArgumentError,
                       "[eva] rho must be finite and at least 1. Got 0.5.");
  LOWRANK_EXPECT_ERROR(eva_ranks({ratios({1})}, {1, 2}, 2), ArgumentError,
                       "[eva] there must be ratios for 2 layers. Got 1.");
}

}  // namespace
}  // namespace lowrank::init
