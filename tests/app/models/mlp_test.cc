#include "app/models/mlp.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <lowrank/error.h>
#include <lowrank/io/safetensors.h>
#include <lowrank/io/sha256.h>

#include <string>
#include <vector>

#include "support/expect_error.h"

namespace lowrank::app {
namespace {

using Sizes = std::vector<int64_t>;

Mlp make(const Sizes& sizes) { return Mlp(MlpOptions{.sizes = sizes}); }

TEST(Mlp, NamesItsParametersInOrder) {
  const auto model = make({8, 6, 3});
  std::vector<std::string> names;
  std::vector<Sizes> shapes;
  for (const auto& item : model->named_parameters()) {
    names.push_back(item.key());
    shapes.push_back(item.value().sizes().vec());
  }
  EXPECT_EQ(names, (std::vector<std::string>{"linear1.weight", "linear1.bias", "linear2.weight",
                                             "linear2.bias"}));
  EXPECT_EQ(shapes, (std::vector<Sizes>{{6, 8}, {6}, {3, 6}, {3}}));
  EXPECT_EQ(model->options().sizes, (Sizes{8, 6, 3}));
}

TEST(Mlp, StartsWithPyTorchsNumbers) {
  const auto file = SafetensorsFile::open(std::string(LOWRANK_FIXTURES) + "/mlp_init.safetensors");
  at::manual_seed(0);
  const Mlp model;
  int64_t count = 0;
  for (const auto& item : model->named_parameters()) {
    const auto value = item.value().detach();
    count += value.numel();
    EXPECT_TRUE(at::equal(value.flatten().slice(0, 0, 8), file.tensor(item.key() + ".first")))
        << item.key();
    EXPECT_EQ(sha256_hex(value), file.metadata().at("sha256." + item.key()));
  }
  EXPECT_EQ(count, 2'807'010);
}

TEST(Mlp, ForwardIsReluBetweenLinearLayers) {
  at::manual_seed(1);
  auto model = make({12, 7, 5, 3});
  const auto x = at::randn({4, 12});
  auto expected = x;
  const auto parameters = model->parameters();
  for (size_t i = 0; i < parameters.size(); i += 2) {
    if (i > 0) expected = expected.clamp_min(0);
    expected = at::addmm(parameters[i + 1], expected, parameters[i].t());
  }
  const auto y = model->forward(x);
  EXPECT_EQ(y.sizes(), (at::IntArrayRef{4, 3}));
  EXPECT_TRUE(at::allclose(y, expected, 1e-5, 1e-6));
  EXPECT_TRUE(at::equal(model->forward(x.view({4, 1, 3, 4})), y));
  EXPECT_TRUE(at::equal(model->forward(x.view({4, 3, 4})), y));
}

TEST(Mlp, OneLayerHasNoRelu) {
  auto model = make({2, 2});
  const auto y = model->forward(at::tensor({-5.0F, -7.0F}).view({1, 2}));
  const auto parameters = model->parameters();
  EXPECT_TRUE(at::allclose(
      y, at::tensor({-5.0F, -7.0F}).view({1, 2}).mm(parameters[0].t()) + parameters[1]));
}

TEST(Mlp, RefusesBadSizes) {
  LOWRANK_EXPECT_ERROR(make({}), ArgumentError,
                       "[mlp] sizes must be at least two numbers of at least 1. Got .");
  LOWRANK_EXPECT_ERROR(make({784}), ArgumentError, "Got 784.");
  LOWRANK_EXPECT_ERROR(make({784, 0, 10}), ArgumentError, "Got 784-0-10.");
  LOWRANK_EXPECT_ERROR(make({-1, 10}), ArgumentError, "Got -1-10.");
}

}  // namespace
}  // namespace lowrank::app
