// Covers cli/commands on data and models of one's own.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <lowrank/io/npy.h>
#include <lowrank/io/safetensors.h>
#include <torch/csrc/jit/api/module.h>

#include <nlohmann/json.hpp>
#include <string>

#include "app/images/image_file.h"
#include "app/models/script_file.h"
#include "support/refusals.h"
#include "support/running_command.h"
#include "support/tiny_images.h"

namespace lowrank {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;
using Words = std::vector<std::string>;

std::string fixture(const std::string& name) { return LOWRANK_FIXTURES "/" + name + ".pt"; }

class OwnData : public ::testing::Test {
 protected:
  /// Runs a command that must succeed, with --json, and returns what it prints.
  Json run(Words words) const {
    for (const char* word : {"--json", "--threads", "1"}) words.emplace_back(word);
    const auto result = run_lowrank(words);
    EXPECT_EQ(result.status, 0) << result.err;
    return result.status == 0 ? Json::parse(result.out) : Json();
  }
  std::string at(const std::string& name) const { return (folder_ / name).string(); }

  /// Two classes of gray images, dark and bright, in folders.
  std::string write_photos(const std::string& name) {
    for (int i = 0; i < 20; ++i) {
      for (const bool bright : {false, true}) {
        const auto image = at::randint(bright ? 128 : 0, bright ? 256 : 128, {6, 5}, at::kByte);
        const auto file = name + (bright ? "/day/" : "/night/") + std::to_string(i) + ".png";
        std::filesystem::create_directories((folder_ / file).parent_path());
        folder_.write(file, app::png_bytes(image));
      }
    }
    return at(name);
  }
  std::string write_table(const std::string& name) {
    std::string text = "a,kind,b\n";
    const auto numbers = at::randn({60, 2});
    for (int64_t i = 0; i < 60; ++i) {
      const auto a = numbers[i][0].item<float>(), b = numbers[i][1].item<float>();
      text += std::to_string(a) + (a > b ? ",over," : ",under,") + std::to_string(b) + "\n";
    }
    return folder_.write(name, text).string();
  }

  TemporaryFolder folder_;
};

TEST_F(OwnData, AnImageFolderIsTrainedOnAdaptedAndPredicted) {
  const auto photos = write_photos("photos");
  run({"train", "--data", photos, "--epochs", "20", "--sizes", "30,8,2", "--out", at("base")});
  const auto config = Json::parse(read_bytes(folder_ / "base" / "config.json"));
  EXPECT_EQ(config.at("class_names"), (Words{"day", "night"}));
  EXPECT_EQ(config.at("image_height"), 6);
  EXPECT_NEAR(config.at("image_mean").get<double>(), 0.5, 0.05) << "measured";
  const auto base = run({"eval", at("base")});
  EXPECT_EQ(base.at("accuracy"), 1);
  EXPECT_EQ(base.at("class_names"), (Words{"day", "night"}));
  run({"finetune", at("base"), "--only", "night", "--replay", "0.5", "--steps", "5", "--rank", "2",
       "--out", at("a")});
  const auto result =
      run_lowrank({"predict", at("base"), "--adapter", at("a"), photos + "/day/3.png"});
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("Prediction: day with the adapter off, day with it on."));
  std::filesystem::remove_all(folder_ / "photos" / "day");
  EXPECT_EQ(run({"eval", at("base")}).at("total_by_class"), (std::vector<int>{0, 20}))
      << "a class that is missing shifts no label";
}

