#include "weights/rank_budget.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <lowrank/error.h>

#include <algorithm>
#include <vector>

#include "support/expect_error.h"

namespace lowrank {
namespace {

struct Problem {
  std::vector<BudgetLayer> layers;
  std::vector<at::Tensor> values;

  int64_t parameters(const std::vector<int64_t>& ranks) const {
    int64_t sum = 0;
    for (size_t i = 0; i < ranks.size(); ++i) sum += ranks[i] * layers[i].cost;
    return sum;
  }
  double energy(const std::vector<int64_t>& ranks) const {
    double sum = 0;
    for (size_t i = 0; i < ranks.size(); ++i) {
      sum += values[i].narrow(0, 0, ranks[i]).pow(2).sum().item<double>();
    }
    return sum;
  }
  /// The most energy that at most this many parameters can keep.
  double best(int64_t budget) const {
    std::vector<int64_t> ranks;
    for (const auto& layer : layers) ranks.push_back(layer.least);
    double most = 0;
    for (;;) {
      if (parameters(ranks) <= budget) most = std::max(most, energy(ranks));
      size_t i = 0;
      while (i < ranks.size() && ranks[i] == layers[i].most) {
        ranks[i] = layers[i].least;
        ++i;
      }
      if (i == ranks.size()) return most;
      ++ranks[i];
    }
  }
  std::vector<int64_t> chosen(int64_t budget) const {
    return ranks_within_budget(layers, budget, "test", [&](size_t i, int64_t count) {
      EXPECT_LE(count, layers[i].most);
      return values[i].narrow(0, 0, count);
    });
  }
};

Problem random_problem() {
  Problem problem;
  for (const int64_t most : {5, 6, 4}) {
    problem.layers.push_back({.cost = at::randint(5, 40, {1}).item<int64_t>(), .most = most});
    problem.values.push_back(std::get<0>(at::rand({most}, at::kDouble).sort(0, true)));
  }
  return problem;
}

/// Against all possible ranks: nothing is better with the parameters that were used, and with the
/// whole budget at most the one step that did not fit.
TEST(RanksWithinBudget, AreTheBest) {
  at::manual_seed(0);
  for (int i = 0; i < 100; ++i) {
    const auto problem = random_problem();
    const auto all = problem.parameters({5, 6, 4});
    const auto budget = at::randint(problem.parameters({1, 1, 1}), all + 9, {1}).item<int64_t>();
    const auto ranks = problem.chosen(budget);
    const auto used = problem.parameters(ranks);
    ASSERT_LE(used, budget);
    EXPECT_NEAR(problem.energy(ranks), problem.best(used), 1e-12);
    double step = 0;
    for (size_t j = 0; j < ranks.size(); ++j) {
      if (ranks[j] == problem.layers[j].most) continue;
      step = std::max(step, problem.values[j][ranks[j]].item<double>());
    }
    EXPECT_LE(problem.best(budget), problem.energy(ranks) + step * step + 1e-12);
    if (budget >= all) {
      EXPECT_EQ(used, all);
    }
  }
}

/// One layer may take far more than an even share, so that more of its values have to be asked for.
TEST(RanksWithinBudget, AskForMoreValuesWhereTheyAreTaken) {
  Problem problem;
  problem.layers = {{.cost = 10, .most = 100}, {.cost = 10, .most = 100}};
  problem.values = {at::ones({100}, at::kDouble), at::full({100}, 0.1, at::kDouble)};
  EXPECT_EQ(problem.chosen(910), (std::vector<int64_t>{90, 1}));
  EXPECT_EQ(problem.chosen(1'500), (std::vector<int64_t>{100, 50}));
  EXPECT_EQ(problem.chosen(INT64_MAX), (std::vector<int64_t>{100, 100}));
}

TEST(RanksWithinBudget, LeaveOutWhatIsZero) {
  Problem problem;
  problem.layers = {{.cost = 10, .most = 3}};
  problem.values = {at::tensor({1.0, 0.5, 0.0}, at::kDouble)};
  EXPECT_EQ(problem.chosen(1'000), std::vector<int64_t>{2});
}

TEST(RanksWithinBudget, NeedTheLeastRanks) {
  Problem problem;
  problem.layers = {{.cost = 10, .least = 2, .most = 3}, {.cost = 7, .most = 3}};
  problem.values = {at::ones({3}, at::kDouble), at::ones({3}, at::kDouble)};
  LOWRANK_EXPECT_ERROR(problem.chosen(26), ArgumentError, "27 parameters. Got 26.");
  EXPECT_EQ(problem.chosen(27), (std::vector<int64_t>{2, 1}));
}

TEST(BudgetLayer, HasTheLimitsOfTheRule) {
  const auto free = budget_layer(RankRule::numerical(), 4, 6);
  EXPECT_EQ(std::vector({free.cost, free.least, free.most}), std::vector<int64_t>({10, 1, 4}));
  const auto limited = budget_layer(RankRule::numerical().within(2, 3), 4, 6);
  EXPECT_EQ(std::vector({limited.least, limited.most}), std::vector<int64_t>({2, 3}));
  const auto small = budget_layer(RankRule::numerical().within(5, 9), 4, 6);
  EXPECT_EQ(std::vector({small.least, small.most}), std::vector<int64_t>({4, 4}));
}

}  // namespace
}  // namespace lowrank
