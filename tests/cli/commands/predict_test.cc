#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <png.h>

#include <nlohmann/json.hpp>
#include <string>

#include "app/data/source.h"
#include "support/refusals.h"
#include "support/tiny_images.h"
#include "support/tiny_models.h"

namespace lowrank {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::json;

class PredictCommand : public ::testing::Test {
 protected:
  std::vector<std::string> predict(const std::vector<std::string>& more) const {
    std::vector<std::string> words = {"predict", base_, "--threads", "1"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  std::string write_pgm(const std::string& name, const at::Tensor& image) const {
    std::string bytes =
        "P5\n" + std::to_string(image.size(1)) + " " + std::to_string(image.size(0)) + "\n255\n";
    const auto pixels = image.contiguous();
    bytes.append(static_cast<const char*>(pixels.data_ptr()), pixels.numel());
    return folder_.write(name, bytes).string();
  }
  std::string write_png(const std::string& name, const at::Tensor& image) const {
    png_image png{};
    png.version = PNG_IMAGE_VERSION;
    png.width = static_cast<uint32_t>(image.size(1));
    png.height = static_cast<uint32_t>(image.size(0));
    png.format = PNG_FORMAT_GRAY;
    const auto path = (folder_ / name).string();
    EXPECT_NE(
        png_image_write_to_file(&png, path.c_str(), 0, image.contiguous().data_ptr(), 0, nullptr),
        0)
        << png.message;
    return path;
  }

  const TemporaryFolder images_;
  const std::string data_ = write_tiny_images(images_);
  const TemporaryFolder folder_;
  const std::string base_ = save_tiny_base(folder_ / "base");
  const std::string adapter_ = save_tiny_adapter(base_, folder_ / "two");
  const at::Tensor image_ = app::load_dataset(data_, app::Split::kTest).inputs[13];
};

TEST_F(PredictCommand, TakesAnImageFromWhereverItIs) {
  const auto results = run_each({
      predict({"--json", "--adapter", adapter_, "--data", data_, "--index", "13"}),
      predict({"--json", "--adapter", adapter_, write_pgm("i.pgm", image_)}),
      predict({"--json", write_png("i.png", image_)}),
      predict({"--json", "--invert", write_png("inverted.png", 255 - image_)}),
      predict({"--adapter", adapter_, "--data", data_, "--index", "13"}),
      predict({write_pgm("j.pgm", image_)}),
  });
  std::vector<Json> json;
  for (size_t i = 0; i < 4; ++i) {
    ASSERT_EQ(results[i].status, 0) << results[i].err;
    json.push_back(Json::parse(results[i].out));
  }
  EXPECT_EQ(json[0].at("label"), 3);
  EXPECT_FALSE(json[1].contains("label"));
  EXPECT_FALSE(json[2].contains("adapter_on"));
  EXPECT_EQ(json[1].at("base_matches"), true);
  EXPECT_FALSE(json[2].contains("base_matches"));
  EXPECT_EQ(json[1].at("adapter_on"), json[0].at("adapter_on"));
  for (size_t i = 1; i < 4; ++i) EXPECT_EQ(json[i].at("adapter_off"), json[0].at("adapter_off"));
  EXPECT_NE(json[0].at("adapter_on"), json[0].at("adapter_off"));

  // Compare with the model itself.
  const auto classifier = app::load_mlp(base_);
  auto model = classifier.model;
  const auto logits =
      model->forward(normalize_images(image_, classifier.preparation.normalization));
  const std::vector<double> off = json[0].at("adapter_off").at("probabilities");
  EXPECT_TRUE(
      at::allclose(at::tensor(off), at::softmax(logits, 1).to(at::kDouble).flatten(), 1e-5, 1e-7));
  EXPECT_EQ(json[0].at("adapter_off").at("prediction"), logits.argmax(1).item<int64_t>());

  EXPECT_THAT(results[4].out, AllOf(HasSubstr("Label: 3"), HasSubstr("adapter off  adapter on"),
                                    HasSubstr("with the adapter off, ")));
  EXPECT_THAT(results[5].out,
              AllOf(HasSubstr("class  probability"), Not(HasSubstr("Label")),
                    HasSubstr("Prediction: " + json[2]["adapter_off"]["prediction"].dump() + ".")));
}

TEST_F(PredictCommand, RefusesWhatIsNotOneImageOfItsSize) {
  const auto image = write_pgm("i.pgm", image_);
  expect_refusals({
      {predict({}), 2, "one image must be given, as a file or as --index. Got neither."},
      {predict({image, "--index", "1"}), 2, "Got both."},
      {predict({"--data", data_, "--index", "200"}), 2, "must be 0 to 199. Got 200."},
      {predict({"--data", data_, "--index", "-1"}), 2, "Got -1."},
      {predict({write_pgm("l.pgm", at::zeros({3, 5}, at::kByte))}), 1,
       "l.pgm must have the model's 16 numbers and 10 classes. Got 15 and 10."},
      {predict({(folder_ / "none.png").string()}), 1, "none.png\" must exist"},
      {predict({folder_.write("text.png", "hello").string()}), 1, "must be a PNG, JPEG or PGM"},
      {predict({image, "--adapter", base_}), 1, "an adapter folder must hold adapter_config.json"},
  });
}

TEST_F(PredictCommand, NotesAnImageThatTheModelWillMisread) {
  const auto dark = at::full({4, 4}, 20, at::kByte), bright = at::full({4, 4}, 250, at::kByte);
  const auto drawn = bright.clone();
  drawn[1][1] = 0;
  const auto results =
      run_each({predict({write_pgm("dark.pgm", dark)}), predict({write_pgm("drawn.pgm", drawn)}),
                predict({write_pgm("drawn.pgm", drawn), "--invert"}),
                predict({write_pgm("i.pgm", image_)})});
  for (const auto& result : results) EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(results[0].err, HasSubstr("note: every pixel of the image is the same."));
  EXPECT_THAT(results[1].err, HasSubstr("note: the image is bright at its border"));
  EXPECT_THAT(results[1].err, HasSubstr("pass --invert"));
  EXPECT_EQ(results[2].err, "");
  EXPECT_EQ(results[3].err, "");
}

}  // namespace
}  // namespace lowrank