TEST_F(OwnData, ATableIsTrainedOnAndEvaluatedByItsColumns) {
  const auto table = write_table("t.csv");
  run({"train", "--data", table, "--label-column", "kind", "--epochs", "40", "--lr", "0.01",
       "--sizes", "2,8,2", "--out", at("base")});
  const auto all = run({"eval", at("base")});
  EXPECT_GE(all.at("accuracy").get<double>(), 0.9);
  // The same numbers with the columns in another order, and one more.
  const auto other = folder_.write("o.csv", "id,b,a,kind\nx,1,3,over\ny,3,1,under\n").string();
  EXPECT_EQ(run({"eval", at("base"), "--data", other}).at("correct"), 2);
  expect_refusals({{{"eval", at("base"), "--data", other, "--mean", "0"},
                    2,
                    ", as in training, or be left out. Got 0."},
                   {{"eval", at("base"), "--data", other, "--loss", "mse"},
                    2,
                    "--loss must be left out for a base that was trained with cross-entropy"},
                   {{"finetune", at("base"), "--only", "above", "--out", at("a")},
                    2,
                    "--only must be a class of t.csv: over, under. Got \"above\"."}});
}

TEST_F(OwnData, ATorchScriptModelIsAdapted) {
  const TemporaryFolder images;
  const auto data = write_tiny_images(images);
  for (const char* name : {"base_image", "base_rows", "base_flat"}) {
    SCOPED_TRACE(name);
    const auto file = fixture(name);
    const auto before = run({"eval", file, "--data", data, "--train-split"});
    run({"finetune", file, "--data", data, "--target-modules",
         std::string(name) == "base_rows" ? "gru,head" : "all-linear", "--rank", "4", "--epochs",
         "4", "--lr", "0.02", "--mean", "0.5", "--deviation", "0.3", "--out", at(name)});
    const auto after = run({"eval", file, "--data", data, "--adapter", at(name), "--train-split"});
    EXPECT_GT(after.at("accuracy"), before.at("accuracy"));
    EXPECT_TRUE(after.at("base_matches"));
    const auto training = Json::parse(read_bytes(folder_ / name / "training.json"));
    EXPECT_EQ(training.at("preparation").at("image_mean"), 0.5)
        << "eval normalizes as the training did";
    const auto predicted =
        run({"predict", file, "--adapter", at(name), "--data", data, "--index", "3"});
    EXPECT_EQ(predicted.at("adapter_on").at("probabilities").size(), 10);
  }
  const auto info = run({"info", fixture("base_image")});
  EXPECT_EQ(info.at("format"), "TorchScript");
  EXPECT_EQ(info.at("parameters"), 6 * 9 + 6 + 12 + 960 + 10);
  EXPECT_EQ(info.at("base_sha256"),
            Json::parse(run_lowrank({"info", at("base_image"), "--json"}).out).at("base_sha256"));
}

TEST_F(OwnData, ATorchScriptModelLearnsTokensAndNumbers) {
  const auto ids = at::randint(20, {80, 6}, at::kLong);
  write_npy(folder_ / "ids.npy", ids);
  write_npy(folder_ / "kinds.npy", ids.select(1, 5).remainder(5));
  run({"finetune", fixture("reader_scripted"), "--data", at("ids.npy"), "--labels", at("kinds.npy"),
       "--target-modules", "embedding,lstm,linear2", "--rank", "4", "--epochs", "30", "--lr",
       "0.02", "--out", at("tokens")});
  const auto tokens = run({"eval", fixture("reader_scripted"), "--data", at("ids.npy"), "--labels",
                           at("kinds.npy"), "--adapter", at("tokens")});
  EXPECT_GE(tokens.at("accuracy").get<double>(), 0.6);

  const auto x = at::randn({80, 3});
  write_npy(folder_ / "x.npy", x);
  write_npy(folder_ / "y.npy", at::stack({x.sum(1), x.select(1, 0)}, 1));
  const Words data = {"--data", at("x.npy"), "--labels", at("y.npy")};
  const auto with = [&](Words words) {
    words.insert(words.end(), data.begin(), data.end());
    return run(words);
  };
  const auto before = with({"eval", fixture("base_numbers")});
  with({"finetune", fixture("base_numbers"), "--epochs", "60", "--lr", "0.02", "--rank", "2",
        "--out", at("numbers")});
  const auto after = with({"eval", fixture("base_numbers"), "--adapter", at("numbers")});
  EXPECT_LT(after.at("mean_squared_error").get<double>(),
            0.5 * before.at("mean_squared_error").get<double>());
  const auto one =
      with({"predict", fixture("base_numbers"), "--adapter", at("numbers"), "--index", "0"});
  EXPECT_EQ(one.at("adapter_on").at("prediction").size(), 2);
}

