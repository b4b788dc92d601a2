#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <lowrank/adapter/adapter.h>
#include <lowrank/error.h>
#include <lowrank/io/safetensors.h>
#include <lowrank/optim/adam.h>
#include <torch/nn/functional/instancenorm.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/instancenorm.h>
#include <torch/nn/modules/linear.h>

#include <map>

#include "support/dense_reference.h"
#include "support/expect_error.h"
#include "support/temporary_folder.h"

namespace lowrank {
namespace {

namespace nn = torch::nn;

/// A model whose forward changes buffers in training.
struct NormedNet : nn::Module {
  nn::Linear first = register_module("first", nn::Linear(6, 8));
  nn::BatchNorm1d norm = register_module("norm", nn::BatchNorm1d(8));
  nn::Linear second = register_module("second", nn::Linear(8, 3));
  at::Tensor calls = register_buffer("calls", at::zeros({1}));
  bool counts_calls = false;

  at::Tensor forward(const at::Tensor& x) {
    if (counts_calls) calls.add_(1);
    return second(norm(first(x)).relu());
  }
};

class Buffers : public testing::Test {
 protected:
  Buffers() {
    at::manual_seed(1);
    net_ = std::make_shared<NormedNet>();
    x_ = at::randn({16, 6});
    net_->train();
    for (int i = 0; i < 3; ++i) net_->forward(at::randn({16, 6}) * 2 + 1);
  }

  std::map<std::string, at::Tensor> buffers() const {
    std::map<std::string, at::Tensor> values;
    for (const auto& item : net_->named_buffers()) {
      // A sum reads what is stored only if no adapter keeps statistics of its own.
      values[item.key()] = item.value().detach().clone();
    }
    return values;
  }

  void expect_buffers(const std::map<std::string, at::Tensor>& expected) const {
    for (const auto& [name, value] : buffers()) {
      EXPECT_TRUE(at::equal(value, expected.at(name))) << name;
    }
  }

  void train_steps(Adapter& adapter, int steps) {
    net_->train();
    Adam optimizer(adapter.parameters(), {.learning_rate = 0.05});
    for (int i = 0; i < steps; ++i) {
      optimizer.zero_grad();
      loss_of(net_->forward(at::randn({16, 6}) + i)).backward();
      optimizer.step();
    }
  }

  at::Tensor evaluated(NormedNet& net) const {
    const at::NoGradGuard no_grad;
    net.eval();
    return net.forward(x_);
  }

  std::shared_ptr<NormedNet> copy_of_base() const {
    auto copy = std::make_shared<NormedNet>();
    const at::NoGradGuard no_grad;
    for (const auto& item : net_->named_parameters()) {
      copy->named_parameters()[item.key()].copy_(item.value());
    }
    for (const auto& item : net_->named_buffers()) {
      copy->named_buffers()[item.key()].copy_(item.value());
    }
    return copy;
  }

