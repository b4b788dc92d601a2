#include "app/train/evaluate.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <lowrank/error.h>

#include <vector>

#include "support/expect_error.h"

namespace lowrank::app {
namespace {

using Counts = std::vector<int64_t>;

Dataset labelled(const Counts& labels, int64_t classes) {
  const auto count = static_cast<int64_t>(labels.size());
  return {at::zeros({count, 1, 1}, at::kByte), at::tensor(labels), "test", classes};
}

/// Returns logits that predict these classes.
at::Tensor saying(const Counts& predictions, int64_t classes) {
  return at::one_hot(at::tensor(predictions), classes).to(at::kFloat);
}

TEST(Evaluate, CountsByClass) {
  const auto data = labelled({0, 0, 0, 1, 1, 3}, 4);
  const auto evaluation = evaluate(saying({0, 2, 2, 1, 0, 3}, 4), data);
  EXPECT_EQ(evaluation.correct, 3);
  EXPECT_EQ(evaluation.total, 6);
  EXPECT_EQ(evaluation.accuracy(), 0.5);
  EXPECT_EQ(evaluation.wrong_by_class, (Counts{2, 1, 0, 0}));
  EXPECT_EQ(evaluation.total_by_class, (Counts{3, 2, 0, 1}));
  const auto expected = at::tensor(Counts{1, 0, 2, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1});
  EXPECT_EQ(evaluation.confusion.scalar_type(), at::kLong);
  EXPECT_TRUE(at::equal(evaluation.confusion, expected.view({4, 4}))) << evaluation.confusion;
}

TEST(Evaluate, TheFirstOfEqualLogitsIsThePrediction) {
  const auto evaluation = evaluate(at::zeros({2, 3}), labelled({0, 2}, 3));
  EXPECT_EQ(evaluation.wrong_by_class, (Counts{0, 0, 1}));
  EXPECT_EQ(evaluation.confusion[2][0].item<int64_t>(), 1);
}

TEST(Evaluate, EqualityLooksAtEveryPrediction) {
  const auto data = labelled({0, 1, 2}, 3);
  const auto first = evaluate(saying({0, 2, 2}, 3), data);
  EXPECT_TRUE(first == evaluate(saying({0, 2, 2}, 3), data));
  EXPECT_FALSE(first == evaluate(saying({0, 0, 2}, 3), data)) << "the same counts by class";
  EXPECT_FALSE(first == evaluate(saying({0, 1, 2}, 3), data));
}

TEST(Evaluate, RefusesLogitsOfAnotherShape) {
  const auto data = labelled({0, 1}, 3);
  LOWRANK_EXPECT_ERROR(evaluate(at::zeros({2, 4}), data), TensorError,
                       "[evaluate] logits must have shape (2, 3). Got (2, 4).");
  LOWRANK_EXPECT_ERROR(evaluate(at::zeros({3, 3}), data), TensorError, "Got (3, 3).");
  LOWRANK_EXPECT_ERROR(evaluate(at::zeros({6}), data), TensorError, "Got (6).");
}

TEST(ComputeLogits, RunsAllImagesInBatchesWithoutGradients) {
  at::manual_seed(0);
  const auto images = at::randint(0, 256, {2003, 2, 3}, at::kByte);
  const Dataset data{images, at::zeros({2003}, at::kLong), "test", 4};
  const auto weight = at::randn({4, 6}, at::TensorOptions().dtype(at::kDouble)).requires_grad_();
  std::vector<int64_t> batches;
  const auto logits = compute_outputs(
      [&](const at::Tensor& x) {
        EXPECT_FALSE(at::GradMode::is_enabled());
        batches.push_back(x.size(0));
        return at::linear(x, weight);
      },
      data, {{0.5}, {0.25}}, at::kDouble);
  EXPECT_EQ(batches, (Counts{1000, 1000, 3}));
  EXPECT_FALSE(logits.requires_grad());
  const auto inputs = (images.to(at::kDouble) / 255 - 0.5) / 0.25;
  EXPECT_TRUE(at::allclose(logits, inputs.flatten(1).mm(weight.detach().t()), 1e-6, 1e-6));
}

}  // namespace
}  // namespace lowrank::app
