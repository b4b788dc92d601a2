#include "app/models/model_folder.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <lowrank/error.h>
#include <lowrank/io/safetensors.h>

#include <limits>
#include <string>
#include <vector>

#include "support/expect_error.h"
#include "support/temporary_folder.h"

namespace lowrank::app {
namespace {

namespace fs = std::filesystem;

TrainedMlp make_classifier(at::ScalarType dtype = at::kFloat) {
  at::manual_seed(3);
  Mlp model(MlpOptions{.sizes = {4, 3, 2}});
  model->to(dtype);
  return {model, {.normalization = {{0.1}, {1.0 / 3}}}};
}

std::vector<SafetensorsEntry> entries_of(const TrainedMlp& classifier) {
  std::vector<SafetensorsEntry> entries;
  for (const auto& item : classifier.model->named_parameters()) {
    entries.push_back({item.key(), item.value().detach().clone()});
  }
  return entries;
}

/// A folder with a valid model, of which each test spoils a file.
class ModelFolder : public ::testing::Test {
 protected:
  ModelFolder() { save_mlp(make_classifier(), folder_.path()); }

  void expect_config_refused(const std::string& text, const std::string& message) {
    folder_.write("config.json", text);
    LOWRANK_EXPECT_ERROR(load_mlp(folder_.path()), FileError, message);
    LOWRANK_EXPECT_ERROR(load_mlp(folder_.path()), FileError, (folder_ / "config.json").string());
  }
  void expect_weights_refused(const std::vector<SafetensorsEntry>& entries,
                              const std::string& message) {
    write_safetensors(folder_ / "model.safetensors", entries);
    expect_weights_refused(message);
  }
  void expect_weights_refused(const std::string& message) {
    LOWRANK_EXPECT_ERROR(load_mlp(folder_.path()), FileError, message);
    LOWRANK_EXPECT_ERROR(load_mlp(folder_.path()), FileError,
                         (folder_ / "model.safetensors").string());
  }

