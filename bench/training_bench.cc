#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/ranges.h>
#include <lowrank/adapter/accelerate.h>
#include <lowrank/adapter/adapter.h>
#include <lowrank/models/mlp.h>
#include <lowrank/train/adam.h>
#include <malloc.h>
#include <torch/nn/functional/loss.h>
#include <torch/utils.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <iostream>
#include <limits>
#include <optional>
#include <vector>

// Training steps a second of the library, for bench/compare.py. The same steps, on the same
// numbers, as bench/rivals.py: the net from seed 0, the data from seed 1, A ~ N(0, 1) from seed 2.

namespace {

constexpr int64_t kImageBatches = 256;  // coprime with the next, so that no pair is learnt by heart
constexpr int64_t kLabelBatches = 1021;
constexpr int kCheckedSteps = 5;

struct Options {
  std::string what = "lora";
  int threads = 1;
  int64_t rank = 1;
  int64_t batch = 10;
  double seconds = 3;
  bool serve = false;
};

class Trainer {
 public:
  explicit Trainer(const Options& options) : model_(make_model()), optimizer_(trainable(options)) {
    if (options.what == "pretrain") fast_ = lowrank::accelerate(*model_, optimizer_);
    torch::manual_seed(1);
    images_ = at::randn({kImageBatches, options.batch, 784}).unbind();
    labels_ = at::randint(0, 10, {kLabelBatches, options.batch}, at::kLong).unbind();
  }

  /// The losses of a few steps on one batch: they must fall, and agree with PyTorch's.
  std::vector<double> check() {
    std::vector<double> losses;
    for (int i = 0; i < kCheckedSteps; ++i) losses.push_back(step(images_[0], labels_[0]));
    return losses;
  }

  std::string measure(double seconds) {
    using Clock = std::chrono::steady_clock;
    const auto start = Clock::now();
    const auto cpu_start = std::clock();
    int64_t steps = 0;
    double spent = 0;
    double loss = 0;
    while (spent < seconds) {
      loss = step(images_[next_ % kImageBatches], labels_[next_ % kLabelBatches]);
      ++next_;
      ++steps;
      spent = std::chrono::duration<double>(Clock::now() - start).count();
    }
    const double cpu = static_cast<double>(std::clock() - cpu_start) / CLOCKS_PER_SEC;
    return fmt::format(
        R"({{"steps": {}, "seconds": {}, "cpu_seconds": {}, "rate": {}, "last_loss": {}}})", steps,
        spent, cpu, static_cast<double>(steps) / spent, loss);
  }

 private:
  static lowrank::models::Mlp make_model() {
    torch::manual_seed(0);
    return lowrank::models::Mlp(lowrank::models::MlpOptions{.sizes = {784, 1000, 2000, 10}});
  }

  std::vector<at::Tensor> trainable(const Options& options) {
    if (options.what == "pretrain") return model_->parameters();
    const auto adapter = lowrank::attach(
        *model_, {.rank = options.rank, .alpha = static_cast<double>(options.rank)});
    torch::manual_seed(2);
    at::NoGradGuard no_grad;
    for (const auto& layer : adapter.layers()) at::Tensor(layer.a).normal_();
    return adapter.parameters();
  }

  double step(const at::Tensor& x, const at::Tensor& y) {
    optimizer_.zero_grad();
    const at::Tensor loss = torch::nn::functional::cross_entropy(model_->forward(x), y);
    loss.backward();
    optimizer_.step();
    return loss.item<double>();
  }

  lowrank::models::Mlp model_;
  lowrank::Adam optimizer_;
  std::optional<lowrank::Acceleration> fast_;
  std::vector<at::Tensor> images_;
  std::vector<at::Tensor> labels_;
  int64_t next_ = 0;
};

void print_line(const std::string& line) {
  fmt::print("{}\n", line);
  std::fflush(stdout);
}

void run(const Options& options) {
  at::set_num_threads(options.threads);
  Trainer trainer(options);
  print_line(fmt::format(R"({{"what": "{}", "threads": {}, "losses": [{}]}})", options.what,
                         options.threads, fmt::join(trainer.check(), ", ")));
  if (!options.serve) return print_line(trainer.measure(options.seconds));
  for (double seconds = 0; std::cin >> seconds;) print_line(trainer.measure(seconds));
}

}  // namespace

int main(int argc, char** argv) {
  mallopt(M_MMAP_THRESHOLD, 1 << 25);  // as cli/main.cc does, and for its reason
  mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
  Options options;
  CLI::App app("Training steps a second of lowrank; one JSON line a measurement.");
  app.add_option("--what", options.what)->check(CLI::IsMember({"lora", "pretrain"}));
  app.add_option("--threads", options.threads);
  app.add_option("--rank", options.rank);
  app.add_option("--batch", options.batch);
  app.add_option("--seconds", options.seconds);
  app.add_flag("--serve", options.serve, "Measure for each line of standard input: seconds");
  CLI11_PARSE(app, argc, argv);
  try {
    run(options);
  } catch (const std::exception& error) {
    fmt::print(stderr, "training_bench: {}\n", error.what());
    return 1;
  }
  return 0;
}