TEST_F(OwnData, ATorchScriptRunIsResumed) {
  const TemporaryFolder images;
  const auto data = write_tiny_images(images);
  const auto command = [&](const std::string& out) {
    return Words{"finetune",
                 fixture("base_image"),
                 "--data",
                 data,
                 "--target-modules",
                 "conv,head",
                 "--dropout",
                 "0.1",
                 "--steps",
                 "2000",
                 "--mean",
                 "0.5",
                 "--validation",
                 "0.2",
                 "--threads",
                 "1",
                 "--quiet",
                 "--out",
                 at(out)};
  };
  ASSERT_EQ(run_lowrank(command("whole")).status, 0);
  const auto started = [&] { return std::filesystem::exists(at("cut/checkpoint.safetensors")); };
  ASSERT_EQ(RunningCommand(command("cut")).stop(SIGINT, started).status, 1);
  run({"finetune", "--resume", at("cut")});
  EXPECT_EQ(read_bytes(folder_ / "whole" / "adapter_model.safetensors"),
            read_bytes(folder_ / "cut" / "adapter_model.safetensors"));
}

/// A TorchScript file has no place for it, so the adapter keeps where its examples are, and how
/// they are read.
TEST_F(OwnData, AnAdapterKnowsItsExamples) {
  const auto photos = write_photos("photos");
  run({"finetune", fixture("base_image"), "--data", photos, "--resize", "4,4", "--mean", "0.5",
       "--deviation", "0.3", "--target-modules", "all-linear", "--rank", "2", "--epochs", "1",
       "--out", at("a")});
  const auto given = run({"eval", fixture("base_image"), "--adapter", at("a"), "--data", photos,
                          "--resize", "4,4", "--mean", "0.5", "--deviation", "0.3"});
  const auto known = run_lowrank({"eval", fixture("base_image"), "--adapter", at("a"), "--json"});
  EXPECT_EQ(Json::parse(known.out), given);
  EXPECT_THAT(known.err, HasSubstr("the examples that the adapter was trained on"));
  run({"predict", fixture("base_image"), "--adapter", at("a"), photos + "/day/0.png"});
  std::filesystem::rename(photos, at("moved"));
  run({"predict", fixture("base_image"), "--adapter", at("a"), at("moved") + "/day/0.png"});
  expect_refusals(
      {{{"eval", fixture("base_image"), "--adapter", at("a")},
        1,
        "must be where it was. Got nothing at \"" + photos + "\". Name it with --data."}});
}

TEST_F(OwnData, SaysHowImagesAreNormalized) {
  const TemporaryFolder images;
  const auto data = write_tiny_images(images);
  const auto result = run_lowrank({"eval", fixture("base_image"), "--data", data});
  EXPECT_THAT(result.err, HasSubstr("neither --mean nor --deviation was given"));
}

