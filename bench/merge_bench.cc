#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <fmt/ranges.h>
#include <lowrank/adapter/adapter.h>
#include <lowrank/machine/machine.h>
#include <torch/nn/modules/linear.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <vector>

// Measures how fast an adapter of rank 16 is merged into a float32 base of 4096 x 4096, in turn
// with a copy of as much memory, and prints one JSON line for bench/compare.py. The bytes counted
// are those of W, read once and written once.

namespace {

constexpr int64_t kSize = 4096, kRank = 16;
constexpr double kBytes = 2.0 * kSize * kSize * sizeof(float);

template <class Work>
double gb_per_second(const Work& work) {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  work();
  return 1e-9 * kBytes / std::chrono::duration<double>(Clock::now() - start).count();
}

/// ‖found - (W + s·B·A)‖ / ‖W + s·B·A‖, in float64.
double error_of(const at::Tensor& found, const at::Tensor& base,
                const lowrank::AdaptedLayer& layer) {
  const auto exact =
      base.to(at::kDouble) +
      layer.scaling * at::mm(layer.b.detach().to(at::kDouble), layer.a.detach().to(at::kDouble));
  return ((found.to(at::kDouble) - exact).norm() / exact.norm()).item<double>();
}

int run(int threads, int rounds) {
  lowrank::set_threads(threads);
  at::manual_seed(0);
  const at::NoGradGuard no_grad;
  torch::nn::Linear model(kSize, kSize);
  const auto base = model->weight.detach().clone();
  auto adapter = lowrank::attach(*model, {.rank = kRank, .alpha = 2 * kRank});
  const auto layer = adapter.layers().at(0);
  layer.b.normal_(0, 0.01);
  auto copy = base.clone();

  const lowrank::MergeOptions in_place = {.keep_copies = false};
  adapter.merge({}, in_place);
  const double error = error_of(model->weight.detach(), base, layer);
  if (error > 1e-6) {
    fmt::print(stderr, "merge_bench: merged weights must be W + s·B·A. Got an error of {}.\n",
               error);
    return 1;
  }
  adapter.unmerge();
  std::vector<double> merges, copies;
  for (int i = 0; i < rounds; ++i) {
    copies.push_back(gb_per_second([&] { copy.copy_(base); }));
    merges.push_back(gb_per_second([&] { adapter.merge({}, in_place); }));
    adapter.unmerge();
  }
  fmt::print(R"({{"error": {}, "merge": [{}], "copy": [{}]}})"
             "\n",
             error, fmt::join(merges, ", "), fmt::join(copies, ", "));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  int threads = 1, rounds = 15;
  CLI::App app("Measures merging an adapter and copying, in GB/s; prints one JSON line.");
  app.add_option("--threads", threads);
  app.add_option("--rounds", rounds);
  CLI11_PARSE(app, argc, argv);
  try {
    return run(threads, rounds);
  } catch (const std::exception& error) {
    fmt::print(stderr, "merge_bench: {}\n", error.what());
    return 1;
  }
}
