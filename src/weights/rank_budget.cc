#include "weights/rank_budget.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <lowrank/error.h>

#include <algorithm>
#include <queue>
#include <utility>

namespace lowrank {
namespace {

/// The singular values of a layer that are known so far.
struct Known {
  at::Tensor values;  // float64
  double at(int64_t i) const { return values.data_ptr<double>()[i]; }
  int64_t count() const { return values.numel(); }
};

/// What the next rank of a layer is worth; of equals, the earlier layer comes first.
struct Step {
  double worth;
  size_t layer;
  bool operator<(const Step& other) const {
    return std::pair(worth, other.layer) < std::pair(other.worth, layer);
  }
};

std::vector<int64_t> taken(const std::vector<BudgetLayer>& layers, const std::vector<Known>& known,
                           int64_t budget) {
  std::vector<int64_t> ranks;
  std::priority_queue<Step> steps;
  const auto offer = [&](size_t i) {
    if (ranks[i] >= std::min(layers[i].most, known[i].count())) return;
    const double value = known[i].at(ranks[i]);
    if (value > 0) steps.push({value * value / static_cast<double>(layers[i].cost), i});
  };
  for (const auto& layer : layers) {
    ranks.push_back(layer.least);
    budget -= layer.least * layer.cost;
  }
  for (size_t i = 0; i < layers.size(); ++i) offer(i);
  while (!steps.empty()) {
    const auto i = steps.top().layer;
    steps.pop();
    if (layers[i].cost > budget) break;
    budget -= layers[i].cost;
    ++ranks[i];
    offer(i);
  }
  return ranks;
}

}  // namespace

BudgetLayer budget_layer(const RankRule& rule, int64_t rows, int64_t columns) {
  const auto [least, most] = rule.limits();
  const auto possible = std::max<int64_t>(1, std::min(rows, columns));
  return {rows + columns, std::clamp<int64_t>(least, 1, possible),
          std::clamp<int64_t>(most, 1, possible)};
}

std::vector<int64_t> ranks_within_budget(
    const std::vector<BudgetLayer>& layers, int64_t budget, const char* operation,
    const std::function<at::Tensor(size_t i, int64_t k)>& values) {
  constexpr int64_t kSpare = 8;  // beyond an even share
  int64_t least = 0, all = 0;
  for (const auto& layer : layers) {
    least += layer.least * layer.cost;
    all += layer.cost;
  }
  if (budget < least) {
    fail<ArgumentError>(
        operation,
        fmt::format("the budget must hold the least rank of each layer, {} parameters", least),
        fmt::format("{}", budget));
  }
  std::vector<Known> known(layers.size());
  const auto learn = [&](size_t i, int64_t count) {
    known[i] = {values(i, std::min(layers[i].most, count)).to(at::kDouble).contiguous()};
  };
  const auto share = layers.empty() ? 0 : budget / all;
  for (size_t i = 0; i < layers.size(); ++i) {
    learn(i, std::max(layers[i].least, std::min(layers[i].most, share)) + kSpare);
  }
  for (;;) {
    auto ranks = taken(layers, known, budget);
    bool are_enough = true;
    for (size_t i = 0; i < layers.size(); ++i) {
      const auto count = known[i].count();
      if (ranks[i] < count || count >= layers[i].most) continue;
      are_enough = false;
      learn(i, 2 * count);
    }
    if (are_enough) return ranks;
  }
}

}  // namespace lowrank