/// Examples are run to find out their shape, which a model that counts its calls must not notice.
TEST_F(OwnData, AModelThatChangesItsBuffersIsEvaluatedAndNotAdapted) {
  const auto counting = fixture("base_counting");
  const auto table = folder_.write("t.csv", "a,b,c,label\n1,2,3,0\n2,1,0,1\n").string();
  const auto whole = run_lowrank(
      {"eval", counting, "--data", table, "--logits", at("logits.safetensors"), "--json"});
  ASSERT_EQ(whole.status, 0) << whole.err;
  const auto logits = SafetensorsFile::open(folder_ / "logits.safetensors").tensor("logits");
  const auto inputs = at::tensor({1.0, 2.0, 3.0, 2.0, 1.0, 0.0}, at::kFloat).view({2, 3});
  const auto module = app::load_script(counting);
  const auto weight = module.attr("head").toModule().attr("weight").toTensor();
  EXPECT_TRUE(at::allclose(logits, at::matmul(inputs, weight.t())));
  expect_refusals(
      {{{"finetune", counting, "--data", table, "--mean", "0", "--deviation", "1", "--rank", "1",
         "--out", at("a")},
        1,
        "[finetune] the model must not change its buffers when it computes. Got calls."}});
}

TEST_F(OwnData, ARowIsPredictedWithoutALabel) {
  run({"train", "--data", write_table("t.csv"), "--label-column", "kind", "--epochs", "40", "--lr",
       "0.01", "--sizes", "2,8,2", "--out", at("base")});
  const auto rows = folder_.write("rows.csv", "b,a\n-1,3\n3,-1\n").string();
  const auto shown = run_lowrank({"predict", at("base"), "--data", rows, "--index", "1"});
  EXPECT_EQ(shown.status, 0) << shown.err;
  EXPECT_THAT(shown.out, HasSubstr("Prediction: under."));
  EXPECT_THAT(shown.out, ::testing::Not(HasSubstr("Label")));
  const auto first = run({"predict", at("base"), "--data", rows, "--index", "0"});
  EXPECT_EQ(first.at("adapter_off").at("class_name"), "over");
  EXPECT_FALSE(first.contains("label"));

  write_npy(folder_ / "x.npy", at::randn({4, 3}));
  const auto numbers = run(
      {"predict", fixture("base_numbers"), "--data", at("x.npy"), "--loss", "mse", "--index", "0"});
  EXPECT_EQ(numbers.at("adapter_off").at("prediction").size(), 2);
  expect_refusals({{{"eval", at("base"), "--data", rows}, 2, "--label-column must name a column"}});
}

TEST_F(OwnData, ScalesThatMayBeWrongAreNoted) {
  const auto table = folder_.write("t.csv", "a,b,c,label\n1,2,3,0\n2,1,0,1\n").string();
  const auto photos = write_photos("photos");
  const auto note_of = [&](const Words& further) {
    Words words = {"eval", fixture("base_numbers"), "--data", table};
    words.insert(words.end(), further.begin(), further.end());
    const auto result = run_lowrank(words);
    EXPECT_EQ(result.status, 0) << result.err;
    return result.err;
  };
  EXPECT_THAT(note_of({}), HasSubstr("the model gets the numbers as they stand in the table"));
  EXPECT_THAT(note_of({"--mean", "1"}), HasSubstr("--mean was given without --deviation"));
  EXPECT_THAT(note_of({"--deviation", "2"}), HasSubstr("--deviation was given without --mean"));
  EXPECT_EQ(note_of({"--mean", "1, 2, 3", "--deviation", "2"}), "");
  const auto bytes = run_lowrank({"eval", fixture("base_image"), "--data", photos, "--resize",
                                  "4,4", "--mean", "123.7", "--deviation", "58.4"});
  EXPECT_EQ(bytes.status, 0) << bytes.err;
  EXPECT_THAT(bytes.err, HasSubstr("pixels are divided by 255 before --mean is subtracted"));
  const auto from_one = folder_.write("one.csv", "a,label\n1,1\n2,2\n").string();
  const auto trained = run_lowrank(
      {"train", "--data", from_one, "--sizes", "1,2,3", "--steps", "1", "--out", at("from_one")});
  EXPECT_EQ(trained.status, 0) << trained.err;
  EXPECT_THAT(trained.err, HasSubstr("note: no example of one.csv has label 0."));
}

