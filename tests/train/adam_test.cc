#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <lowrank/adapter/adapter.h>
#include <lowrank/data/sampler.h>
#include <lowrank/io/safetensors.h>
#include <lowrank/models/mlp.h>
#include <lowrank/train/trainer.h>

#include <string>

// train() beside PyTorch's Adam: the fixtures' ten batches of four examples.
namespace lowrank {
namespace {

constexpr double kMost = 1e-5;  // of ten steps in float32, in another order of summation

/// The fixture's examples in the order in which train() will draw them: image i is one pixel, the
/// number of its example, which `forward` exchanges for the example's eight inputs.
struct Fixture {
  SafetensorsFile file;
  models::Mlp model{models::MlpOptions{.sizes = {8, 6, 5, 3}}};
  ImageDataset data;
  TrainingTask task;

  explicit Fixture(const std::string& name)
      : file(SafetensorsFile::open(std::string(LOWRANK_FIXTURES) + "/" + name)) {
    Sampler sampler(at::arange(40, at::kLong), {.batch_size = 4});
    std::vector<at::Tensor> batches;
    for (int i = 0; i < 10; ++i) batches.push_back(sampler.next());
    const auto order = at::cat(batches);
    data.images = at::zeros({40, 1, 1}, at::kByte);
    data.images.index_put_({order}, at::arange(40, at::kByte).view({40, 1, 1}));
    data.labels = at::zeros({40}, at::kLong);
    data.labels.index_put_({order}, file.tensor("labels").flatten());
    data.classes = 3;

    task.data = &data;
    task.indices = at::arange(40, at::kLong);
    task.normalization = {.mean = 0, .deviation = 1.0 / 255};
    const auto inputs = file.tensor("inputs").view({40, 8});
    task.forward = [this, inputs](const at::Tensor& x) {
      return model->forward(inputs.index_select(0, x.flatten().round().to(at::kLong)));
    };
    const at::NoGradGuard no_grad;
    for (auto& item : model->named_parameters()) {
      item.value().copy_(file.tensor("before." + item.key()));
    }
  }

  TrainResult run(int64_t steps) const {
    return train(task, {.steps = steps, .batch_size = 4, .learning_rate = 0.01}, {.quiet = true});
  }

  void expect_losses(double mean_loss, int64_t steps) const {
    const auto expected = file.tensor("losses").slice(0, 0, steps).mean().item<double>();
    EXPECT_NEAR(mean_loss, expected, kMost) << "after " << steps << " steps";
  }

  void expect_after(const std::string& name, const at::Tensor& found) const {
    const auto expected = file.tensor("after." + name);
    EXPECT_LT((found.detach() - expected).norm().item<double>(),
              kMost * expected.norm().item<double>())
        << name;
  }
};

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
