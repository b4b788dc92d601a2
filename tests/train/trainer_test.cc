#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <lowrank/error.h>
#include <lowrank/io/safetensors.h>
#include <lowrank/optim/adam.h>
#include <lowrank/train/sampler.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>
#include <vector>

#include "support/expect_error.h"
#include "support/temporary_folder.h"
#include "train/training_problem.h"

namespace lowrank {
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
    const auto inputs = app::batch_inputs(expected.data, indices, {});
    const auto loss = at::cross_entropy_loss(expected.model->forward(inputs),
                                             app::batch_labels(expected.data, indices));
    loss.backward();
    optimizer.step();
    if (step >= 7) last += loss.item<double>() / 7;
  }
  TrainingProblem problem;
  const auto result =
      train(problem.task(), {.epochs = 2, .batch_size = 6, .learning_rate = 0.01, .seed = 5});
  EXPECT_TRUE(at::equal(problem.weights(), expected.weights()));
  EXPECT_EQ(result.steps, 14);
  EXPECT_NEAR(result.mean_loss, last, 1e-12) << "over the second epoch";
}

TEST(Trainer, StopsAtItsStepLimit) {
  TrainingProblem problem;
  EXPECT_EQ(train(problem.task(), {.epochs = 1, .steps = 13, .batch_size = 40}).steps, 13);
  EXPECT_EQ(problem.forwards, 13);
  EXPECT_EQ(train(problem.task(), {.steps = 1}).steps, 1);
  EXPECT_EQ(problem.forwards, 14);
}

TEST(Trainer, AnEpochHasAllExamples) {
  TrainingProblem problem;
  const auto result = train(problem.task(), {.epochs = 2, .batch_size = 6});
  EXPECT_EQ(result.steps, 14);
  EXPECT_EQ(problem.forwards, 14);
  TrainingProblem other;
  EXPECT_EQ(train(other.task(), {.epochs = 2, .batch_size = 6, .accumulate = 3}).steps, 5);
}

TEST(Trainer, AccumulatingIsALargerBatch) {
  TrainingProblem large(0, at::kDouble);
  train(large.task(), {.steps = 8, .batch_size = 20, .learning_rate = 0.01});
  TrainingProblem small(0, at::kDouble);
  train(small.task(), {.steps = 8, .batch_size = 5, .learning_rate = 0.01, .accumulate = 4});
  EXPECT_EQ(small.forwards, 32);
  EXPECT_LT(relative_difference(small.weights(), large.weights()), 1e-9);
}

TEST(Trainer, ClipsTheNormOfAllGradients) {
  TrainingProblem free;
  train(free.task(), {.steps = 1});
  const double norm = free.gradients().norm().item<double>();
  TrainingProblem clipped;
  train(clipped.task(), {.steps = 1, .clip_norm = norm / 3});
  EXPECT_NEAR(clipped.gradients().norm().item<double>(), norm / 3, 1e-4 * norm);
  EXPECT_LT(relative_difference(clipped.gradients() * 3, free.gradients()), 1e-4)
      << "the direction stays";
  TrainingProblem loose;
  train(loose.task(), {.steps = 1, .clip_norm = norm * 3});
  EXPECT_TRUE(at::equal(loose.gradients(), free.gradients()));
}

TEST(Trainer, FollowsItsSchedule) {
  // Adam's first step moves each weight with a gradient by the learning rate.
  TrainingProblem problem;
  const auto before = problem.weights();
  train(problem.task(), {.steps = 1, .learning_rate = 0.01, .schedule = {.warmup_steps = 4}});
  EXPECT_NEAR((problem.weights() - before).abs().max().item<double>(), 0.01 / 4, 1e-6);
}

TEST(Trainer, KeepsTheBestOnTheValidationShare) {
  TrainingProblem problem;
  const auto held =
      split_validation(at::arange(40, at::kLong), /*share=*/0.25, /*seed=*/3).validation;
  const auto labels = app::batch_labels(problem.data, held);
  std::vector<double> losses;
  std::vector<at::Tensor> weights;
  auto images = problem.images();
  images.forward = [&](const at::Tensor& x) {
    const auto logits = problem.model->forward(x);
    if (at::GradMode::is_enabled()) return logits;
    EXPECT_EQ(x.size(0), 10);
    losses.push_back(at::cross_entropy_loss(logits, labels).item<double>());
    weights.push_back(problem.weights());
    return logits;
  };
  // The labels are random, so learning the training examples soon makes the validation loss worse.
  const auto result = train(problem.task(images),
                            {.steps = 60, .learning_rate = 0.02, .validation = 0.25, .seed = 3});
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
  train(problem.task(), {.steps = 2, .batch_size = 30, .validation = 0.25});
  EXPECT_EQ(modes, (std::vector<bool>{true, false, true, false}));
  EXPECT_FALSE(problem.model->is_training());
}