  std::shared_ptr<NormedNet> net_;
  at::Tensor x_;
};

TEST_F(Buffers, RunningStatisticsStayWhileTheBatchIsNormalised) {
  const auto before = buffers();
  const auto without_adapter = copy_of_base();
  without_adapter->train();
  const auto expected = without_adapter->forward(x_);
  auto adapter = attach(*net_, {.rank = 2});
  net_->train();
  EXPECT_TRUE(at::allclose(net_->forward(x_), expected, 1e-5, 1e-6)) << "normalised by the batch";
  train_steps(adapter, 4);
  expect_buffers(before);
  net_->eval();
  net_->forward(x_);
  net_->train();
  net_->forward(x_);
  {
    const DisableAdapter off(adapter);
    net_->forward(x_);
  }
  expect_buffers(before);
  adapter.detach();
  expect_buffers(before);
  net_->forward(x_);
  EXPECT_FALSE(at::equal(net_->norm->running_mean, before.at("norm.running_mean")))
      << "without an adapter they move again";
  EXPECT_EQ(net_->norm->num_batches_tracked.item<int64_t>(),
            before.at("norm.num_batches_tracked").item<int64_t>() + 1);
}

TEST_F(Buffers, WhatIsSavedGivesTheSameOutputsOnTheUntouchedBase) {
  const auto base = copy_of_base();
  auto adapter = attach(*net_, {.rank = 2});
  train_steps(adapter, 10);
  const auto expected = evaluated(*net_);
  const TemporaryFolder folder;
  adapter.save(folder / "a");
  const auto loaded = load_adapter(*base, folder / "a");
  EXPECT_TRUE(loaded.report.base_matches());
  EXPECT_FALSE(loaded.report.matches_without_buffers());
  EXPECT_TRUE(at::equal(evaluated(*base), expected));
}

TEST_F(Buffers, TheFingerprintCoversThem) {
  const auto base = copy_of_base();
  const auto before = base_fingerprint(*net_);
  EXPECT_EQ(base_fingerprint(*base), before);
  base->norm->running_var.mul_(2);
  EXPECT_NE(base_fingerprint(*base), before);
  auto adapter = attach(*net_, {.rank = 2});
  randomize(adapter);
  EXPECT_EQ(base_fingerprint(*net_), before);
  const TemporaryFolder folder;
  adapter.save(folder / "a");
  EXPECT_FALSE(load_adapter(*base, folder / "a").report.base_matches());
}

/// Earlier builds hashed the parameters alone.
TEST_F(Buffers, AFileWithoutThemMatchesWithANote) {
  const auto base = copy_of_base();
  auto adapter = attach(*net_, {.rank = 2});
  const TemporaryFolder folder;
  adapter.save(folder / "a");
  const auto report = load_adapter(*base, folder / "a").report;
  const auto file = SafetensorsFile::open(folder / "a/adapter_model.safetensors");
  std::vector<SafetensorsEntry> entries;
  for (const auto& name : file.names()) entries.push_back({name, file.tensor(name).clone()});
  write_safetensors(folder / "a/adapter_model.safetensors", entries,
                    {{"lowrank.base_sha256", report.found_parameters}});
  const auto other = copy_of_base();
  const auto old = load_adapter(*other, folder / "a").report;
  EXPECT_TRUE(old.base_matches());
  EXPECT_TRUE(old.matches_without_buffers());
}

TEST_F(Buffers, SaveRefusesToLoseWhatChanged) {
  const auto before = buffers();
  net_->counts_calls = true;
  auto adapter = attach(*net_, {.rank = 2});
  EXPECT_TRUE(adapter.changed_buffers().empty());
  net_->forward(x_);
  EXPECT_EQ(adapter.changed_buffers(), std::vector<std::string>{"calls"});
  const TemporaryFolder folder;
  LOWRANK_EXPECT_ERROR(adapter.save(folder / "a"), TensorError, "other values in calls");
  EXPECT_FALSE(std::filesystem::exists(folder / "a"));
  adapter.save(folder / "a", {.leave_changed_buffers = true});
  const auto base = copy_of_base();
  base->calls.zero_();
  EXPECT_TRUE(load_adapter(*base, folder / "a").report.base_matches())
      << "the fingerprint is that of the base as it was";
  adapter.detach();
  expect_buffers(before);
}

TEST_F(Buffers, StatisticsMoveIfTheyAreToldTo) {
  const auto before = buffers();
  auto adapter = attach(*net_, {.rank = 2});
  EXPECT_TRUE(adapter.statistics_frozen());
  adapter.freeze_statistics(false);
  net_->train();
  net_->forward(x_);
  EXPECT_FALSE(at::equal(buffers().at("norm.running_mean"), before.at("norm.running_mean")));
  const TemporaryFolder folder;
  LOWRANK_EXPECT_ERROR(adapter.save(folder / "a"), TensorError,
                       "norm.running_mean, norm.running_var, norm.num_batches_tracked");
  adapter.detach();
  expect_buffers(before);
}

TEST_F(Buffers, ModulesToSaveKeepStatisticsOfTheirOwn) {
  const auto before = buffers();
  const auto base = copy_of_base();
  auto adapter =
      attach(*net_, {.rank = 2, .target_modules = {"first"}, .modules_to_save = {"norm"}});
  train_steps(adapter, 6);
  {
    const DisableAdapter off(adapter);
    expect_buffers(before);
  }
  const auto expected = evaluated(*net_);
  const TemporaryFolder folder;
  adapter.save(folder / "a");
  const auto file = SafetensorsFile::open(folder / "a/adapter_model.safetensors");
  for (const char* name : {"weight", "bias", "running_mean", "running_var"}) {
    EXPECT_TRUE(file.contains(std::string("base_model.model.norm.") + name)) << name;
  }
  EXPECT_EQ(file.tensor("base_model.model.norm.num_batches_tracked").item<int64_t>(),
            before.at("norm.num_batches_tracked").item<int64_t>() + 6);
  const auto names = [&] {
    std::vector<std::string> all;
    for (const auto& [name, tensor] : adapter.named_parameters()) all.push_back(name);
    return all;
  }();
  EXPECT_EQ(names, (std::vector<std::string>{"first.lora_A.weight", "first.lora_B.weight",
                                             "norm.weight", "norm.bias"}));

  auto loaded = load_adapter(*base, folder / "a");
  EXPECT_TRUE(loaded.report.base_matches());
  EXPECT_TRUE(at::equal(evaluated(*base), expected));
  loaded.adapter.merge();
  EXPECT_TRUE(at::allclose(evaluated(*base), expected, 1e-5, 1e-6));
  EXPECT_FALSE(at::equal(base->norm->running_mean, before.at("norm.running_mean")));
  loaded.adapter.unmerge();
  loaded.adapter.detach();
  EXPECT_TRUE(at::equal(base->norm->running_mean, before.at("norm.running_mean")));
  adapter.detach();
  expect_buffers(before);
}

TEST_F(Buffers, OtherLayersWithStatisticsFreezeToo) {
  struct Picture : nn::Module {
    nn::Conv2d conv = register_module("conv", nn::Conv2d(nn::Conv2dOptions(2, 4, 3)));
    nn::BatchNorm2d batch = register_module("batch", nn::BatchNorm2d(4));
    nn::InstanceNorm2d instance = register_module(
        "instance",
        nn::InstanceNorm2d(nn::InstanceNorm2dOptions(4).affine(true).track_running_stats(true)));
    at::Tensor forward(const at::Tensor& x) { return instance(batch(conv(x))); }
  };
  auto net = std::make_shared<Picture>();
  net->train();
  const auto before = base_fingerprint(*net);
  auto adapter = attach(*net, {.rank = 2, .target_modules = {"conv"}});
  randomize(adapter);
  loss_of(net->forward(at::randn({3, 2, 8, 8}))).backward();
  EXPECT_EQ(base_fingerprint(*net), before);
  adapter.detach();
  net->forward(at::randn({3, 2, 8, 8}));
  EXPECT_NE(base_fingerprint(*net), before);
}

TEST_F(Buffers, StatisticsFollowTheModelToAnotherDtype) {
  auto adapter = attach(*net_, {.rank = 2});
  net_->to(at::kDouble);
  net_->train();
  const auto before = buffers();
  net_->forward(x_.to(at::kDouble));
  expect_buffers(before);
  const TemporaryFolder folder;
  adapter.save(folder / "a");  // nothing has changed but the dtype
  net_->to(at::kFloat);
  adapter.detach();
}

}  // namespace
}  // namespace lowrank
