#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <fmt/ranges.h>
#include <lowrank/adapter/adapter.h>
#include <lowrank/machine/machine.h>
#include <lowrank/optim/adam.h>
#include <malloc.h>
#include <torch/nn/functional/loss.h>
#include <torch/utils.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <compare>
#include <cstdio>
#include <ctime>
#include <iostream>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <vector>

#include "app/data/dataset.h"
#include "app/models/mlp.h"
#include "app/train/evaluate.h"

// Measures the library's training steps and evaluated images per second, for bench/compare.py. It
// does the same steps on the same numbers as bench/rivals.py, which explains the requests. The net
// is from seed 0, the data from seed 1, A ~ N(0, 1) from seed 2, the evaluated images from seed 4.

namespace {

constexpr int64_t kImageBatches = 256;  // coprime with the next, so that no pair is learnt by heart
constexpr int64_t kLabelBatches = 1021;
constexpr int kCheckedSteps = 5;
constexpr int64_t kCheckedBatch = 10, kCheckedRank = 1;
constexpr int64_t kEvaluatedImages = 10000;

/// Measures for a number of seconds.
class Clock {
 public:
  explicit Clock(double seconds) : seconds_(seconds) {}

  bool goes_on() {
    spent_ = std::chrono::duration<double>(Steady::now() - start_).count();
    return spent_ < seconds_;
  }

  std::string line(double count) const {
    const double cpu = static_cast<double>(std::clock() - cpu_start_) / CLOCKS_PER_SEC;
    return fmt::format(R"({{"rate": {}, "seconds": {}, "cpu_seconds": {}}})", count / spent_,
                       spent_, cpu);
  }

 private:
  using Steady = std::chrono::steady_clock;
  double seconds_, spent_ = 0;
  Steady::time_point start_ = Steady::now();
  std::clock_t cpu_start_ = std::clock();
};

struct Shape {
  int64_t batch = kCheckedBatch, rank = kCheckedRank;
  int64_t width = 0;  // of both hidden layers; 0: the notebook's 1000 and 2000

  auto operator<=>(const Shape&) const = default;
};

class Trainer {
 public:
  Trainer(bool whole, Shape shape)
      : model_(make_model(shape.width)), optimizer_(trainable(whole, shape.rank)) {
    if (whole) acceleration_ = lowrank::accelerate(*model_, optimizer_);
    torch::manual_seed(1);
    const auto batch = shape.batch;
    images_ = at::randn({std::min(kImageBatches, 4096 / batch), batch, 784}).unbind();
    labels_ = at::randint(0, 10, {kLabelBatches, batch}, at::kLong).unbind();
    for (int i = 0; i < kCheckedSteps; ++i) losses_.push_back(step(images_[0], labels_[0]));
  }

  /// The losses of the first steps, all on one batch: they must fall, and agree with PyTorch's.
  std::string losses() const {
    return fmt::format(R"({{"losses": [{}]}})", fmt::join(losses_, ", "));
  }

  std::string measure(double seconds) {
    Clock clock(seconds);
    int64_t steps = 0;
    for (; clock.goes_on(); ++steps) {
      step(images_[next_ % images_.size()], labels_[next_ % labels_.size()]);
      ++next_;
    }
    return clock.line(static_cast<double>(steps));
  }

  lowrank::app::Mlp& model() { return model_; }
  lowrank::Adapter& adapter() { return adapter_.value(); }

 private:
  static lowrank::app::Mlp make_model(int64_t width) {
    torch::manual_seed(0);
    const auto first = width > 0 ? width : 1000, second = width > 0 ? width : 2000;
    return lowrank::app::Mlp(lowrank::app::MlpOptions{.sizes = {784, first, second, 10}});
  }

  std::vector<at::Tensor> trainable(bool whole, int64_t rank) {
    if (whole) return model_->parameters();
    adapter_ = lowrank::attach(*model_, {.rank = rank, .alpha = static_cast<double>(rank)});
    torch::manual_seed(2);
    at::NoGradGuard no_grad;
    for (const auto& layer : adapter_->layers()) at::Tensor(layer.a).normal_();
    return adapter_->parameters();
  }