TEST(Trainer, HeldBackExamplesAreNotTrainedOn) {
  TrainingProblem problem;
  const auto split = split_validation(at::arange(40, at::kLong), 0.25, 0);
  train(problem.task(), {.steps = 6, .validation = 0.25});
  TrainingProblem spoilt;
  spoilt.data.labels = spoilt.data.labels.index_fill(0, split.validation, 0);
  spoilt.data.inputs = spoilt.data.inputs.index_fill(0, split.validation, 0);
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
  train(first.task(), {.steps = 1, .validation = 0.25});
  train(second.task(), {.steps = 1, .validation = 0.25});
  EXPECT_TRUE(at::equal(first.gradients(), second.gradients()));
}

TEST(Trainer, ReplayMixesInTheSecondSet) {
  TrainingProblem problem;
  problem.data.labels = at::arange(40, at::kLong).remainder(2);
  std::vector<int64_t> sizes;
  auto images = problem.images();
  images.forward = [&](const at::Tensor& x) {
    sizes.push_back(x.size(0));
    return problem.model->forward(x);
  };
  auto task = problem.task(images);
  task.indices = app::indices_of_class(problem.data, 1);
  task.replay_indices = app::indices_of_other_classes(problem.data, 1);
  // 20 images are of the class. A batch has 6 of them and 4 others, so there are 4 batches, and the
  // last one has 2 and 1.
  train(task, {.batch_size = 10, .replay = 0.4});
  EXPECT_EQ(sizes, (std::vector<int64_t>{10, 10, 10, 3}));
}

TEST(Trainer, TellsEachStepAndEndsWhereItIsTold) {
  TrainingProblem problem;
  std::vector<TrainProgress> told;
  const auto result = train(problem.task(), {.steps = 20, .clip_norm = 1},
                            {.on_step = [&](const TrainProgress& progress) {
                              told.push_back(progress);
                              return progress.step < 7;
                            }});
  EXPECT_EQ(result.steps, 7);
  EXPECT_EQ(result.end, TrainEnd::kCallback);
  EXPECT_EQ(problem.forwards, 7);
  ASSERT_EQ(told.size(), 7U);
  EXPECT_EQ(told[2].step, 3);
  EXPECT_EQ(told[2].total, 20);
  EXPECT_EQ(told[2].learning_rate, 1e-3);
  EXPECT_GT(told[2].seconds, told[1].seconds);
  ASSERT_TRUE(told[2].gradient_norm.has_value());
  EXPECT_GT(*told[2].gradient_norm, 0);
  EXPECT_EQ(result.history.points[2].loss, told[2].loss);
}

TEST(Trainer, EndsWhenItsPatienceDoes) {
  TrainingProblem whole;
  const TrainOptions options = {
      .steps = 200, .learning_rate = 0.02, .validation = 0.25, .validate_every = 4, .seed = 3};
  const auto all = train(whole.task(), options);
  // The labels are random, so the validation loss soon rises.
  TrainingProblem problem;
  auto patient = options;
  patient.patience = 3;
  std::vector<bool> best;
  const auto result = train(problem.task(), patient, {.on_validation = [&](const auto& progress) {
                              best.push_back(progress.is_best);
                              return true;
                            }});
  EXPECT_EQ(result.end, TrainEnd::kPatience);
  EXPECT_EQ(result.steps, result.best_step + 12);
  EXPECT_LT(result.steps, all.steps);
  ASSERT_GE(best.size(), 4U);
  EXPECT_EQ(std::vector<bool>(best.end() - 4, best.end()),
            (std::vector<bool>{true, false, false, false}));
  EXPECT_EQ(static_cast<int64_t>(best.size()), result.steps / 4);
}

TEST(Trainer, EndsAtItsTimeLimitAndValidatesWhatItHas) {
  TrainingProblem problem;
  const auto result =
      train(problem.task(), {.steps = 1'000'000, .seconds = 0.05, .validation = 0.25});
  EXPECT_EQ(result.end, TrainEnd::kSeconds);
  EXPECT_LT(result.steps, 1'000'000);
  ASSERT_FALSE(result.history.validations.empty());
  EXPECT_EQ(result.history.validations.back().step, result.steps);
  EXPECT_GT(result.best_step, 0);
}

TEST(Trainer, EndsWhereAValidationIsNotWanted) {
  TrainingProblem problem;
  const auto result =
      train(problem.task(), {.steps = 50, .validation = 0.25, .validate_every = 5},
            {.on_validation = [](const TrainProgress& progress) { return progress.step < 10; }});
  EXPECT_EQ(result.steps, 10);
  EXPECT_EQ(result.end, TrainEnd::kCallback);
}