TEST_F(OwnData, FlagsForOtherDataAreRefused) {
  const auto photos = write_photos("photos");
  const auto table = write_table("t.csv");
  const auto numbers = folder_.write("n.csv", "a,b,c,label\n1,2,3,0.5\n2,1,0,1.5\n").string();
  run({"train", "--data", table, "--label-column", "kind", "--steps", "1", "--sizes", "2,2,2",
       "--out", at("base")});
  run({"train", "--data", numbers, "--steps", "1", "--sizes", "3,2,1", "--out", at("numbers")});
  expect_refusals({
      {{"data", "info", photos, "--label-column", "kind"},
       2,
       "--label-column must be given for a .csv file alone. Got \"" + photos + "\"."},
      {{"data", "info", photos, "--drop-columns", "a"}, 2, "--drop-columns must be given for a"},
      {{"eval", at("base"), "--drop-columns", "a"},
       2,
       "--drop-columns must leave the columns that the model knows. Got \"a\"."},
      {{"eval", at("numbers"), "--confusion"}, 2, "--confusion must be given for classes alone"},
      {{"data", "info", photos, "--resize", "32"}, 2, "For squares pass --resize 32,32."},
      {{"train", "--data", table, "--steps", "1", "--epochs", "1", "--out", at("a")},
       2,
       "at most one of --steps and --epochs may be given. Got both."},
  });
}

TEST_F(OwnData, WhatIsProbablyWrongIsSaid) {
  const auto ten = folder_.write("ten.csv", "a,b,c,label\n1,2,3,1\n2,1,0,2\n").string();
  write_npy(folder_ / "ids.npy", at::full({4, 6}, 99, at::kLong));
  write_npy(folder_ / "kinds.npy", at::zeros({4}, at::kLong));
  write_npy(folder_ / "floats.npy", at::tensor({0.0, 1.0, 0.0, 1.0}));
  write_npy(folder_ / "x.npy", at::full({4, 3}, 1e30));
  write_npy(folder_ / "y.npy", at::zeros({4, 2}));
  expect_refusals({
      {{"eval", fixture("base_numbers"), "--data", ten},
       1,
       "The labels run from 1 to 2: classes are counted from 0."},
      {{"eval", fixture("reader_scripted"), "--data", at("ids.npy"), "--labels", at("kinds.npy")},
       1,
       "for (N, 6) of int64 numbers of 99 to 99, of which its embedding lacks some"},
      {{"eval", fixture("base_numbers"), "--data", at("x.npy"), "--labels", at("floats.npy")},
       1,
       "If the labels are classes, pass --loss cross-entropy."},
  });
}

TEST_F(OwnData, WhatDoesNotFitIsRefused) {
  const TemporaryFolder images;
  const auto data = write_tiny_images(images);
  const auto table = folder_.write("t.csv", "a,label\n1,0\n2,1\n").string();
  expect_refusals({
      {{"eval", fixture("base_image")},
       2,
       "[data] --data must name the examples for a TorchScript model. Got none."},
      {{"eval", fixture("base_image"), "--data", table},
       1,
       "[model] the model must map inputs of shape (N, 1) to outputs (N, K) with K of at least 2. "
       "Got for (N, 1) \""},
      {{"eval", fixture("base_numbers"), "--data", data},
       1,
       "must map inputs of shape (N, 1, 4, 4) or (N, 16) or (N, 4, 4) to outputs"},
      {{"eval", fixture("encoder_scripted"), "--data", data, "--resize", "8,8"},
       1,
       "outputs of shape (2, 8, 8)"},
      {{"eval", fixture("base_image"), "--data", data, "--loss", "huber"},
       2,
       "[data] --loss must be cross-entropy or mse. Got \"huber\"."},
      {{"finetune", fixture("base_image"), "--data", data, "--only", "two", "--out", at("a")},
       2,
       "--only must be the number of a class. Got \"two\"."},
  });
}

}  // namespace
}  // namespace lowrank
