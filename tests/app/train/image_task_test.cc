#include "app/train/image_task.h"

#include <gtest/gtest.h>
#include <lowrank/error.h>

#include <cmath>

#include "train/training_problem.h"

namespace lowrank::app {
namespace {

TEST(ImageTask, LossIsTheCrossEntropyOfTheLogits) {
  TrainingProblem problem;
  const auto indices = at::tensor({3, 0, 39}, at::kLong);
  const auto images = problem.images();
  const auto logits = logits_at(images, indices);
  EXPECT_TRUE(at::equal(
      logits, problem.model->forward(batch_inputs(problem.data, indices, images.normalization))));
  const auto expected = at::cross_entropy_loss(logits, batch_labels(problem.data, indices));
  EXPECT_TRUE(at::equal(train_task(images).loss(indices), expected));
  EXPECT_EQ(train_task(images).examples, 40);
}

TEST(ImageTask, RefusesANormalization) {
  TrainingProblem problem;
  for (const Normalization bad : {Normalization{std::nan(""), 1}, {0, 0}, {0, 1e-45}, {1e300, 1}}) {
    auto images = problem.images();
    images.normalization = bad;
    EXPECT_THROW(train_task(images), ArgumentError) << bad.mean << " " << bad.deviation;
  }
}

}  // namespace
}  // namespace lowrank::app
