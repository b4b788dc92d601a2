// Covers train/train_task.cc and optimizer_driver.cc: what a task can be, beside images and Adam.

#include <lowrank/train/train_task.h>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <lowrank/error.h>
#include <lowrank/train/trainer.h>
#include <torch/nn/modules/linear.h>
#include <torch/optim/adam.h>
#include <torch/optim/adamw.h>
#include <torch/optim/lbfgs.h>
#include <torch/optim/rmsprop.h>
#include <torch/optim/sgd.h>

#include <csignal>
#include <memory>

#include "support/expect_error.h"
#include "support/temporary_folder.h"

namespace lowrank {
namespace {

using torch::nn::Linear;

/// Fits a linear layer to 60 points.
struct Fit {
  at::Tensor x, y;
  Linear layer = nullptr;
  int64_t calls = 0, interrupt_at = 0;

  explicit Fit(int64_t weights_seed = 3) {
    at::manual_seed(7);
    x = at::randn({60, 5});
    y = x.mm(at::randn({5, 2})) + 0.1 * at::randn({60, 2});
    at::manual_seed(weights_seed);
    layer = Linear(5, 2);
  }

  at::Tensor loss(const at::Tensor& indices) {
    if (++calls == interrupt_at) std::raise(SIGINT);
    return at::mse_loss(layer->forward(x.index_select(0, indices)), y.index_select(0, indices));
  }

  TrainTask task() {
    TrainTask task;
    task.examples = x.size(0);
    task.loss = [this](const at::Tensor& indices) { return loss(indices); };
    task.parameters = trained_parameters(*layer);
    return task;
  }

  /// The examples as a stream of `batches` batches of ten.
  TrainTask stream(int64_t batches) {
    auto task = this->task();
    auto next = std::make_shared<int64_t>(0);
    task.next_loss = [this, next, batches] {
      if (*next == batches) return at::Tensor();
      const auto first = (*next)++ % 6 * 10;
      return loss(at::arange(first, first + 10, at::kLong));
    };
    task.seek = [next](int64_t batch) { *next = batch; };
    return task;
  }

