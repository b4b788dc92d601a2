// Covers src/adapter/peft and src/effective in comparison with PEFT.

#include "adapter/peft/peft_parity.h"

#include <gtest/gtest.h>
#include <lowrank/adapter/adapter.h>
#include <lowrank/error.h>
#include <lowrank/optim/adam.h>

#include <map>

#include "adapter/peft/keys.h"
#include "support/dense_reference.h"
#include "support/expect_error.h"
#include "support/temporary_folder.h"

// Compares with PEFT's folders, outputs, gradients and training, for every kind of layer with every
// kind of adapter.
namespace lowrank {
namespace {

/// The cells that PEFT computes and we refuse, with our messages; docs/peft.md explains them.
const std::map<std::string, const char*> kRefused = {
    {"linear_no_bias.lora_bias", "lora_bias must be for layers that have a bias. Got \"first\""},
    {"conv2d_groups.dora",
     "use_dora must be for layers without groups. Got \"first\" with 2 groups"},
    {"conv2d_groups.two_dora",
     "use_dora must be for layers without groups. Got \"first\" with 2 groups"},
    {"conv2d_groups.together",
     "use_dora must be for layers without groups. Got \"first\" with 2 groups"},
};

/// With bias="all" and modules_to_save, PEFT writes a bias three times.
bool is_repeated(const std::string& name) {
  return name.ends_with(".modules_to_save.bias") || name.ends_with(".original_module.bias");
}

class PeftParity : public testing::TestWithParam<const char*> {
 protected:
  /// Calls `f` with each cell that we support, loaded from its folder.
  void for_each_cell(
      const std::function<void(const std::string& cell, parity::Net& net, Adapter& adapter)>& f) {
    for (const auto& cell : fixture_.cells()) {
      if (kRefused.contains(cell)) continue;
      SCOPED_TRACE(cell);
      const auto net = fixture_.base();
      fixture_.write_folder(cell, folder_ / cell);
      auto loaded = load_adapter(*net, folder_ / cell);
      EXPECT_FALSE(loaded.report.acts_like_base);
      f(cell, *net, loaded.adapter);
    }
  }

  parity::Fixture fixture_{GetParam()};
  TemporaryFolder folder_;
};

TEST_P(PeftParity, GivesItsOutputsAndGradients) {
  for_each_cell([&](const std::string& cell, parity::Net& net, Adapter& adapter) {
    const auto y = net.forward(fixture_.x());
    EXPECT_LE(relative_error(y.detach(), fixture_.tensor(cell, "y")), 1e-5);
    y.backward(fixture_.dy());
    for (const auto& [name, parameter] : adapter.named_parameters()) {
      const auto expected = fixture_.tensor(cell, std::string("grad.") + kKeyPrefix + name);
      ASSERT_TRUE(parameter.grad().defined()) << name;
      EXPECT_LE(relative_error(parameter.grad().view(expected.sizes()), expected), 1e-5) << name;
    }
  });
}

TEST_P(PeftParity, LeavesTheBaseAndTakesTheFastPath) {
  const auto base = fixture_.base()->forward(fixture_.x()).detach();
  for_each_cell([&](const std::string& /*cell*/, parity::Net& net, Adapter& adapter) {
    EXPECT_FALSE(at::equal(net.forward(fixture_.x()).detach(), base));
    for (const auto& layer : adapter.layers()) EXPECT_EQ(layer.path, LayerPath::kFactored);
    const DisableAdapter off(adapter);
    EXPECT_TRUE(at::equal(net.forward(fixture_.x()).detach(), base));
  });
}

TEST_P(PeftParity, WritesItsFileAgain) {
  for_each_cell([&](const std::string& cell, parity::Net& /*net*/, Adapter& adapter) {
    adapter.save(folder_ / "again", {.force = true});
    const auto ours = SafetensorsFile::open(folder_ / "again" / "adapter_model.safetensors");
    size_t expected = 0;
    for (const auto& [name, tensor, none] : fixture_.saved(cell)) {
      if (is_repeated(name)) continue;
      EXPECT_TRUE(at::equal(ours.tensor(name), tensor)) << name;
      ++expected;
    }
    EXPECT_EQ(ours.names().size(), expected);
  });
}

TEST_P(PeftParity, TrainsAlike) {
  for_each_cell([&](const std::string& cell, parity::Net& net, Adapter& adapter) {
    Adam optimizer(adapter.parameters(), {.learning_rate = 1e-2});
    for (int step = 0; step < 10; ++step) {
      optimizer.zero_grad();
      at::mse_loss(net.forward(fixture_.x()), fixture_.dy()).backward();
      optimizer.step();
    }
    const auto found = net.forward(fixture_.x()).detach();
    EXPECT_GT(relative_error(found, fixture_.tensor(cell, "y")), 5e-3) << "nothing was learnt";
    EXPECT_LE(relative_error(found, fixture_.tensor(cell, "trained")), 1e-3);
  });
}

INSTANTIATE_TEST_SUITE_P(Kinds, PeftParity,
                         testing::Values("linear", "linear_3d", "linear_no_bias", "transposed",
                                         "conv1d", "conv2d", "conv2d_groups", "embedding",
                                         "attention"),
                         [](const auto& test) { return std::string(test.param); });

TEST(PeftParityRefusals, RefusesWhatItCannotHonour) {
  const TemporaryFolder folder;
  for (const auto& [cell, message] : kRefused) {
    const parity::Fixture fixture(cell.substr(0, cell.find('.')));
    fixture.write_folder(cell, folder / cell);
    const auto net = fixture.base();
    LOWRANK_EXPECT_ERROR(load_adapter(*net, folder / cell), FileError, message);
  }
}

}  // namespace
}  // namespace lowrank
