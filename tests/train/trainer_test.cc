#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <lowrank/error.h>
#include <lowrank/io/safetensors.h>
#include <lowrank/optim/adam.h>

#include <cmath>
#include <limits>
#include <vector>

#include "app/images/sampler.h"
#include "app/train/training_problem.h"
#include "support/expect_error.h"
#include "support/temporary_folder.h"

namespace lowrank::app {
namespace {

double relative_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).norm().item<double>() / b.norm().item<double>();
}

TEST(Trainer, TakesTheStepsOfAPlainLoop) {
  TrainingProblem expected;
  Adam optimizer(expected.model->parameters(), {.learning_rate = 0.01});
  Sampler sampler(at::arange(40, at::kLong), {.batch_size = 6, .seed = 5});
  double last = 0;
  for (int step = 0; step < 14; ++step) {
    const auto indices = sampler.next();
    optimizer.zero_grad();
    const auto inputs = batch_inputs(expected.data, indices, {});
    const auto loss = at::cross_entropy_loss(expected.model->forward(inputs),
                                             batch_labels(expected.data, indices));
    loss.backward();
    optimizer.step();
    if (step >= 7) last += loss.item<double>() / 7;
  }
  TrainingProblem problem;
  const auto result =
      train(problem.task(), {.epochs = 2, .batch_size = 6, .learning_rate = 0.01, .seed = 5},
            quiet_run());
  EXPECT_TRUE(at::equal(problem.weights(), expected.weights()));
  EXPECT_EQ(result.steps, 14);
  EXPECT_NEAR(result.mean_loss, last, 1e-12) << "over the second epoch";
}

TEST(Trainer, StopsAtItsStepLimit) {
  TrainingProblem problem;
  EXPECT_EQ(train(problem.task(), {.epochs = 1, .steps = 13, .batch_size = 40}, quiet_run()).steps,
            13);
  EXPECT_EQ(problem.forwards, 13);
  EXPECT_EQ(train(problem.task(), {.steps = 1}, quiet_run()).steps, 1);
  EXPECT_EQ(problem.forwards, 14);
}

TEST(Trainer, AnEpochHasAllExamples) {
  TrainingProblem problem;
  const auto result = train(problem.task(), {.epochs = 2, .batch_size = 6}, quiet_run());
  EXPECT_EQ(result.steps, 14);
  EXPECT_EQ(problem.forwards, 14);
  TrainingProblem other;
  EXPECT_EQ(train(other.task(), {.epochs = 2, .batch_size = 6, .accumulate = 3}, quiet_run()).steps,
            5);
}

TEST(Trainer, AccumulatingIsALargerBatch) {
  TrainingProblem large(0, at::kDouble);
  train(large.task(), {.steps = 8, .batch_size = 20, .learning_rate = 0.01}, quiet_run());
  TrainingProblem small(0, at::kDouble);
  train(small.task(), {.steps = 8, .batch_size = 5, .learning_rate = 0.01, .accumulate = 4},
        quiet_run());
  EXPECT_EQ(small.forwards, 32);
  EXPECT_LT(relative_difference(small.weights(), large.weights()), 1e-9);
}

TEST(Trainer, ClipsTheNormOfAllGradients) {
  TrainingProblem free;
  train(free.task(), {.steps = 1}, quiet_run());
  const double norm = free.gradients().norm().item<double>();
  TrainingProblem clipped;
  train(clipped.task(), {.steps = 1, .clip_norm = norm / 3}, quiet_run());
  EXPECT_NEAR(clipped.gradients().norm().item<double>(), norm / 3, 1e-4 * norm);
  EXPECT_LT(relative_difference(clipped.gradients() * 3, free.gradients()), 1e-4)
      << "the direction stays";
  TrainingProblem loose;
  train(loose.task(), {.steps = 1, .clip_norm = norm * 3}, quiet_run());
  EXPECT_TRUE(at::equal(loose.gradients(), free.gradients()));
}

TEST(Trainer, FollowsItsSchedule) {
  // Adam's first step moves each weight with a gradient by the learning rate.
  TrainingProblem problem;
  const auto before = problem.weights();
  train(problem.task(), {.steps = 1, .learning_rate = 0.01, .schedule = {.warmup_steps = 4}},
        quiet_run());
  EXPECT_NEAR((problem.weights() - before).abs().max().item<double>(), 0.01 / 4, 1e-6);
}

TEST(Trainer, KeepsTheBestOnTheValidationShare) {
  TrainingProblem problem;
  const auto held =
      split_validation(at::arange(40, at::kLong), /*share=*/0.25, /*seed=*/3).validation;
  const auto labels = batch_labels(problem.data, held);
  std::vector<double> losses;
  std::vector<at::Tensor> weights;
  auto task = problem.task();
  task.forward = [&](const at::Tensor& x) {
    const auto logits = problem.model->forward(x);
    if (at::GradMode::is_enabled()) return logits;
    EXPECT_EQ(x.size(0), 10);
    losses.push_back(at::cross_entropy_loss(logits, labels).item<double>());
    weights.push_back(problem.weights());
    return logits;
  };
  // The labels are random, so learning the training examples soon makes the validation loss worse.
  const auto result =
      train(task, {.steps = 60, .learning_rate = 0.02, .validation = 0.25, .seed = 3}, quiet_run());
  const auto best =
      static_cast<size_t>(std::min_element(losses.begin(), losses.end()) - losses.begin());
  ASSERT_GE(losses.size(), 10U);
  ASSERT_LT(best + 1, losses.size()) << "the last is the best: the test shows nothing";
  EXPECT_NEAR(result.best_validation_loss, losses[best], 1e-9);
  EXPECT_TRUE(at::equal(problem.weights(), weights[best]));
  EXPECT_EQ(result.steps, 60);
  EXPECT_GT(result.best_step, 0);
  EXPECT_LT(result.best_step, 60);
}

