#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <fmt/ranges.h>
#include <lowrank/adapter/adapter.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <functional>
#include <string>
#include <vector>

#include "app/models/mlp.h"

// What adapters cost a server: eight adapters in one mixed batch compared with eight runs, and a
// disabled adapter compared with none. The two sides take turns, so that a slow moment of the
// machine affects both.

namespace {

using lowrank::Adapter;
using lowrank::app::Mlp;
using lowrank::app::MlpOptions;

constexpr int64_t kAdapters = 8;
constexpr int kRounds = 201;

/// Measured in processor time, because there is one thread, and other programs disturb this least.
double seconds_of(const std::function<void()>& work, int repeats) {
  const auto start = std::clock();
  for (int i = 0; i < repeats; ++i) work();
  return static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC / repeats;
}

struct Samples {
  std::vector<double> first, second, ratio, difference;
};

Samples compare(const std::function<void()>& first, const std::function<void()>& second,
                int repeats) {
  seconds_of(first, repeats);
  seconds_of(second, repeats);
  Samples samples;
  for (int i = 0; i < kRounds; ++i) {
    const double one = seconds_of(first, repeats), two = seconds_of(second, repeats);
    samples.first.push_back(one);
    samples.second.push_back(two);
    samples.ratio.push_back(two / one);
    samples.difference.push_back(two - one);
  }
  return samples;
}

/// "median  (first quartile - third quartile)", each times `unit`.
std::string summary(std::vector<double> values, double unit, int digits) {
  std::sort(values.begin(), values.end());
  const auto at = [&](size_t quarter) { return values[values.size() * quarter / 4] * unit; };
  return fmt::format("{:.{}f}  ({:.{}f} - {:.{}f})", at(2), digits, at(1), digits, at(3), digits);
}

void randomize(const Adapter& adapter, const std::string& name) {
  const at::NoGradGuard no_grad;
  for (const auto& parameter : adapter.parameters(name)) parameter.normal_(0, 0.02);
}

/// Returns false, and times nothing, if the mixed batch gives wrong results.
bool mixed_batch(const std::vector<int64_t>& sizes) {
  Mlp model(MlpOptions{.sizes = sizes});
  model->eval();
  auto adapter = lowrank::attach(*model, {.rank = 8}, "a0");
  std::vector<std::string> names = {"a0"};
  for (int64_t i = 1; i < kAdapters; ++i) {
    names.push_back(fmt::format("a{}", i));
    adapter.add(names.back(), {.rank = 8});
  }
  for (const auto& name : names) randomize(adapter, name);
  const at::NoGradGuard no_grad;
  const auto x = at::randn({kAdapters, sizes.front()});
  const auto separate = [&] {
    std::vector<at::Tensor> rows;
    for (size_t i = 0; i < names.size(); ++i) {
      const auto use = adapter.use(names[i]);
      rows.push_back(model->forward(x.narrow(0, static_cast<int64_t>(i), 1)));
    }
    return at::cat(rows);
  };
  const auto mixed = [&] {
    const auto use = adapter.use_rows(names);
    return model->forward(x);
  };
  const auto expected = separate();
  const double error = ((mixed() - expected).abs().max() / expected.abs().max()).item<double>();
  if (error > 1e-5) {
    fmt::print(stderr, "adapters_bench: a mixed batch must equal separate runs. Got {}.\n", error);
    return false;
  }
  const auto samples = compare([&] { separate(); }, [&] { mixed(); }, 3);
  fmt::print("  8 rows, 8 adapters, net {:<20} separately {} us, mixed {} us, ratio {}\n",
             fmt::format("{}", fmt::join(sizes, "-")), summary(samples.first, 1e6, 0),
             summary(samples.second, 1e6, 0), summary(samples.ratio, 1, 2));
  return true;
}

/// The time of a layer of one model without an adapter, and how much more it takes while a disabled
/// adapter is attached, both in ns. The same weights are timed with and without it in turn. Other
/// programs can only add to a time this short, so the least of each counts.
struct Disabled {
  double without, more;
};

Disabled cost_when_disabled() {
  constexpr int kLayers = 16, kTurns = 41, kRepeats = 20;
  Mlp model(MlpOptions{.sizes = std::vector<int64_t>(kLayers + 1, 16)});
  for (const auto& parameter : model->parameters()) parameter.set_requires_grad(false);
  const auto x = at::randn({8, 16});
  const auto forward = [&] { model->forward(x); };
  const auto least_of = [&](double least) {
    seconds_of(forward, 2);
    return std::min(least, seconds_of(forward, kRepeats));
  };
  double without = 1, with = 1;
  for (int i = 0; i < kTurns; ++i) {
    without = least_of(without);
    auto adapter = lowrank::attach(*model, {.rank = 1});
    adapter.disable();
    with = least_of(with);
    adapter.detach();
  }
  return {without * 1e9 / kLayers, (with - without) * 1e9 / kLayers};
}

void disabled(bool with_gradients) {
  constexpr int kModels = 15;  // a model's place in memory changes its time by a few percent
  const at::AutoGradMode mode(with_gradients);
  std::vector<double> without, more;
  for (int i = 0; i < kModels; ++i) {
    const auto cost = cost_when_disabled();
    without.push_back(cost.without);
    more.push_back(cost.more);
  }
  fmt::print("  disabled, {:<12} {} ns a layer beside {} without an adapter, {} models\n",
             with_gradients ? "grad mode:" : "no grad:", summary(more, 1, 0),
             summary(without, 1, 0), kModels);
}

}  // namespace

int main() {
  at::set_num_threads(1);
  at::manual_seed(0);
  fmt::print(
      "Adapters in a server (one thread's time; median and quartiles of {} rounds in turn):\n",
      kRounds);
  for (const std::vector<int64_t>& sizes :
       {std::vector<int64_t>{784, 1000, 2000, 10}, std::vector<int64_t>{256, 256, 256, 10}}) {
    if (!mixed_batch(sizes)) return 1;
  }
  disabled(/*with_gradients=*/false);
  disabled(/*with_gradients=*/true);
  return 0;
}
