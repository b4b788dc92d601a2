#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <fmt/ranges.h>
#include <lowrank/adapter/adapter.h>
#include <lowrank/models/mlp.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <functional>
#include <string>
#include <vector>

// What adapters cost a server: eight of them in one mixed batch beside eight runs, and a disabled
// one beside none. The two of a pair take turns, so that a slow moment of the machine falls on
// both.

namespace {

using lowrank::Adapter;
using lowrank::models::Mlp;
using lowrank::models::MlpOptions;

constexpr int64_t kAdapters = 8;
constexpr int kRounds = 201;

/// Processor time: there is one thread, and other programs disturb this least.
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

/// False where the mixed batch is wrong, in which case nothing is timed.
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

void disabled(bool with_gradients) {
  constexpr int kLayers = 16;
  const std::vector<int64_t> sizes(kLayers + 1, 16);
  Mlp plain(MlpOptions{.sizes = sizes}), attached(MlpOptions{.sizes = sizes});
  for (const auto& parameter : plain->parameters()) parameter.set_requires_grad(false);
  auto adapter = lowrank::attach(*attached, {.rank = 1});
  adapter.disable();
  const at::AutoGradMode mode(with_gradients);
  const auto x = at::randn({8, 16});
  const auto samples =
      compare([&] { plain->forward(x); }, [&] { attached->forward(x); }, /*repeats=*/20);
  // Other programs and clocks only ever add to a time that is this short: the least of each counts.
  const auto least = [](const std::vector<double>& seconds) {
    return *std::min_element(seconds.begin(), seconds.end()) * 1e9 / kLayers;
  };
  fmt::print(
      "  disabled, {:<12} {:.0f} ns a layer beside {:.0f} without an adapter (the least of the "
      "rounds), in turn {}\n",
      with_gradients ? "grad mode:" : "no grad:", least(samples.second) - least(samples.first),
      least(samples.first), summary(samples.difference, 1e9 / kLayers, 0));
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
