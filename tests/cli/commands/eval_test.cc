#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <lowrank/io/safetensors.h>

#include <nlohmann/json.hpp>
#include <string>

#include "support/refusals.h"
#include "support/tiny_images.h"
#include "support/tiny_models.h"

namespace lowrank {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
namespace fs = std::filesystem;
using Json = nlohmann::json;

Json json_of(const CommandResult& result) {
  EXPECT_EQ(result.status, 0) << result.err;
  return Json::parse(result.out);
}

void expect_same_figures(const Json& found, const Json& expected) {
  for (const char* field :
       {"accuracy", "correct", "total", "wrong_by_class", "total_by_class", "confusion"}) {
    EXPECT_EQ(found.at(field), expected.at(field)) << field;
  }
}

class EvalCommand : public ::testing::Test {
 protected:
  std::vector<std::string> eval(const std::string& base,
                                const std::vector<std::string>& more = {}) const {
    std::vector<std::string> words = {"eval", base, "--data", data_, "--threads", "1"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }

  const TemporaryFolder images_;
  const std::string data_ = write_tiny_images(images_);
  const TemporaryFolder folder_;
};

TEST_F(EvalCommand, DropsNothingOut) {
  const auto base = save_tiny_base(folder_ / "base");
  const auto tuned =
      run_lowrank({"finetune", base, "--data", data_, "--dropout", "0.5", "--steps", "9", "--lr",
                   "0.01", "--threads", "1", "--out", (folder_ / "a").string(), "--quiet"});
  ASSERT_EQ(tuned.status, 0) << tuned.err;
  std::vector<at::Tensor> logits;
  for (const std::vector<std::string>& how : {std::vector<std::string>{}, {"--merge"}}) {
    const auto file = (folder_ / std::to_string(logits.size())).string() + ".safetensors";
    auto words = eval(base, {"--adapter", (folder_ / "a").string(), "--logits", file});
    words.insert(words.end(), how.begin(), how.end());
    const auto result = run_lowrank(words);
    ASSERT_EQ(result.status, 0) << result.err;
    logits.push_back(SafetensorsFile::open(file).tensor("logits").clone());
  }
  EXPECT_TRUE(at::allclose(logits[0], logits[1], 1e-4, 1e-5)) << "merged, nothing can drop out";
}

TEST_F(EvalCommand, FollowsADigitFromTrainingToTheMergedAdapter) {
  const auto base = (folder_ / "base").string();
  const auto two = (folder_ / "two").string();
  const auto trained =
      run_lowrank({"train", "--data", data_, "--sizes", "16,32,10", "--epochs", "6", "--lr",
                   "0.003", "--threads", "1", "--out", base, "--quiet"});
  ASSERT_EQ(trained.status, 0) << trained.err;
  EXPECT_EQ(trained.err, "");
  const auto bytes = read_bytes(folder_ / "base" / "model.safetensors");
  const auto tuned =
      run_lowrank({"finetune", base, "--data", data_, "--only", "2", "--rank", "1", "--alpha", "1",
                   "--steps", "100", "--lr", "0.01", "--threads", "1", "--out", two});
  ASSERT_EQ(tuned.status, 0) << tuned.err;

  const auto results =
      run_each({eval(base, {"--json", "--confusion"}),
                eval(base, {"--json", "--confusion", "--adapter", two}),
                eval(base, {"--json", "--confusion", "--adapter", two, "--no-adapter"}),
                eval(base, {"--json", "--confusion", "--adapter", two, "--merge"}),
                eval(base, {"--confusion", "--train-split"})});
  const auto plain = json_of(results[0]);
  EXPECT_EQ(plain.at("mode"), "base");
  EXPECT_FALSE(plain.contains("base_matches"));
  EXPECT_EQ(plain.at("total"), 200);
  EXPECT_EQ(plain.at("total_by_class"), std::vector<int64_t>(10, 20));
  EXPECT_GT(plain.at("accuracy"), 0.5);
  EXPECT_EQ(plain.at("confusion").size(), 10);
  const int64_t diagonal = plain.at("confusion")[2][2];
  EXPECT_EQ(plain.at("wrong_by_class")[2], 20 - diagonal);

  const auto on = json_of(results[1]);
  EXPECT_EQ(on.at("mode"), "adapter on");
  EXPECT_EQ(on.at("base_matches"), true);
  EXPECT_EQ(on.at("acts_like_base"), false);
  EXPECT_EQ(results[1].err, "");
  EXPECT_LT(on.at("wrong_by_class")[2], plain.at("wrong_by_class")[2]);

  const auto off = json_of(results[2]);
  EXPECT_EQ(off.at("mode"), "adapter off");
  expect_same_figures(off, plain);
  const auto merged = json_of(results[3]);
  EXPECT_EQ(merged.at("mode"), "adapter merged");
  expect_same_figures(merged, on);
  EXPECT_THAT(results[4].out, AllOf(HasSubstr("base: accuracy 0."), HasSubstr("of 300)"),
                                    HasSubstr("true \\ pred")));
  EXPECT_EQ(read_bytes(folder_ / "base" / "model.safetensors"), bytes);
}

TEST_F(EvalCommand, WarnsOfAnotherBaseAndOfAnAdapterThatDoesNothing) {
  const auto base = save_tiny_base(folder_ / "base", 0);
  const auto other = save_tiny_base(folder_ / "other", 1);
  const auto adapter = save_tiny_adapter(base, folder_ / "adapter");
  const auto zero = save_tiny_adapter(base, folder_ / "zero", /*zero_b=*/true);
  const auto results = run_each(
      {eval(other, {"--adapter", adapter, "--json"}), eval(base, {"--adapter", zero, "--json"})});
  EXPECT_THAT(results[0].err,
              AllOf(HasSubstr("lowrank: warning: the adapter \"" + adapter + "\" was trained on"),
                    HasSubstr("another base of the same shapes")));
  EXPECT_EQ(json_of(results[0]).at("base_matches"), false);
  EXPECT_THAT(results[1].err, HasSubstr("every lora_B in \"" + zero + "\" is zero"));
  EXPECT_EQ(json_of(results[1]).at("base_matches"), true);
  EXPECT_EQ(json_of(results[1]).at("acts_like_base"), true);
}

TEST_F(EvalCommand, WritesLogits) {
  const auto base = save_tiny_base(folder_ / "base");
  const auto path = (folder_ / "logits.safetensors").string();
  ASSERT_EQ(run_lowrank(eval(base, {"--logits", path})).status, 0);
  const auto file = SafetensorsFile::open(path);
  EXPECT_EQ(file.tensor("logits").sizes(), (at::IntArrayRef{200, 10}));
  EXPECT_EQ(file.tensor("labels")[13].item<int64_t>(), 3);
  const auto bytes = read_bytes(path);
  expect_refusals({{eval(base, {"--logits", path}), 1, "Pass --force to replace it."}});
  EXPECT_EQ(read_bytes(path), bytes);
}

TEST_F(EvalCommand, WritesOverNothingThatItReads) {
  const auto base = save_tiny_base(folder_ / "base");
  const auto adapter = save_tiny_adapter(base, folder_ / "adapter");
  const auto weights = base + "/model.safetensors";
  const auto factors = adapter + "/adapter_model.safetensors";
  const auto link = folder_ / "link";
  fs::create_symlink(weights, link);
  const auto before = read_bytes(weights) + read_bytes(factors);
  expect_refusals({
      {eval(base, {"--logits", weights, "--force"}), 1,
       "[output] \"" + weights + "\" must not be an input of the command. Got the input \""},
      {eval(base, {"--logits", link.string(), "--force"}), 1,
       "must not be an input of the command"},
      {eval(base, {"--adapter", adapter, "--logits", factors, "--force"}), 1,
       "must not be an input of the command"},
  });
  EXPECT_EQ(read_bytes(weights) + read_bytes(factors), before);
}

TEST_F(EvalCommand, WritesOverNoDataAndNoNestedAdapter) {
  const auto base = save_tiny_base(folder_ / "base");
  save_tiny_adapter(base, folder_ / "many" / "default");
  const auto factors = folder_ / "many" / "default" / "adapter_model.safetensors";
  std::string labels;
  for (const auto& entry : fs::directory_iterator(data_)) {
    if (entry.path().string().find("t10k-labels") != std::string::npos) labels = entry.path();
  }
  ASSERT_FALSE(labels.empty());
  const auto before = read_bytes(labels) + read_bytes(factors);
  expect_refusals({
      {eval(base, {"--logits", labels, "--force"}), 1, "must not be an input of the command"},
      {eval(base,
            {"--adapter", (folder_ / "many").string(), "--logits", factors.string(), "--force"}),
       1, "must not be an input of the command"},
  });
  EXPECT_EQ(read_bytes(labels) + read_bytes(factors), before);
}

/// The numbers in the files are finite, but too large for the model's dtype.
TEST_F(EvalCommand, RefusesWhatIsInfiniteOnceItIsRead) {
  const auto base = save_tiny_base(folder_ / "base");
  const auto classifier = app::load_mlp(base);
  const auto with = [&](const std::string& folder, const auto& change) {
    fs::copy(base, folder_ / folder);
    std::vector<SafetensorsEntry> entries;
    for (const auto& item : classifier.model->named_parameters()) {
      entries.push_back({item.key(), change(item.key(), item.value().detach())});
    }
    write_safetensors(folder_ / folder / "model.safetensors", entries);
    return (folder_ / folder).string();
  };
  const auto wide = with("wide", [](const std::string& name, const at::Tensor& tensor) {
    return name == "linear2.weight" ? tensor.to(at::kDouble) * 1e39 : tensor;
  });
  const auto large = with("large", [](const std::string& name, const at::Tensor& tensor) {
    return name.ends_with("weight") ? at::full_like(tensor, 1e38) : tensor;
  });
  const auto adapter = save_tiny_adapter(base, folder_ / "adapter");
  const auto factors = folder_ / "adapter" / "adapter_model.safetensors";
  std::vector<SafetensorsEntry> entries;
  {
    const auto file = SafetensorsFile::open(factors);
    for (const auto& name : file.names()) {
      entries.push_back({name, file.tensor(name).to(at::kDouble) * 1e39});
    }
  }
  write_safetensors(factors, entries);
  expect_refusals({
      {eval(wide), 1, "\"linear2.weight\" in \"" + wide + "\" must be finite as Float."},
      {eval(large), 1,
       "the model's outputs must be finite. Got NaN or Inf for 200 of 200 examples."},
      {{"predict", large, "--data", data_, "--index", "0"}, 1, "NaN or Inf for 1 of 1 examples."},
      {eval(base, {"--adapter", adapter}), 1, "must be finite as Float, which the model is kept"},
  });
  EXPECT_EQ(run_lowrank(eval(wide, {"--dtype", "float64"})).status, 0);
}

/// An empty tensor may have any dimensions, so they must not be taken for a rank.
TEST_F(EvalCommand, TakesNoMemoryForARankThatNoTensorHas) {
  const auto base = save_tiny_base(folder_ / "base");
  const auto adapter = save_tiny_adapter(base, folder_ / "adapter");
  const auto config = folder_ / "adapter" / "adapter_config.json";
  auto json = nlohmann::json::parse(read_bytes(config));
  json["r"] = 900'000;
  folder_.write("adapter/adapter_config.json", json.dump());
  std::vector<SafetensorsEntry> entries = {{"x", at::zeros({0, 1'000'000})}};
  {
    const auto file = SafetensorsFile::open(folder_ / "adapter" / "adapter_model.safetensors");
    for (const auto& name : file.names()) entries.push_back({name, file.tensor(name).clone()});
  }
  write_safetensors(folder_ / "adapter" / "adapter_model.safetensors", entries);
  expect_refusals({{eval(base, {"--adapter", adapter}), 1,
                    "the rank of a layer must be that of its tensors. Got rank 900000"}});
}

/// A tensor of bytes has a dimension for any rank at little cost.
TEST_F(EvalCommand, TakesNoMemoryForFactorsThatTheFileDoesNotHold) {
  const auto base = save_tiny_base(folder_ / "base");
  const auto adapter = save_tiny_adapter(base, folder_ / "adapter");
  auto json = nlohmann::json::parse(read_bytes(folder_ / "adapter" / "adapter_config.json"));
  json["r"] = 1'000'000;
  folder_.write("adapter/adapter_config.json", json.dump());
  write_safetensors(folder_ / "adapter" / "adapter_model.safetensors",
                    {{"x", at::zeros({1'000'000}, at::kChar)}});
  expect_refusals({{eval(base, {"--adapter", adapter}), 1,
                    "the factors of all layers must be in the file. Got 1000000 numbers in "}});
}

TEST_F(EvalCommand, RefusesWrongArguments) {
  const auto base = save_tiny_base(folder_ / "base");
  const auto wide = save_tiny_base(folder_ / "wide", 0, {9, 10});
  const auto adapter = save_tiny_adapter(base, folder_ / "adapter");
  expect_refusals({
      {{"eval"}, 2, "base is required"},
      {eval(base, {"--merge"}), 2, "[eval] --merge goes with --adapter. Got no --adapter."},
      {eval(base, {"--no-adapter"}), 2, "--no-adapter goes with --adapter"},
      {eval(base, {"--adapter", adapter, "--merge", "--no-adapter"}), 2, "Got both."},
      {eval(wide), 1, "must have the model's 9 numbers and 10 classes. Got 16 and 10."},
      {eval(base, {"--adapter", base}), 1, "an adapter folder must hold adapter_config.json."},
  });
}

TEST_F(EvalCommand, RefusesSpoiltAdapters) {
  const auto base = save_tiny_base(folder_ / "base");
  const auto wide = save_tiny_base(folder_ / "wide", 0, {16, 9, 10});
  const auto spoil = [&](const std::string& name, const std::string& file, const std::string& what,
                         const std::string& by) {
    const auto adapter = save_tiny_adapter(base, folder_ / name);
    auto text = read_bytes(fs::path(adapter) / file);
    const auto at = text.find(what);
    EXPECT_NE(at, std::string::npos) << what;
    folder_.write(name + "/" + file, text.replace(at, what.size(), by));
    return eval(base, {"--adapter", adapter});
  };
  const std::string config = "adapter_config.json";
  const std::string weights = "adapter_model.safetensors";
  const auto good = save_tiny_adapter(base, folder_ / "good");
  auto cut = spoil("cut", config, "\"r\"", "\"r\"");
  const auto bytes = read_bytes(folder_ / "cut" / weights);
  folder_.write("cut/" + weights, bytes.substr(0, bytes.size() - 8));
  expect_refusals({
      {eval(wide, {"--adapter", good}), 1, "for the layer \"linear1\" with a weight of (9, 16)"},
      {spoil("json", config, "}", ""), 1, "must be valid JSON"},
      {spoil("rank", config, "\"r\": 2", "\"r\": 3"), 1, "must have shape (3, 16)"},
      {spoil("zero", config, "\"r\": 2", "\"r\": 0"), 1, "must hold an r of at least 1. Got 0."},
      {spoil("layer", config, "linear1", "linaer1"), 1, "Did you mean \"linear1\"?"},
      {spoil("alpha", config, "\"lora_alpha\": 4", "\"lora_alpha\": 0"), 1,
       "must hold a lora_alpha other than 0. Got 0."},
      {spoil("name", weights, "linear2.lora_B", "linear9.lora_B"), 1,
       "must hold a tensor \"base_model.model.linear2.lora_B.weight\". Got none."},
      {cut, 1, "must lie, in order, within the"},
  });
}

}  // namespace
}  // namespace lowrank
