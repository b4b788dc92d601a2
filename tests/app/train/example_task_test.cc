#include "app/train/example_task.h"

#include <gtest/gtest.h>
#include <lowrank/error.h>

#include <cmath>

#include "train/training_problem.h"

namespace lowrank::app {
namespace {

TEST(ExampleTask, LossIsTheCrossEntropyOfTheLogits) {
  TrainingProblem problem;
  const auto indices = at::tensor({3, 0, 39}, at::kLong);
  const auto images = problem.images();
  const auto logits = outputs_at(images, indices);
  EXPECT_TRUE(at::equal(
      logits, problem.model->forward(batch_inputs(problem.data, indices, images.normalization))));
  const auto expected = at::cross_entropy_loss(logits, batch_labels(problem.data, indices));
  EXPECT_TRUE(at::equal(train_task(images).loss(indices), expected));
  EXPECT_EQ(train_task(images).examples, 40);
}

TEST(ExampleTask, RefusesANormalization) {
  TrainingProblem problem;
  for (const auto& bad : {Normalization{{std::nan("")}, {1}}, Normalization{{0}, {0}},
                          Normalization{{0}, {1e-45}}, Normalization{{1e300}, {1}}}) {
    auto images = problem.images();
    images.normalization = bad;
    EXPECT_THROW(train_task(images), ArgumentError) << bad.mean[0] << " " << bad.deviation[0];
  }
}

}  // namespace
}  // namespace lowrank::app
