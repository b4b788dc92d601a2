#include "app/runs/figures.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <lowrank/linalg/thin_svd.h>
#include <torch/nn/modules/linear.h>

#include <limits>
#include <vector>

#include "app/models/mlp.h"

namespace lowrank::app {
namespace {

Dataset two_images() {
  Dataset data;
  data.inputs = at::zeros({2, 3, 3}, at::kByte);
  data.labels = at::tensor({0, 1}, at::kLong);
  data.classes = 2;
  data.class_names = {"cat", "dog"};
  return data;
}

TEST(LayerFigures, HoldsTheSpectraOfWAndOfTheUpdate) {
  at::manual_seed(0);
  Mlp model(MlpOptions{.sizes = {100, 80, 3}});
  auto adapter = attach(*model, {.rank = 2, .alpha = 8, .init = LoraInit::kGaussian});
  const auto layers = adapter.layers();
  for (const auto& layer : layers) layer.b.detach().normal_();
  const auto figures = layer_figures(adapter);
  ASSERT_EQ(figures.size(), 2U);
  for (size_t i = 0; i < 2; ++i) {
    const auto& layer = layers[i];
    const auto& json = figures[i];
    EXPECT_EQ(json["name"], layer.name);
    EXPECT_EQ(json["rank"], 2);
    const auto expect = [](const nlohmann::ordered_json& spectrum, const at::Tensor& matrix) {
      const auto all = singular_values(matrix.to(at::kDouble));
      const auto values = spectrum["singular_values"].get<std::vector<double>>();
      EXPECT_EQ(spectrum["count"], std::min(matrix.size(0), matrix.size(1)));
      for (size_t j = 0; j < values.size(); ++j) {
        EXPECT_NEAR(values[j], all[static_cast<int64_t>(j)].item<double>(), 1e-3 * values[0]) << j;
      }
      const auto energy = all.square().sum().item<double>();
      EXPECT_NEAR(spectrum["energy"], energy, 1e-6 * energy);
    };
    EXPECT_LE(json["weight"]["singular_values"].size(), 64U);
    expect(json["weight"], layer.weight);
    const auto& update = json["update"];
    EXPECT_EQ(update["singular_values"].size(), 2U);
    const auto delta = delta_weight(layer).detach();
    EXPECT_NEAR(update["energy"], delta.to(at::kDouble).square().sum().item<double>(),
                1e-5 * update["energy"].get<double>());
    EXPECT_NEAR(update["singular_values"][0], singular_values(delta)[0].item<double>(), 1e-3);
  }
}

TEST(LayerFigures, IsNullWhereThereIsNoSpectrum) {
  Mlp model(MlpOptions{.sizes = {10, 8, 3}});
  auto adapter = attach(*model, {.rank = 2});
  const auto layers = adapter.layers();
  layers[0].weight[0][0] = std::numeric_limits<float>::quiet_NaN();
  layers[0].a.detach()[0][0] = std::numeric_limits<float>::quiet_NaN();
  const auto figures = layer_figures(adapter);
  EXPECT_TRUE(figures[0]["weight"].is_null());
  EXPECT_TRUE(figures[0]["update"].is_null());
  EXPECT_FALSE(figures[1]["weight"].is_null());
}

TEST(EvaluationFigures, CompareOffAndOn) {
  const auto data = two_images();
  const auto off = at::tensor({0.0F, 1.0F, 0.0F, 1.0F}).view({2, 2});  // dog, dog
  const auto on = at::tensor({1.0F, 0.0F, 1.0F, 0.0F}).view({2, 2});   // cat, cat
  const auto json = evaluation_figures(data, off, on);
  EXPECT_EQ(json["examples"], 2);
  EXPECT_EQ(json["off"]["confusion"], nlohmann::ordered_json::parse("[[0, 1], [0, 1]]"));
  EXPECT_EQ(json["on"]["wrong_by_class"], nlohmann::ordered_json::parse("[0, 1]"));
  EXPECT_EQ(json["mended"]["count"], 1);
  EXPECT_EQ(json["broken"]["count"], 1);
  const auto& mended = json["mended"]["images"][0];
  EXPECT_EQ(mended["index"], 0);
  EXPECT_EQ(mended["label"], "cat");
  EXPECT_EQ(mended["before"], "dog");
  EXPECT_EQ(mended["after"], "cat");
  EXPECT_EQ(mended["png"].get<std::string>().substr(0, 8), "iVBORw0K") << "PNG's signature";
  EXPECT_FALSE(evaluation_figures(data, off).contains("on"));
}

TEST(EvaluationFigures, AreErrorsWhereNumbersArePredicted) {
  Dataset data;
  data.inputs = at::zeros({2, 3});
  data.labels = at::tensor({1.0F, 3.0F});
  data.classes = 0;
  const auto json = evaluation_figures(data, at::tensor({1.0F, 2.0F}), at::tensor({1.0F, 3.0F}));
  EXPECT_EQ(json["off"]["mean_squared_error"], 0.5);
  EXPECT_EQ(json["on"]["mean_squared_error"], 0.0);
  EXPECT_FALSE(json.contains("mended"));
}

}  // namespace
}  // namespace lowrank::app