  TemporaryFolder folder_;
};

TEST_F(ModelFolder, ComesBackBitForBit) {
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    const auto saved = make_classifier(dtype);
    save_mlp(saved, folder_.path());
    const auto loaded = load_mlp(folder_.path());
    EXPECT_EQ(loaded.model->options().sizes, saved.model->options().sizes);
    EXPECT_EQ(loaded.preparation, saved.preparation);
    const auto parameters = saved.model->named_parameters();
    for (const auto& item : loaded.model->named_parameters()) {
      EXPECT_EQ(item.value().scalar_type(), dtype);
      EXPECT_TRUE(at::equal(item.value(), parameters[item.key()])) << item.key();
      EXPECT_TRUE(item.value().requires_grad());
    }
  }
}

TEST_F(ModelFolder, WritesTheSameBytesForTheSameModel) {
  const TemporaryFolder other;
  save_mlp(load_mlp(folder_.path()), other.path());
  for (const char* name : {"config.json", "model.safetensors"}) {
    EXPECT_EQ(read_bytes(other / name), read_bytes(folder_ / name)) << name;
  }
}

TEST_F(ModelFolder, TakesMnistsNormalizationWhereNoneIsGiven) {
  folder_.write("config.json", R"({"model_type": "mlp", "sizes": [4, 3, 2]})");
  const auto loaded = load_mlp(folder_.path());
  EXPECT_EQ(loaded.preparation.normalization, Normalization());
}

TEST_F(ModelFolder, RefusesABadConfig) {
  expect_config_refused("{\"model_type\": ", "must be valid JSON. Got wrong syntax at byte");
  expect_config_refused("[]", "must hold a JSON object. Got array.");
  expect_config_refused("{}", "must hold model_type. Got none.");
  expect_config_refused(R"({"model_type": "gpt2"})", "must hold model_type \"mlp\". Got \"gpt2\".");
  expect_config_refused(R"({"model_type": "mlp"})", "must hold sizes. Got none.");
  const std::string required = "must hold sizes, a list of at least two whole numbers of 1 to ";
  for (const std::string sizes :
       {"7", "[4]", "[4,0,2]", "[4,-3,2]", "[4,2.5,2]", "[4,\"3\",2]", "[4,3000000,2]"}) {
    expect_config_refused(R"({"model_type": "mlp", "sizes": )" + sizes + "}", required);
    expect_config_refused(R"({"model_type": "mlp", "sizes": )" + sizes + "}", "Got " + sizes);
  }
  const std::string start = R"({"model_type": "mlp", "sizes": [4, 3, 2], )";
  expect_config_refused(start + R"("activation": "gelu"})",
                        "must hold activation \"relu\". Got \"gelu\".");
  expect_config_refused(start + R"("activation": null})",
                        "must hold activation \"relu\". Got null.");
  expect_config_refused(start + R"("image_mean": "0"})",
                        "must hold a finite number image_mean, or a list of them. Got \"0\".");
  expect_config_refused(start + R"("image_deviation": null})",
                        "must hold a finite number image_deviation, or a list of them. Got null.");
  expect_config_refused(start + R"("image_deviation": 0})",
                        "must be a number that float32 can hold and invert. Got 0. (in ");
  expect_config_refused(start + R"("image_mean": 1e308})",
                        "must be a number that float32 can hold. Got 1e+308. (in ");
}

TEST_F(ModelFolder, KeepsTheImagesHeightAndWidth) {
  EXPECT_EQ(load_mlp(folder_.path()).preparation.height, 0) << "not known";
  auto classifier = make_classifier();
  classifier.preparation.height = 1;
  classifier.preparation.width = 4;
  save_mlp(classifier, folder_.path());
  const auto loaded = load_mlp(folder_.path());
  EXPECT_EQ(loaded.preparation.height, 1);
  EXPECT_EQ(loaded.preparation.width, 4);

  const std::string sizes = R"({"model_type": "mlp", "sizes": [4, 3, 2], )";
  const std::string required = "must hold image_height and image_width whose product is 4. Got ";
  expect_config_refused(sizes + R"("image_height": 2, "image_width": 3})", required + "2 and 3.");
  expect_config_refused(sizes + R"("image_height": 4})", required + "4 and none.");
  expect_config_refused(sizes + R"("image_height": -1, "image_width": -4})",
                        required + "-1 and -4.");
  expect_config_refused(sizes + R"("image_height": "2", "image_width": 2})",
                        required + "\"2\" and 2.");
}

TEST_F(ModelFolder, RefusesWeightsThatAreNotTheConfigs) {
  auto entries = entries_of(make_classifier());
  entries.pop_back();
  expect_weights_refused(entries, "must hold the tensor \"linear2.bias\". Got none.");

  entries = entries_of(make_classifier());
  entries.push_back({"linear3.weight", at::ones({2, 2})});
  expect_weights_refused(entries, "must hold 4 tensors, as config.json says. Got 5:");

  entries = entries_of(make_classifier());
  entries[0].tensor = at::ones({4, 3});
  expect_weights_refused(entries,
                         "must hold \"linear1.weight\" as floating-point numbers of shape (3, 4), "
                         "as config.json says. Got Float of shape (4, 3).");

  entries = entries_of(make_classifier());
  entries[1].tensor = at::ones({3}, at::kLong);
  expect_weights_refused(entries, "Got Long of shape (3).");

  for (const double bad :
       {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    entries = entries_of(make_classifier());
    entries[2].tensor[1][2] = bad;
    expect_weights_refused(entries,
                           "must hold finite numbers in \"linear2.weight\". Got NaN or Inf.");
  }
}

/// A tensor of fewer bits must not reduce the precision of the others.
TEST_F(ModelFolder, KeepsTheWidestDtype) {
  auto entries = entries_of(make_classifier());
  entries[0].tensor = entries[0].tensor.to(at::kHalf);
  entries[1].tensor = entries[1].tensor + 1e5;
  write_safetensors(folder_ / "model.safetensors", entries);
  auto parameters = load_mlp(folder_.path()).model->parameters();
  EXPECT_EQ(parameters[0].scalar_type(), at::kFloat);
  EXPECT_TRUE(at::equal(parameters[1], entries[1].tensor));
  entries[3].tensor = entries[3].tensor.to(at::kDouble);
  write_safetensors(folder_ / "model.safetensors", entries);
  EXPECT_EQ(load_mlp(folder_.path()).model->parameters()[0].scalar_type(), at::kDouble);
}

TEST_F(ModelFolder, RefusesDamagedWeights) {
  const auto good = read_bytes(folder_ / "model.safetensors");
  folder_.write("model.safetensors", good.substr(0, good.size() - 1));
  expect_weights_refused("[safetensors] ");
  folder_.write("model.safetensors", std::string(8, '\xff') + good.substr(8));
  expect_weights_refused("Got a header length of 18446744073709551615.");
  folder_.write("model.safetensors", "");
  expect_weights_refused("must be at least 8 bytes long. Got 0 bytes.");
}

TEST_F(ModelFolder, NamesTheMissingFile) {
  fs::remove(folder_ / "model.safetensors");
  expect_weights_refused("must exist");
  fs::remove(folder_ / "config.json");
  LOWRANK_EXPECT_ERROR(load_mlp(folder_.path()), FileError,
                       (folder_ / "config.json").string() + "\" must exist");
  LOWRANK_EXPECT_ERROR(load_mlp(folder_.write("model.pt", "PK")), FileError,
                       "must be the folder of a model, with config.json and model.safetensors. Got "
                       "a file.");
  folder_.write("adapter_config.json", "{}");
  LOWRANK_EXPECT_ERROR(load_mlp(folder_.path()), FileError,
                       "Got the folder of an adapter. Give the base here, and the adapter as "
                       "--adapter.");
}

TEST_F(ModelFolder, KeepsTheOldModelWhereANewOneCannotBeWritten) {
  const auto before = read_bytes(folder_ / "model.safetensors");
  fs::remove(folder_ / "config.json");
  fs::create_directory(folder_ / "config.json");
  EXPECT_THROW(save_mlp(make_classifier(at::kDouble), folder_.path()), FileError);
  EXPECT_EQ(read_bytes(folder_ / "model.safetensors"), before);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_.path()), {}), 2) << "a temporary stays";
}

}  // namespace
}  // namespace lowrank::app