  double step(const at::Tensor& x, const at::Tensor& y) {
    optimizer_.zero_grad();
    const at::Tensor loss = torch::nn::functional::cross_entropy(model_->forward(x), y);
    loss.backward();
    optimizer_.step();
    return loss.item<double>();
  }

  lowrank::app::Mlp model_;
  std::optional<lowrank::Adapter> adapter_;
  lowrank::Adam optimizer_;
  std::optional<lowrank::Acceleration> acceleration_;
  std::vector<at::Tensor> images_;
  std::vector<at::Tensor> labels_;
  std::vector<double> losses_;
  size_t next_ = 0;
};

/// Answers requests; keeps a trainer for each shape that was asked for.
class Server {
 public:
  explicit Server(bool whole) : whole_(whole) {}

  Trainer& trainer(Shape shape = {}) {
    auto& trainer = trainers_[shape];
    if (trainer == nullptr) trainer = std::make_unique<Trainer>(whole_, shape);
    return *trainer;
  }

  std::string answer(const std::string& request) {
    std::istringstream words(request);
    std::string what;
    double seconds = 0;
    Shape shape;
    words >> what >> seconds >> shape.batch >> shape.rank >> shape.width;
    if (what == "losses") return trainer(shape).losses();
    if (what == "train") return trainer(shape).measure(seconds);
    if (what == "evaluate") return evaluate(seconds, /*enabled=*/true);
    if (what == "evaluate_off") return evaluate(seconds, /*enabled=*/false);
    if (what == "correct") return fmt::format(R"({{"correct": {}}})", correct());
    if (what == "machine") return machine();
    if (what == "kernels") {
      return fmt::format(R"({{"better": "{}"}})", lowrank::blas_library().better_kernels);
    }
    throw std::invalid_argument("unknown request: " + request);
  }

 private:
  int64_t correct() {
    auto& model = trainer().model();
    model->eval();
    const auto logits = lowrank::app::compute_outputs(
        [&](const at::Tensor& x) { return model->forward(x); }, images(), {});
    return lowrank::app::evaluate(logits, images()).correct;
  }

  std::string evaluate(double seconds, bool enabled) {
    auto& adapter = trainer().adapter();
    enabled ? adapter.enable() : adapter.disable();
    Clock clock(seconds);
    int64_t count = 0;
    for (; clock.goes_on(); count += kEvaluatedImages) correct();
    adapter.enable();
    return clock.line(static_cast<double>(count));
  }

  const lowrank::app::Dataset& images() {
    if (!images_.inputs.defined()) {
      torch::manual_seed(4);
      images_.inputs = at::randint(0, 256, {kEvaluatedImages, 28, 28}, at::kByte);
      images_.labels = at::randint(0, 10, {kEvaluatedImages}, at::kLong);
    }
    return images_;
  }

  /// The rate is the machine's speed with products, in GFLOP/s.
  static std::string machine() {
    const auto speed = lowrank::measure_speed();
    return fmt::format(
        R"({{"instruction_set": "{}", "rate": {}, "thin_product": {}, "large_product": {}, )"
        R"("copy": {}}})",
        lowrank::instruction_set(), std::max(speed.thin_product, speed.large_product),
        speed.thin_product, speed.large_product, speed.copy);
  }

  bool whole_;
  std::map<Shape, std::unique_ptr<Trainer>> trainers_;
  lowrank::app::Dataset images_;
};

void serve(bool whole) {
  Server server(whole);
  for (std::string line; std::getline(std::cin, line);) {
    fmt::print("{}\n", server.answer(line));
    std::fflush(stdout);
  }
}

}  // namespace

int main(int argc, char** argv) {
  mallopt(M_MMAP_THRESHOLD, 1 << 25);  // as in cli/main.cc, for the same reason
  mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
  std::string what = "lora";
  int threads = 0;
  CLI::App app("Measures lowrank's training steps per second; answers each line with one of JSON.");
  app.add_option("--what", what)->check(CLI::IsMember({"lora", "pretrain"}));
  app.add_option("--threads", threads);
  CLI11_PARSE(app, argc, argv);
  try {
    lowrank::set_threads(threads > 0 ? threads : at::get_num_threads());
    serve(what == "pretrain");
  } catch (const std::exception& error) {
    fmt::print(stderr, "training_bench: {}\n", error.what());
    return 1;
  }
  return 0;
}
