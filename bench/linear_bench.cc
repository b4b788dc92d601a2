#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <benchmark/benchmark.h>
#include <lowrank/adapter/adapter.h>
#include <torch/nn/modules/linear.h>

// Forward and forward+backward of one Linear(1000, 2000), batch 10: dense and trained, dense and
// frozen (the best that an adapter could come near to), adapted, and with W + s·B·A formed each
// time.

namespace {

constexpr int64_t kBatch = 10;
constexpr int64_t kIn = 1000;
constexpr int64_t kOut = 2000;

struct Problem {
  explicit Problem(int64_t rank) {
    at::set_num_threads(1);
    linear = torch::nn::Linear(kIn, kOut);
    x = at::randn({kBatch, kIn}).requires_grad_();
    dy = at::randn({kBatch, kOut});
    if (rank == 0) return;
    for (auto& parameter : linear->parameters()) parameter.requires_grad_(false);
    a = at::randn({rank, kIn}).requires_grad_();
    b = at::randn({kOut, rank}).requires_grad_();
  }

  void drop_gradients() {
    x.mutable_grad().reset();
    for (auto& parameter : linear->parameters()) parameter.mutable_grad().reset();
    for (auto* factor : {&a, &b}) {
      if (factor->defined()) factor->mutable_grad().reset();
    }
  }

  torch::nn::Linear linear = nullptr;
  at::Tensor x, dy, a, b;
};

void forward(benchmark::State& state, Problem& problem) {
  at::NoGradGuard no_grad;
  for (auto _ : state) benchmark::DoNotOptimize(problem.linear->forward(problem.x));
}

void backward(benchmark::State& state, Problem& problem) {
  for (auto _ : state) {
    problem.linear->forward(problem.x).backward(problem.dy);
    problem.drop_gradients();
  }
}

void dense_forward(benchmark::State& state) {
  Problem problem(0);
  forward(state, problem);
}

void dense_trained(benchmark::State& state) {
  Problem problem(0);
  backward(state, problem);
}

void dense_frozen(benchmark::State& state) {
  Problem problem(1);
  backward(state, problem);
}

/// The argument is the rank. The adapter's own factors are used in place of the problem's.
void adapted_forward(benchmark::State& state) {
  Problem problem(0);
  const auto adapter = lowrank::attach(*problem.linear, {.rank = state.range(0)});
  forward(state, problem);
}

void adapted_trained(benchmark::State& state) {
  Problem problem(0);
  const auto adapter = lowrank::attach(*problem.linear, {.rank = state.range(0)});
  for (auto _ : state) {
    problem.linear->forward(problem.x).backward(problem.dy);
    problem.drop_gradients();
    for (auto& factor : adapter.parameters()) factor.mutable_grad().reset();
  }
}

void formed_trained(benchmark::State& state) {
  Problem problem(state.range(0));
  for (auto _ : state) {
    const at::Tensor weight = problem.linear->weight + problem.b.mm(problem.a);
    at::linear(problem.x, weight, problem.linear->bias).backward(problem.dy);
    problem.drop_gradients();
  }
}

}  // namespace

BENCHMARK(dense_forward)->Unit(benchmark::kMicrosecond);
BENCHMARK(adapted_forward)->Unit(benchmark::kMicrosecond)->Arg(1)->Arg(8)->Arg(64);
BENCHMARK(dense_trained)->Unit(benchmark::kMicrosecond);
BENCHMARK(dense_frozen)->Unit(benchmark::kMicrosecond);
BENCHMARK(adapted_trained)->Unit(benchmark::kMicrosecond)->Arg(1)->Arg(8)->Arg(64);
BENCHMARK(formed_trained)->Unit(benchmark::kMicrosecond)->Arg(1)->Arg(8)->Arg(64);
BENCHMARK_MAIN();