TEST(Trainer, ValidatesAndEndsInEvaluationMode) {
  TrainingProblem problem;
  problem.model->eval();
  std::vector<bool> modes;
  problem.on_forward = [&](int64_t) { modes.push_back(problem.model->is_training()); };
  train(problem.task(), {.steps = 2, .batch_size = 30, .validation = 0.25}, quiet_run());
  EXPECT_EQ(modes, (std::vector<bool>{true, false, true, false}));
  EXPECT_FALSE(problem.model->is_training());
}

TEST(Trainer, HeldBackExamplesAreNotTrainedOn) {
  TrainingProblem problem;
  const auto split = split_validation(at::arange(40, at::kLong), 0.25, 0);
  train(problem.task(), {.steps = 6, .validation = 0.25}, quiet_run());
  TrainingProblem spoilt;
  spoilt.data.labels = spoilt.data.labels.index_fill(0, split.validation, 0);
  spoilt.data.images = spoilt.data.images.index_fill(0, split.validation, 0);
  auto task = spoilt.task();
  task.indices = split.train;
  Sampler sampler(split.train, {.batch_size = 10});
  int64_t seen = 0;
  for (int i = 0; i < 3; ++i) seen += sampler.next().numel();
  EXPECT_EQ(seen, 30);
  // With all indices and the same split, the images held back cannot matter until the best step is
  // chosen. So the gradients of the first step are the same.
  TrainingProblem first, second;
  second.data = spoilt.data;
  train(first.task(), {.steps = 1, .validation = 0.25}, quiet_run());
  train(second.task(), {.steps = 1, .validation = 0.25}, quiet_run());
  EXPECT_TRUE(at::equal(first.gradients(), second.gradients()));
}

TEST(Trainer, ReplayMixesInTheSecondSet) {
  TrainingProblem problem;
  problem.data.labels = at::arange(40, at::kLong).remainder(2);
  auto task = problem.task();
  task.indices = indices_of_class(problem.data, 1);
  task.replay_indices = indices_of_other_classes(problem.data, 1);
  std::vector<int64_t> sizes;
  task.forward = [&](const at::Tensor& x) {
    sizes.push_back(x.size(0));
    return problem.model->forward(x);
  };
  // 20 images are of the class. A batch has 6 of them and 4 others, so there are 4 batches, and the
  // last one has 2 and 1.
  train(task, {.batch_size = 10, .replay = 0.4}, quiet_run());
  EXPECT_EQ(sizes, (std::vector<int64_t>{10, 10, 10, 3}));
}

TEST(Trainer, RefusesALossThatIsNotFinite) {
  TrainingProblem problem;
  auto task = problem.task();
  int64_t step = 0;
  task.forward = [&](const at::Tensor& x) {
    const double factor = ++step == 3 ? std::numeric_limits<double>::quiet_NaN() : 1;
    return problem.model->forward(x) * factor;
  };
  LOWRANK_EXPECT_ERROR(train(task, {.steps = 5}, quiet_run()), TensorError,
                       "[train] the loss must stay finite. Got NaN at step 3. Nothing was kept. A "
                       "lower learning rate or --clip-norm may help.");
}

TEST(Trainer, NeverKeepsParametersThatAreNotFinite) {
  const TemporaryFolder folder;
  TrainingProblem problem;
  const auto run = RunOptions{.checkpoint = folder / "state", .quiet = true};
  LOWRANK_EXPECT_ERROR(
      train(problem.task(), {.steps = 1, .learning_rate = 1e40}, run), TensorError,
      "\"linear1.weight\" must stay finite. Got NaN or Inf after step 1. Nothing was "
      "kept.");
  EXPECT_FALSE(std::filesystem::exists(folder / "state")) << "it would diverge again";
}

TEST(Trainer, RefusesAValidationLossThatIsNotFinite) {
  TrainingProblem problem;
  LOWRANK_EXPECT_ERROR(
      train(problem.task(), {.steps = 1, .learning_rate = 1e38, .validation = 0.25}, quiet_run()),
      TensorError, "[train] the validation loss must stay finite. Got ");
}

TEST(Trainer, RefusesANormalizationBeforeItWrites) {
  const TemporaryFolder folder;
  TrainingProblem problem;
  const auto run = RunOptions{.checkpoint = folder / "state", .quiet = true};
  for (const Normalization bad : {Normalization{std::nan(""), 1}, {0, 0}, {0, 1e-45}, {1e300, 1}}) {
    auto task = problem.task();
    task.normalization = bad;
    EXPECT_THROW(train(task, {.steps = 1}, run), ArgumentError) << bad.mean << " " << bad.deviation;
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(Trainer, RefusesOptionsBeforeItStarts) {
  TrainingProblem problem;
  LOWRANK_EXPECT_ERROR(train(problem.task(), {.batch_size = 0}, quiet_run()), ArgumentError,
                       "the batch size must be at least 1");
  EXPECT_EQ(problem.forwards, 0);
}

}  // namespace
}  // namespace lowrank::app
