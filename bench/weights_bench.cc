#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/ranges.h>
#include <lowrank/io/npy.h>
#include <lowrank/linalg/leading_svd.h>
#include <lowrank/machine/machine.h>
#include <lowrank/weights/resize.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

// Measures the decompositions behind the commands for weights, for bench/weights.py: the leading
// triplets of the matrix in a .npy file, or a resize of the adapter in a folder. Prints one JSON
// line.

namespace {

template <class Work>
double seconds_of(const Work& work) {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  work();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

void print(const std::vector<double>& seconds, double error) {
  fmt::print(R"({{"seconds": [{}], "error": {}}})"
             "\n",
             fmt::join(seconds, ", "), error);
}

void decompose(const std::string& file, int64_t rank, int rounds) {
  const auto w = lowrank::read_npy(file);
  std::vector<double> seconds;
  lowrank::Svd svd;
  for (int i = 0; i < rounds; ++i) {
    seconds.push_back(
        seconds_of([&] { svd = lowrank::leading_svd(w, lowrank::RankRule::number(rank)); }));
  }
  const auto exact = w.to(at::kDouble);
  const auto rest = exact - (svd.u * svd.s).to(at::kDouble).mm(svd.v.t().to(at::kDouble));
  print(seconds, (rest.norm() / exact.norm()).item<double>());
}

void resize(const std::string& adapter, const std::string& out, int64_t rank, int rounds) {
  std::vector<double> seconds;
  double error = 0;
  for (int i = 0; i < rounds; ++i) {
    seconds.push_back(seconds_of([&] {
      error = lowrank::resize_adapter(adapter, out,
                                      {.rule = lowrank::RankRule::at_most(rank), .force = true})
                  .relative();
    }));
  }
  print(seconds, error);
}

}  // namespace

int main(int argc, char** argv) {
  std::string matrix, adapter, out;
  int64_t rank = 16;
  int threads = 1, rounds = 1;
  CLI::App app("Measures decompositions, in seconds; prints one JSON line.");
  app.add_option("--matrix", matrix);
  app.add_option("--adapter", adapter);
  app.add_option("--out", out);
  app.add_option("--rank", rank);
  app.add_option("--threads", threads);
  app.add_option("--rounds", rounds);
  CLI11_PARSE(app, argc, argv);
  try {
    lowrank::set_threads(threads);
    const at::NoGradGuard no_grad;
    if (!matrix.empty()) decompose(matrix, rank, rounds);
    if (!adapter.empty()) resize(adapter, out, rank, rounds);
  } catch (const std::exception& error) {
    fmt::print(stderr, "weights_bench: {}\n", error.what());
    return 1;
  }
  return 0;
}