TEST(Trainer, LogsItsCourseWithoutChangingIt) {
  const TemporaryFolder folder;
  const TrainOptions options = {.steps = 12, .validation = 0.25, .validate_every = 6, .seed = 3};
  TrainingProblem plain, logged;
  for (auto* problem : {&plain, &logged}) problem->model->train();
  auto accelerated = plain.task();
  accelerated.accelerated = plain.model.get();
  train(accelerated, options);
  auto task = logged.task();
  task.accelerated = logged.model.get();
  task.metrics = [](const at::Tensor&) { return Metrics{{"accuracy", 0.5}}; };
  std::vector<int64_t> told;
  const auto result = train(
      task, options,
      {.log_to = folder.path(),
       .on_log = [&](RunLog&, const TrainProgress& progress) { told.push_back(progress.step); }});
  EXPECT_TRUE(at::equal(logged.weights(), plain.weights()));
  EXPECT_EQ(told, (std::vector<int64_t>{0, 6, 12}));
  std::vector<nlohmann::json> lines;
  std::istringstream text(read_bytes(folder / "metrics.jsonl"));
  for (std::string line; std::getline(text, line);) lines.push_back(nlohmann::json::parse(line));
  ASSERT_EQ(lines.size(), 14U);
  EXPECT_EQ(lines[0]["step"], 1);
  EXPECT_EQ(lines[0]["train/loss"], result.history.points[0].loss);
  EXPECT_GT(lines[0]["train/gradient_norm"], 0);
  EXPECT_GT(lines[0]["train/examples_per_second"], 0);
  EXPECT_GT(lines[0]["memory_mb"], 1);
  EXPECT_EQ(lines[6]["validation/loss"], result.history.validations[0].loss);
  EXPECT_EQ(lines[6]["validation/accuracy"], 0.5);
}

TEST(Trainer, HistoryHasTheMeanLossOfItsSteps) {
  TrainingProblem problem;
  std::vector<double> losses;
  const auto result =
      train(problem.task(), {.steps = 2500, .schedule = {.kind = ScheduleKind::kLinear}},
            {.on_step = [&](const TrainProgress& progress) {
              losses.push_back(progress.loss);
              return true;
            }});
  const auto& points = result.history.points;
  ASSERT_EQ(points.size(), 834U);
  EXPECT_EQ(points[0].step, 3);
  EXPECT_NEAR(points[0].loss, (losses[0] + losses[1] + losses[2]) / 3, 1e-12);
  EXPECT_EQ(points.back().step, 2500);
  EXPECT_NEAR(points.back().loss, losses.back(), 1e-12);
  EXPECT_NEAR(points[0].learning_rate, 1e-3 * 2498 / 2500, 1e-9);
}

TEST(Trainer, RefusesALossThatIsNotFinite) {
  TrainingProblem problem;
  auto images = problem.images();
  int64_t step = 0;
  images.forward = [&](const at::Tensor& x) {
    const double factor = ++step == 3 ? std::numeric_limits<double>::quiet_NaN() : 1;
    return problem.model->forward(x) * factor;
  };
  LOWRANK_EXPECT_ERROR(train(problem.task(images), {.steps = 5}), TensorError,
                       "[train] the loss must stay finite. Got NaN at step 3. Nothing was kept. A "
                       "lower learning rate or clipping may help.");
}

TEST(Trainer, NeverKeepsParametersThatAreNotFinite) {
  const TemporaryFolder folder;
  TrainingProblem problem;
  const auto run = RunOptions{.checkpoint = folder / "state"};
  LOWRANK_EXPECT_ERROR(
      train(problem.task(), {.steps = 1, .learning_rate = 1e40}, run), TensorError,
      "\"linear1.weight\" must stay finite. Got NaN or Inf after step 1. Nothing was "
      "kept.");
  EXPECT_FALSE(std::filesystem::exists(folder / "state")) << "it would diverge again";
}

TEST(Trainer, RefusesAValidationLossThatIsNotFinite) {
  TrainingProblem problem;
  LOWRANK_EXPECT_ERROR(
      train(problem.task(), {.steps = 1, .learning_rate = 1e38, .validation = 0.25}), TensorError,
      "[train] the validation loss must stay finite. Got ");
}

TEST(Trainer, RefusesOptionsBeforeItStarts) {
  TrainingProblem problem;
  LOWRANK_EXPECT_ERROR(train(problem.task(), {.batch_size = 0}), ArgumentError,
                       "batch_size must be at least 1");
  EXPECT_EQ(problem.forwards, 0);
}

}  // namespace
}  // namespace lowrank
