// Covers src/optim/adam.cc and accelerate.cc together.

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <lowrank/error.h>
#include <lowrank/optim/accelerate.h>
#include <lowrank/optim/adam.h>
#include <lowrank/train/sampler.h>
#include <lowrank/train/trainer.h>
#include <torch/nn/modules/linear.h>

#include <memory>
#include <optional>
#include <vector>

#include "app/models/mlp.h"
#include "support/expect_error.h"

// accelerate(model, optimizer) is compared with accelerate(model): it takes the same steps, without
// forming the gradients of the weights.
namespace lowrank {
namespace {

app::Mlp seeded_model() {
  at::manual_seed(5);
  return app::Mlp(app::MlpOptions{.sizes = {20, 30, 7}});
}

/// A model that is trained in one of the two ways.
struct Training {
  app::Mlp model = seeded_model();
  Adam optimizer{model->parameters()};
  std::optional<Acceleration> fast;

  explicit Training(bool deferred) {
    fast = deferred ? accelerate(*model, optimizer) : accelerate(*model);
  }

  void backward(const at::Tensor& x) { model->forward(x).square().sum().backward(); }

  at::Tensor weight() const { return model->parameters()[0]; }
};

void expect_equal_tensors(const Training& one, const Training& other) {
  for (size_t i = 0; i < one.model->parameters().size(); ++i) {
    EXPECT_TRUE(at::equal(one.model->parameters()[i], other.model->parameters()[i])) << i;
  }
}

TEST(AcceleratedAdam, TakesTheStepsOfFormedGradients) {
  Training formed(false), deferred(true);
  EXPECT_EQ(deferred.fast->layers(), 2U);
  for (int i = 0; i < 10; ++i) {
    const auto x = at::randn({10, 20});
    for (auto* training : {&formed, &deferred}) {
      training->optimizer.zero_grad();
      training->backward(x);
      training->optimizer.step();
    }
    expect_equal_tensors(deferred, formed);
    for (const auto& parameter : deferred.model->parameters()) {
      EXPECT_EQ(parameter.grad().defined(), parameter.dim() == 1) << "of biases alone";
    }
  }
}

TEST(AcceleratedAdam, FormsTheGradientsThatAreAskedFor) {
  Training formed(false), deferred(true);
  const auto x = at::randn({10, 20});
  for (auto* training : {&formed, &deferred}) training->backward(x);
  deferred.optimizer.form_gradients();
  for (size_t i = 0; i < formed.model->parameters().size(); ++i) {
    EXPECT_TRUE(
        at::equal(deferred.model->parameters()[i].grad(), formed.model->parameters()[i].grad()));
  }
  for (auto* training : {&formed, &deferred}) training->optimizer.step();
  expect_equal_tensors(deferred, formed);
}

TEST(AcceleratedAdam, AddsUpSeveralBackwardPasses) {
  Training formed(false), deferred(true);
  for (int i = 0; i < 3; ++i) {
    const auto x = at::randn({10, 20});
    for (auto* training : {&formed, &deferred}) training->backward(x);
  }
  EXPECT_TRUE(deferred.weight().grad().defined()) << "that of the second and third";
  deferred.optimizer.form_gradients();
  EXPECT_TRUE(at::allclose(deferred.weight().grad(), formed.weight().grad(), 1e-5, 1e-6));
}

TEST(AcceleratedAdam, DropsWhatZeroGradDrops) {
  Training deferred(true);
  const auto before = deferred.weight().detach().clone();
  deferred.backward(at::randn({10, 20}));
  deferred.optimizer.zero_grad();
  deferred.optimizer.step();
  EXPECT_TRUE(at::equal(deferred.weight(), before));
}

TEST(AcceleratedAdam, RefusesInputsThatWereChangedBeforeTheStep) {
  auto model = seeded_model();
  const auto parameters = model->parameters();
  Adam optimizer({parameters[2], parameters[0]});  // the first layer's weight comes last
  const auto fast = accelerate(*model, optimizer);
  const auto before = parameters[2].detach().clone();
  const auto x = at::randn({10, 20});
  model->forward(x).square().sum().backward();
  x.zero_();
  LOWRANK_EXPECT_ERROR(optimizer.step(), TensorError,
                       "the tensors that a gradient is computed from must not change before the "
                       "step. Got one that was changed in place");
  EXPECT_TRUE(at::equal(parameters[2], before)) << "all or nothing";
  EXPECT_ANY_THROW(optimizer.step()) << "the gradients are there until they are dropped";
  optimizer.zero_grad();
  optimizer.step();
  EXPECT_TRUE(at::equal(parameters[2], before));
}

/// The optimizer may update a tensor that is the input of a layer.
TEST(AcceleratedAdam, FormsTheGradientOfAnInputThatItMovesBeforeThat) {
  struct Prompted {
    at::Tensor prompt = at::randn({4, 8}).requires_grad_();
    torch::nn::Linear linear{8, 5};
    Adam optimizer{{prompt, linear->weight, linear->bias}, {.learning_rate = 1}};
    std::optional<Acceleration> fast;

    explicit Prompted(bool deferred) {
      fast = deferred ? accelerate(*linear, optimizer) : accelerate(*linear);
      linear->forward(prompt).square().sum().backward();
      optimizer.step();
    }
  };
  at::manual_seed(7);
  const Prompted formed(false);
  at::manual_seed(7);
  const Prompted deferred(true);
  EXPECT_TRUE(at::equal(deferred.prompt, formed.prompt));
  EXPECT_TRUE(at::equal(deferred.linear->weight, formed.linear->weight));
}

TEST(AcceleratedAdam, TakesTheSameStepsFromInputsThatLieByColumns) {
  Training formed(false), deferred(true);
  const auto x = at::randn({20, 50}).t();
  for (auto* training : {&formed, &deferred}) {
    training->backward(x);
    training->optimizer.step();
  }
  expect_equal_tensors(deferred, formed);
}

/// Another tensor that shares the weight's memory has its own gradient.
TEST(AcceleratedAdam, LeavesTheGradientOfAnotherTensorToIt) {
  Training deferred(true);
  const auto before = deferred.weight().detach().clone();
  const auto other = deferred.weight().detach().requires_grad_();
  at::linear(at::randn({10, 20}), other).sum().backward();
  EXPECT_TRUE(other.grad().defined());
  at::mm(at::randn({10, 20}), other.t()).sum().backward();
  deferred.optimizer.step();
  EXPECT_TRUE(at::equal(deferred.weight(), before));
}

TEST(AcceleratedAdam, LeavesGradientsToOthersWhereNoOptimizerTakesThem) {
  auto model = seeded_model();
  const auto parameters = model->parameters();
  auto optimizer = std::make_unique<Adam>(std::vector<at::Tensor>{parameters[0]});
  const auto fast = accelerate(*model, *optimizer);
  const auto backward = [&] { model->forward(at::randn({10, 20})).sum().backward(); };
  backward();
  EXPECT_FALSE(parameters[0].grad().defined());
  EXPECT_TRUE(parameters[2].grad().defined()) << "which this optimizer does not move";
  optimizer.reset();
  backward();
  EXPECT_TRUE(parameters[0].grad().defined());
}

TEST(AcceleratedAdam, EndsWithTheAcceleration) {
  Training deferred(true);
  deferred.fast->end();
  deferred.backward(at::randn({10, 20}));
  EXPECT_TRUE(deferred.weight().grad().defined());
}

/// Clipping must see every gradient.
TEST(AcceleratedAdam, TrainsWithClippedGradients) {
  at::manual_seed(6);
  const auto inputs = at::randn({40, 20});
  const auto labels = at::randint(0, 7, {40}, at::kLong);
  const auto trained = [&](bool accelerated) {
    auto model = seeded_model();
    TrainTask task;
    task.examples = 40;
    task.loss = [&](const at::Tensor& indices) {
      return at::cross_entropy_loss(model->forward(inputs.index_select(0, indices)),
                                    labels.index_select(0, indices));
    };
    task.parameters = trained_parameters(*model);
    if (accelerated) task.accelerated = model.get();
    train(task, {.steps = 12, .clip_norm = 0.01, .accumulate = 2});
    return model->parameters();
  };
  const auto found = trained(true), expected = trained(false);
  for (size_t i = 0; i < found.size(); ++i) {
    EXPECT_TRUE(at::allclose(found[i], expected[i], 1e-4, 1e-5)) << i;
  }
}

}  // namespace
}  // namespace lowrank
