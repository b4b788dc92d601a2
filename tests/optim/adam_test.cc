#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <lowrank/adapter/adapter.h>
#include <lowrank/error.h>
#include <lowrank/io/safetensors.h>
#include <lowrank/optim/adam.h>
#include <lowrank/train/sampler.h>
#include <lowrank/train/trainer.h>
#include <torch/nn/modules/linear.h>
#include <torch/optim/adamw.h>

#include <limits>
#include <string>

#include "app/models/mlp.h"
#include "support/expect_error.h"
#include "support/temporary_folder.h"

// Covers optim/adam.cc and adam_file.cc.
// The optimizer is compared with torch::optim::Adam in float64, then train() with PyTorch's Adam on
// the fixtures' ten batches of four examples.
namespace lowrank {
namespace {

constexpr double kMostError = 1e-5;  // for ten steps in float32 with another order of summation

/// The fixture's examples in the order in which train() draws them.
struct Fixture {
  SafetensorsFile file;
  app::Mlp model{app::MlpOptions{.sizes = {8, 6, 5, 3}}};
  TrainTask task;

  explicit Fixture(const std::string& name)
      : file(SafetensorsFile::open(std::string(LOWRANK_FIXTURES) + "/" + name)) {
    Sampler sampler(at::arange(40, at::kLong), {.batch_size = 4});
    std::vector<at::Tensor> batches;
    for (int i = 0; i < 10; ++i) batches.push_back(sampler.next());
    const auto place = at::cat(batches).argsort();  // of each example in the fixture
    const auto inputs = file.tensor("inputs").view({40, 8}).index_select(0, place);
    const auto labels = file.tensor("labels").flatten().index_select(0, place);
    task.examples = 40;
    task.loss = [this, inputs, labels](const at::Tensor& indices) {
      return at::cross_entropy_loss(model->forward(inputs.index_select(0, indices)),
                                    labels.index_select(0, indices));
    };
    const at::NoGradGuard no_grad;
    for (auto& item : model->named_parameters()) {
      item.value().copy_(file.tensor("before." + item.key()));
    }
  }

  TrainResult run(int64_t steps) const {
    return train(task, {.steps = steps, .batch_size = 4, .learning_rate = 0.01});
  }

  void expect_losses(double mean_loss, int64_t steps) const {
    const auto expected = file.tensor("losses").slice(0, 0, steps).mean().item<double>();
    EXPECT_NEAR(mean_loss, expected, kMostError) << "after " << steps << " steps";
  }