  void refuse(const TrainTask& task, const TrainOptions& options, const std::string& message) {
    LOWRANK_EXPECT_ERROR(train(task, options), ArgumentError, "[train] " + message);
    EXPECT_EQ(calls, 0);
  }
};

TEST(TrainTask, AnAdapterIsTrainedAndItsBaseIsNot) {
  Fit fit;
  const auto before = fit.layer->weight.detach().clone();
  auto adapter = attach(*fit.layer, {.rank = 2, .target_modules = {"all-linear"}});
  auto task = fit.task();
  task.parameters = trained_parameters(adapter, /*lora_plus_ratio=*/4);
  ASSERT_EQ(task.parameters.size(), 2U);
  EXPECT_EQ(task.parameters[0].rate, 1);
  EXPECT_EQ(task.parameters[1].rate, 4) << task.parameters[1].name;
  const auto first = fit.loss(at::arange(60, at::kLong)).item<double>();
  train(task, {.epochs = 20, .learning_rate = 0.02});
  EXPECT_LT(fit.loss(at::arange(60, at::kLong)).item<double>(), 0.5 * first);
  adapter.detach();
  EXPECT_TRUE(at::equal(fit.layer->weight, before));
}

TEST(TrainTask, FrozenParametersAreNotTrained) {
  Fit fit;
  fit.layer->bias.requires_grad_(false);
  const auto parameters = trained_parameters(*fit.layer);
  ASSERT_EQ(parameters.size(), 1U);
  EXPECT_EQ(parameters[0].name, "weight");
}

TEST(TrainTask, WeightDecayIsThatOfAdamW) {
  Fit fit, expected;
  train(fit.task(), {.steps = 9, .batch_size = 60, .learning_rate = 0.01, .weight_decay = 0.3});
  torch::optim::AdamW adam(expected.layer->parameters(),
                           torch::optim::AdamWOptions(0.01).weight_decay(0.3));
  for (int step = 0; step < 9; ++step) {
    adam.zero_grad();
    expected.loss(at::arange(60, at::kLong)).backward();
    adam.step();
  }
  EXPECT_TRUE(at::allclose(fit.layer->weight, expected.layer->weight, 1e-5, 1e-6));
}

/// Makes one of LibTorch's optimizers for the parameters of a layer.
using MakeOptimizer = std::unique_ptr<torch::optim::Optimizer> (*)(std::vector<at::Tensor>);

const std::vector<std::pair<const char*, MakeOptimizer>> kOptimizers = {
    {"sgd",
     [](std::vector<at::Tensor> p) -> std::unique_ptr<torch::optim::Optimizer> {
       return std::make_unique<torch::optim::SGD>(std::move(p),
                                                  torch::optim::SGDOptions(0.05).momentum(0.9));
     }},
    {"adamw",
     [](std::vector<at::Tensor> p) -> std::unique_ptr<torch::optim::Optimizer> {
       return std::make_unique<torch::optim::AdamW>(std::move(p), torch::optim::AdamWOptions(0.02));
     }},
    {"rmsprop", [](std::vector<at::Tensor> p) -> std::unique_ptr<torch::optim::Optimizer> {
       return std::make_unique<torch::optim::RMSprop>(std::move(p),
                                                      torch::optim::RMSpropOptions(0.01));
     }}};

TEST(TrainTask, OptimizersOfLibTorchTakeTheirOwnSteps) {
  for (const auto& [name, make] : kOptimizers) {
    Fit fit, expected;
    auto own = make(expected.layer->parameters());
    for (int step = 0; step < 5; ++step) {
      own->zero_grad();
      expected.loss(at::arange(60, at::kLong)).backward();
      own->step();
    }
    auto task = fit.task();
    const auto optimizer = make(fit.layer->parameters());
    task.optimizer = optimizer.get();
    task.indices = at::arange(60, at::kLong);
    const auto result = train(task, {.steps = 5, .batch_size = 60});
    EXPECT_TRUE(at::allclose(fit.layer->weight, expected.layer->weight, 1e-5, 1e-6)) << name;
    EXPECT_EQ(result.history.points.back().learning_rate,
              optimizer->param_groups()[0].options().get_lr());
  }
}

TEST(TrainTask, OptimizersOfLibTorchFollowTheSchedule) {
  Fit fit;
  const auto before = fit.layer->weight.detach().clone();
  torch::optim::SGD sgd(fit.layer->parameters(), 0.4);
  auto task = fit.task();
  task.optimizer = &sgd;
  train(task, {.steps = 1, .batch_size = 60, .schedule = {.warmup_steps = 4}});
  const auto moved = (before - fit.layer->weight).detach();
  EXPECT_TRUE(at::allclose(moved, 0.1 * fit.layer->weight.grad(), 1e-4, 1e-6));
}

TEST(TrainTask, ResumesWithOptimizersOfLibTorchBitForBit) {
  const TrainOptions options = {.steps = 12,
                                .batch_size = 10,
                                .schedule = {.kind = ScheduleKind::kLinear, .warmup_steps = 3},
                                .clip_norm = 1};
  for (const auto& [name, make] : kOptimizers) {
    const TemporaryFolder folder;
    Fit whole;
    auto optimizer = make(whole.layer->parameters());
    auto task = whole.task();
    task.optimizer = optimizer.get();
    train(task, options);

    Fit first;
    first.interrupt_at = 5;
    optimizer = make(first.layer->parameters());
    task = first.task();
    task.optimizer = optimizer.get();
    EXPECT_THROW(train(task, options, {.checkpoint = folder / "state"}), Interrupted);

    Fit second(/*weights_seed=*/8);
    optimizer = make(second.layer->parameters());
    task = second.task();
    task.optimizer = optimizer.get();
    train(task, options, {.checkpoint = folder / "state", .resume = true});
    EXPECT_EQ(second.calls, 7) << name;
    EXPECT_TRUE(at::equal(second.layer->weight, whole.layer->weight)) << name;

    task.optimizer = nullptr;
    LOWRANK_EXPECT_ERROR(train(task, options, {.checkpoint = folder / "state", .resume = true}),
                         FileError, "must hold Adam's moments");
  }
}

TEST(TrainTask, RefusesOptimizersItCannotDrive) {
  Fit fit, other;
  auto task = fit.task();
  torch::optim::LBFGS lbfgs(fit.layer->parameters());
  task.optimizer = &lbfgs;
  fit.refuse(task, {.steps = 1},
             "the optimizer must take a step from the gradients alone. Got LBFGS.");
  torch::optim::SGD sgd(other.layer->parameters(), 0.1);
  task.optimizer = &sgd;
  fit.refuse(task, {.steps = 1}, "the optimizer must train the task's parameters only.");
  torch::optim::SGD own(fit.layer->parameters(), 0.1);
  task.optimizer = &own;
  fit.refuse(task, {.steps = 1, .weight_decay = 0.1},
             "weight_decay must be 0 beside an optimizer of LibTorch. Got 0.1.");
}

TEST(TrainTask, AStreamEndsTheRun) {
  Fit fit;
  const auto result = train(fit.stream(8), {.steps = 100, .accumulate = 3});
  EXPECT_EQ(result.steps, 2) << "a step that lacks a batch is not taken";
  EXPECT_EQ(result.end, TrainEnd::kStream);
  EXPECT_EQ(fit.calls, 8);
  Fit shorter;
  EXPECT_EQ(train(shorter.stream(8), {.steps = 5}).end, TrainEnd::kSteps);
}

TEST(TrainTask, AStreamValidatesOnExamplesThatAreHeldBack) {
  Fit fit;
  auto task = fit.stream(30);
  task.held_back = at::arange(50, 60, at::kLong);
  const auto result = train(task, {.steps = 30, .learning_rate = 0.02, .validate_every = 10});
  ASSERT_EQ(result.history.validations.size(), 3U);
  EXPECT_LT(result.history.validations[2].loss, result.history.validations[0].loss);
}

TEST(TrainTask, AStreamIsResumedWhereItCanSeek) {
  const TemporaryFolder folder;
  const TrainOptions options = {.steps = 20, .accumulate = 2};
  const RunOptions run = {.checkpoint = folder / "state"};
  Fit whole;
  train(whole.stream(100), options);
  Fit first;
  first.interrupt_at = 11;
  EXPECT_THROW(train(first.stream(100), options, run), Interrupted);
  Fit second(/*weights_seed=*/9);
  auto resumed = run;
  resumed.resume = true;
  train(second.stream(100), options, resumed);
  EXPECT_TRUE(at::equal(second.layer->weight, whole.layer->weight));
  auto task = second.stream(100);
  task.seek = nullptr;
  LOWRANK_EXPECT_ERROR(train(task, options, resumed), ArgumentError,
                       "[train] a stream of examples must have seek() to be resumed. Got none.");
}

TEST(TrainTask, HoldsTheGivenExamplesBack) {
  Fit fit;
  auto task = fit.task();
  task.held_back = at::arange(40, 60, at::kLong);
  const auto loss = task.loss;
  int64_t trained = 0, held = 0;
  task.loss = [&](const at::Tensor& indices) {
    (at::GradMode::is_enabled() ? trained : held) += indices.numel();
    EXPECT_EQ(indices.lt(40).all().item<bool>(), at::GradMode::is_enabled());
    return loss(indices);
  };
  task.metrics = [](const at::Tensor& indices) {
    return Metrics{{"examples", static_cast<double>(indices.numel())}};
  };
  const auto result = train(task, {.epochs = 1, .batch_size = 8});
  EXPECT_EQ(result.steps, 5);
  EXPECT_EQ(trained, 40);
  EXPECT_EQ(held, 5 * 20);
  ASSERT_EQ(result.history.validations.size(), 5U);
  EXPECT_EQ(result.history.validations[0].metrics, (Metrics{{"examples", 20}}));
}

TEST(TrainTask, RefusesATaskThatLacksSomething) {
  Fit fit;
  auto task = fit.task();
  task.loss = nullptr;
  fit.refuse(task, {}, "the task must have a loss. Got none.");
  task = fit.task();
  task.examples = 0;
  fit.refuse(task, {}, "the task must have at least 1 example. Got 0.");
  task = fit.task();
  task.parameters.clear();
  fit.refuse(task, {}, "the task must have parameters to train. Got none.");
  task = fit.task();
  task.parameters[1].name = task.parameters[0].name;
  fit.refuse(task, {}, "the names of the parameters must differ. Got \"weight\" twice.");
  task = fit.task();
  task.parameters[0].rate = 0;
  fit.refuse(task, {}, "the rate of a parameter must be finite and above 0. Got 0 for \"weight\".");
  fit.refuse(fit.stream(3), {}, "a stream of examples needs steps. Got 0.");
  fit.refuse(fit.stream(3), {.steps = 3, .validation = 0.5},
             "a stream of examples has none to hold back");
  fit.refuse(fit.task(), {.patience = 3},
             "patience needs examples that are held back. Got patience 3 without validation.");
  fit.refuse(fit.task(), {.replay = 0.5},
             "replay needs a share above 0 and replay_indices. Got a share");
}

TEST(TrainTask, RefusesIndicesThatItDoesNotHave) {
  Fit fit;
  for (const auto& indices :
       {at::tensor({0, 60}, at::kLong), at::tensor({-1}, at::kLong), at::ones({3}),
        at::zeros({2, 2}, at::kLong), at::zeros({0}, at::kLong)}) {
    auto task = fit.task();
    task.indices = indices;
    fit.refuse(task, {}, "indices must be int64 of one dimension in 0 to 59. Got ");
    task = fit.task();
    task.held_back = indices;
    fit.refuse(task, {}, "held_back must be int64 of one dimension in 0 to 59. Got ");
  }
  auto task = fit.task();
  task.indices = at::tensor({1, 2, 3}, at::kLong);
  task.held_back = at::tensor({3, 4}, at::kLong);
  fit.refuse(task, {},
             "examples that are held back must not be trained on. Got 1 that are in indices");
  task.held_back = at::tensor({4}, at::kLong);
  fit.refuse(task, {.validation = 0.1},
             "validation must be 0 if the task holds examples back itself. Got 0.1.");
}

TEST(TrainTask, RefusesALossThatIsNone) {
  Fit fit;
  auto task = fit.task();
  task.loss = [&](const at::Tensor&) { return at::ones({3}); };
  LOWRANK_EXPECT_ERROR(train(task, {}), TensorError, "must be a tensor of one number. Got 3");
  task.loss = [&](const at::Tensor&) { return at::Tensor(); };
  LOWRANK_EXPECT_ERROR(train(task, {}), TensorError, "Got an undefined tensor");
  task.loss = [&](const at::Tensor&) { return at::ones({}); };
  LOWRANK_EXPECT_ERROR(train(task, {}), TensorError,
                       "the loss must depend on the parameters that are trained. Got one without");
}

}  // namespace
}  // namespace lowrank