  void expect_after(const std::string& name, const at::Tensor& found) const {
    const auto expected = file.tensor("after." + name);
    EXPECT_LT((found.detach() - expected).norm().item<double>(),
              kMostError * expected.norm().item<double>())
        << name;
  }
};

/// Takes `steps` steps on gradients from a fixed seed, scaled from 1e-6 to 1e6; every third step
/// has no gradient. Updates `parameter` and returns torch::optim::AdamW's result in float64, which
/// without weight decay is torch::optim::Adam's.
at::Tensor reference_steps(const at::Tensor& parameter, Adam& optimizer, int steps) {
  auto reference = parameter.detach().to(at::kDouble).clone().requires_grad_();
  const auto& options = optimizer.options();
  torch::optim::AdamW torch_adam(
      {reference},
      torch::optim::AdamWOptions(options.learning_rate).weight_decay(options.weight_decay));
  for (int step = 0; step < steps; ++step) {
    const auto exponents = at::randint(-6, 7, parameter.sizes(), at::kDouble);
    const auto gradient = at::randn(parameter.sizes(), at::kDouble) * at::pow(10, exponents);
    optimizer.zero_grad();
    reference.mutable_grad().reset();
    if (step % 3 != 2) {
      parameter.mutable_grad() = gradient.to(parameter.scalar_type());
      reference.mutable_grad() = gradient;
    }
    optimizer.step();
    torch_adam.step();
  }
  return reference.detach();
}

/// Marks parameters as trainable, as leaves whose gradients are set by hand.
template <class... Tensors>
void train_these(const Tensors&... parameters) {
  (parameters.set_requires_grad(true), ...);
}

double worst_difference(const at::Tensor& found, const at::Tensor& expected) {
  return (found.detach().to(at::kDouble) - expected).abs().max().item<double>();
}

TEST(Adam, StepsAsTorchsDoesInOnePass) {
  at::manual_seed(1);
  for (const int64_t count :
       {1, 7, 8, 31, 1000, 70001}) {  // around the sizes of vectors and threads
    for (const auto dtype : {at::kFloat, at::kDouble}) {
      const auto parameter = at::randn({count}, dtype).requires_grad_();
      Adam optimizer({parameter});
      const auto expected = reference_steps(parameter, optimizer, 12);
      EXPECT_LT(worst_difference(parameter, expected), dtype == at::kFloat ? 2e-6 : 1e-14)
          << count << " of " << c10::toString(dtype);
    }
  }
}

TEST(Adam, DecaysAsTorchsAdamWDoes) {
  at::manual_seed(3);
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    const auto flat = at::randn({1003}, dtype) * 10;
    const auto transposed = (at::randn({5, 7}, dtype) * 10).t();
    for (const auto& parameter : {flat, transposed}) {
      train_these(parameter);
      Adam optimizer({parameter}, {.learning_rate = 0.05, .weight_decay = 0.3});
      const auto expected = reference_steps(parameter, optimizer, 12);
      EXPECT_LT(worst_difference(parameter, expected), dtype == at::kFloat ? 2e-5 : 1e-13);
    }
  }
}

TEST(Adam, StepsAsTorchsDoesOnAnyLayoutAndDtype) {
  at::manual_seed(2);
  const auto transposed = at::randn({5, 7}).t();
  train_these(transposed);
  Adam by_columns({transposed});
  const auto expected = reference_steps(transposed, by_columns, 12);
  EXPECT_LT(worst_difference(transposed, expected), 2e-6);
  const auto rounded = at::randn({33}, at::kBFloat16);
  train_these(rounded);
  Adam of_bfloat16({rounded});
  const auto expected_rounded = reference_steps(rounded, of_bfloat16, 4);
  EXPECT_LT(worst_difference(rounded, expected_rounded), 2e-2);
}

/// LibTorch must see that a parameter was written to, because the gradient of an older graph would
/// be wrong.
TEST(Adam, CountsAsAWrite) {
  const auto parameter = at::randn({9}).requires_grad_();
  Adam optimizer({parameter});
  const auto loss = parameter.square().sum();
  loss.backward({}, /*retain_graph=*/true);
  const auto version = parameter._version();
  optimizer.step();
  EXPECT_GT(parameter._version(), version);
  EXPECT_THROW(loss.backward(), c10::Error);
}

TEST(Adam, RefusesAnUnmergeThatWouldUndoItsSteps) {
  torch::nn::Linear layer(8, 6);
  auto adapter = attach(*layer, {.rank = 2});
  adapter.merge();
  layer->weight.set_requires_grad(true);
  Adam optimizer({layer->weight});
  layer->forward(at::randn({3, 8})).sum().backward();
  optimizer.step();
  LOWRANK_EXPECT_ERROR(adapter.unmerge(), TensorError,
                       "a weight must not be written to between merge and unmerge");
}

TEST(Adam, RefusesWhatChangedItsShapeOrDtype) {
  const auto refused = [](const auto& change) {
    const auto first = at::ones({4}), parameter = at::ones({4});
    train_these(first);
    Adam optimizer({first, parameter});
    for (const auto& each : {first, parameter}) each.mutable_grad() = at::ones({4});
    change(parameter);
    LOWRANK_EXPECT_ERROR(optimizer.step(), TensorError,
                         "a parameter must keep the shape, dtype and device that it had");
    EXPECT_TRUE(at::equal(first, at::ones({4}))) << "nothing is moved";
    EXPECT_TRUE(first.grad().defined());
  };
  refused([](const at::Tensor& parameter) { parameter.set_data(at::zeros({100})); });
  refused([](const at::Tensor& parameter) {
    parameter.set_data(at::zeros({100}));
    parameter.mutable_grad() = at::ones({100});
  });
  refused([](const at::Tensor& parameter) {
    parameter.mutable_grad().reset();
    parameter.set_data(at::zeros({4}, at::kDouble));
    parameter.mutable_grad() = at::ones({4}, at::kDouble);
  });
}

/// The moments have the memory layout that the parameter had when the optimizer was made.
TEST(Adam, StepsWhereAParameterWasLaidOutAnew) {
  at::manual_seed(6);
  const auto turned = at::randn({5, 7}).t(), straight = turned.contiguous();
  train_these(turned, straight);
  Adam first({turned}), second({straight});
  for (int i = 0; i < 3; ++i) {
    const auto gradient = at::randn({7, 5});
    turned.mutable_grad() = gradient;
    straight.mutable_grad() = gradient.clone();
    first.step();
    second.step();
    if (i == 0) turned.set_data(turned.detach().contiguous());
  }
  EXPECT_TRUE(at::allclose(turned, straight, 1e-6, 1e-7));
}

TEST(Adam, StepsByNegatedGradients) {
  at::manual_seed(7);
  const auto one = at::randn({9}), other = one.clone();
  const auto gradient = at::randn({9});
  one.mutable_grad() = at::_neg_view(gradient);
  other.mutable_grad() = gradient.neg();
  ASSERT_TRUE(one.grad().is_neg());
  Adam({one}).step();
  Adam({other}).step();
  EXPECT_TRUE(at::equal(one, other));
}

TEST(Adam, GoesOnFromRestoredMoments) {
  at::manual_seed(3);
  const auto one = at::randn({9}), other = one.clone(), gradient = at::randn({9});
  train_these(one, other);
  Adam first({one}), second({other});
  const auto step = [&](const at::Tensor& parameter, Adam& optimizer) {
    parameter.mutable_grad() = gradient;
    optimizer.step();
  };
  step(one, first);
  other.detach().copy_(one.detach());
  second.restore(first.moments());
  step(one, first);
  step(other, second);
  EXPECT_TRUE(at::equal(one, other));
  LOWRANK_EXPECT_ERROR(second.restore({}), TensorError, "the parameters' shapes and dtypes");
  LOWRANK_EXPECT_ERROR(second.restore({{1, at::zeros({8}), at::zeros({8})}}), TensorError,
                       "the parameters' shapes and dtypes");
}

/// Each group is updated as it would be alone, even if a schedule changes the first group's rate.
TEST(Adam, MovesEachGroupAtItsRate) {
  at::manual_seed(4);
  const auto slow = at::randn({9}), quick = at::randn({5});
  const auto alone_slow = slow.clone(), alone_quick = quick.clone();
  train_these(slow, quick, alone_slow, alone_quick);
  Adam together(std::vector<ParameterGroup>{{{slow}, 1e-3}, {{quick}, 0.016}});
  EXPECT_EQ(together.options().learning_rate, 1e-3);
  Adam one({alone_slow}, {.learning_rate = 1e-3}), other({alone_quick}, {.learning_rate = 0.016});
  for (int i = 0; i < 3; ++i) {
    slow.mutable_grad() = at::randn({9});
    quick.mutable_grad() = at::randn({5});
    alone_slow.mutable_grad() = slow.grad().clone();
    alone_quick.mutable_grad() = quick.grad().clone();
    for (auto* optimizer : {&together, &one, &other}) {
      if (i == 1) optimizer->options().learning_rate /= 2;
      optimizer->step();
    }
  }
  EXPECT_TRUE(at::equal(slow, alone_slow));
  EXPECT_LT(worst_difference(quick, alone_quick), 1e-7);
  const std::vector<ParameterGroup> groups = {{{slow}, 1e-3}, {{quick}, -1}};
  LOWRANK_EXPECT_ERROR(Adam{groups}, ArgumentError,
                       "the learning rate must be finite and above 0. Got -1");
}

TEST(Adam, RefusesParametersThatCannotMove) {
  LOWRANK_EXPECT_ERROR(
      Adam({at::zeros({2}), at::zeros({3})}), ArgumentError,
      "a parameter to train must require a gradient. Got 2 that are all frozen. The "
      "model's own parameters are frozen while it has an adapter");
  EXPECT_NO_THROW(Adam({at::zeros({2}), at::zeros({3}).requires_grad_()}));
  auto with_gradient = at::zeros({2});
  with_gradient.mutable_grad() = at::ones({2});
  EXPECT_NO_THROW(Adam({with_gradient}));
}

TEST(Adam, RefusesOptionsOutOfTheirRange) {
  const auto parameter = at::zeros({2}).requires_grad_();
  LOWRANK_EXPECT_ERROR(Adam(std::vector<at::Tensor>()), ArgumentError,
                       "there must be a parameter to train");
  LOWRANK_EXPECT_ERROR(Adam({parameter}, {.learning_rate = 0}), ArgumentError,
                       "the learning rate must be finite and above 0. Got 0");
  LOWRANK_EXPECT_ERROR(Adam({parameter}, {.beta1 = 1}), ArgumentError, "below 1. Got 1 and 0.999");
  LOWRANK_EXPECT_ERROR(Adam({parameter}, {.epsilon = std::numeric_limits<double>::quiet_NaN()}),
                       ArgumentError, "epsilon must be finite and at least 0. Got nan");
  LOWRANK_EXPECT_ERROR(Adam({parameter}, {.weight_decay = -0.1}), ArgumentError,
                       "the weight decay must be finite and at least 0. Got -0.1");
}

TEST(Adam, GoesOnFromAFile) {
  const TemporaryFolder folder;
  const auto make = [] {
    at::manual_seed(3);
    return std::vector<at::Tensor>{at::randn({3, 4}).requires_grad_(),
                                   at::randn({2}, at::kDouble).requires_grad_(),
                                   at::randn({5}).requires_grad_()};
  };
  const auto step = [](Adam& adam, const std::vector<at::Tensor>& parameters, int number) {
    for (size_t i = 0; i < 2; ++i) {  // the third never has a gradient
      const auto& parameter = parameters[i];
      parameter.mutable_grad() = at::full_like(parameter, number + 1.0);
    }
    adam.step();
  };
  const auto whole = make(), parts = make();
  Adam expected(whole), first(parts), second(parts);
  for (int i = 0; i < 6; ++i) step(expected, whole, i);
  for (int i = 0; i < 3; ++i) step(first, parts, i);
  first.save(folder / "adam");
  second.load(folder / "adam");
  EXPECT_EQ(second.moments()[0].steps, 3);
  EXPECT_EQ(second.moments()[2].steps, 0);
  for (int i = 3; i < 6; ++i) step(second, parts, i);
  for (size_t i = 0; i < whole.size(); ++i) EXPECT_TRUE(at::equal(parts[i], whole[i])) << i;

  auto other = std::vector<at::Tensor>{at::randn({4, 3}).requires_grad_(),
                                       at::randn({2}, at::kDouble).requires_grad_(),
                                       at::randn({5}).requires_grad_()};
  Adam unlike(other);
  LOWRANK_EXPECT_ERROR(unlike.load(folder / "adam"), FileError, "\"exp_avg.0\" in ");
  EXPECT_EQ(unlike.moments()[0].steps, 0);
  other.pop_back();
  Adam fewer(other);
  LOWRANK_EXPECT_ERROR(fewer.load(folder / "adam"), FileError,
                       "must hold the number of steps of 2 parameters. Got [3,3,0].");
  write_safetensors(folder / "none", {});
  LOWRANK_EXPECT_ERROR(fewer.load(folder / "none"), FileError, "must hold Adam's moments");
  for (const std::string steps : {"[1]", "[1,-1]", "[1,1.5]", "{}", "[", "3"}) {
    write_safetensors(folder / "spoilt", {}, {{"lowrank.adam_steps", steps}});
    EXPECT_THROW(fewer.load(folder / "spoilt"), FileError) << steps;
  }
}

TEST(Adam, TrainsAnMlpAsPyTorchDoes) {
  for (int64_t steps = 1; steps <= 10; ++steps) {
    Fixture fixture("mlp_adam.safetensors");
    for (const auto& item : fixture.model->named_parameters()) {
      fixture.task.parameters.push_back({item.key(), item.value()});
    }
    fixture.expect_losses(fixture.run(steps).mean_loss, steps);
    if (steps < 10) continue;
    for (const auto& parameter : fixture.task.parameters) {
      fixture.expect_after(parameter.name, parameter.tensor);
    }
  }
}

TEST(Adam, TrainsAnAdapterAsPeftDoes) {
  Fixture fixture("lora_adam.safetensors");
  const auto adapter =
      attach(*fixture.model, {.rank = 2, .alpha = 4, .target_modules = {"linear1", "linear2"}});
  for (const auto& layer : adapter.layers()) {
    const at::NoGradGuard no_grad;
    layer.a.copy_(fixture.file.tensor("before." + layer.name + ".lora_A"));
    layer.b.copy_(fixture.file.tensor("before." + layer.name + ".lora_B"));
    fixture.task.parameters.push_back({layer.name + ".lora_A", layer.a});
    fixture.task.parameters.push_back({layer.name + ".lora_B", layer.b});
  }
  fixture.expect_losses(fixture.run(10).mean_loss, 10);
  for (const auto& parameter : fixture.task.parameters) {
    fixture.expect_after(parameter.name, parameter.tensor);
  }
  for (const auto& layer : adapter.layers()) {
    const DisableAdapter off(adapter);
    EXPECT_TRUE(
        at::equal(layer.weight.clone(), fixture.file.tensor("before." + layer.name + ".weight")));
  }
}

}  // namespace
}  // namespace lowrank
