#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <lowrank/adapter/adapter.h>
#include <lowrank/error.h>
#include <lowrank/io/json.h>
#include <lowrank/io/safetensors.h>
#include <lowrank/io/sha256.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/linear.h>

#include <cmath>
#include <limits>

#include "app/models/mlp.h"
#include "support/expect_error.h"
#include "support/temporary_folder.h"
#include "support/tolerances.h"

namespace lowrank {
namespace {

using app::Mlp;
using app::MlpOptions;

/// A folder with an adapter of rank 2 on both layers of a small net, and the net it is for.
class AdapterFiles : public testing::Test {
 protected:
  AdapterFiles() {
    auto copy = fresh();
    x_ = at::randn({5, 8});
    auto adapter = attach(*copy, {.rank = 2, .alpha = 4});
    {
      const at::NoGradGuard no_grad;
      for (const auto& factor : adapter.parameters()) factor.normal_();
    }
    on_ = copy->forward(x_).detach();
    adapter.save(folder_ / "two", {.base_model = "base"});
  }

  /// Returns a net that has the same parameters each time.
  static Mlp fresh() {
    at::manual_seed(1);
    return Mlp(MlpOptions{.sizes = {8, 6, 3}});
  }
  std::filesystem::path two() const { return folder_ / "two"; }

  LoadedAdapter load() const {
    auto model = fresh();
    return load_adapter(*model, two());
  }

  /// Changes one field of the config (or removes it, for null).
  void set(const char* field, const nlohmann::json& value) const {
    auto config = read_json_file(two() / "adapter_config.json");
    config[field] = value;
    folder_.write("two/adapter_config.json", config.dump());
  }

  std::vector<SafetensorsEntry> entries() const {
    const auto file = SafetensorsFile::open(two() / "adapter_model.safetensors");
    std::vector<SafetensorsEntry> entries;
    for (const auto& name : file.names()) entries.push_back({name, file.tensor(name).clone()});
    return entries;
  }
  void rewrite(const std::vector<SafetensorsEntry>& entries) const {
    write_safetensors(two() / "adapter_model.safetensors", entries);
  }

  TemporaryFolder folder_;
  at::Tensor x_, on_;
};

TEST_F(AdapterFiles, ComeBackBitForBit) {
  auto copy = fresh();
  const auto loaded = load_adapter(*copy, two());
  EXPECT_TRUE(at::equal(copy->forward(x_).detach(), on_));
  EXPECT_TRUE(loaded.report.base_matches());
  EXPECT_FALSE(loaded.report.expected_base.empty());
  EXPECT_FALSE(loaded.report.acts_like_base);
  EXPECT_EQ(loaded.adapter.config().rank, 2);
  EXPECT_EQ(loaded.adapter.config().alpha, 4);
}

TEST_F(AdapterFiles, AreWhatPeftWrites) {
  const auto config = read_json_file(two() / "adapter_config.json");
  EXPECT_EQ(config["peft_type"], "LORA");
  EXPECT_EQ(config["r"], 2);
  EXPECT_EQ(config["lora_alpha"].dump(), "4");
  EXPECT_EQ(config["target_modules"], (nlohmann::json{"linear1", "linear2"}));
  EXPECT_EQ(config["base_model_name_or_path"], "base");
  const auto file = SafetensorsFile::open(two() / "adapter_model.safetensors");
  EXPECT_EQ(file.tensor("base_model.model.linear1.lora_A.weight").sizes(), at::IntArrayRef({2, 8}));
  EXPECT_EQ(file.tensor("base_model.model.linear1.lora_B.weight").sizes(), at::IntArrayRef({6, 2}));
  EXPECT_EQ(file.names().size(), 4U);
  EXPECT_EQ(file.metadata().at("format"), "pt");
}

TEST_F(AdapterFiles, KnowTheirBase) {
  auto other = Mlp(MlpOptions{.sizes = {8, 6, 3}});
  const auto report = load_adapter(*other, two()).report;
  EXPECT_FALSE(report.base_matches());
  EXPECT_NE(report.expected_base, report.found_base);
}

TEST_F(AdapterFiles, TellThatTheyActLikeTheBase) {
  auto zero = entries();
  for (auto& entry : zero) {
    if (entry.name.find("lora_B") != std::string::npos) entry.tensor.zero_();
  }
  rewrite(zero);
  EXPECT_TRUE(load().report.acts_like_base);
}

TEST_F(AdapterFiles, AreNotReplacedWithoutForce) {
  auto copy = fresh();
  auto adapter = attach(*copy, {.rank = 1});
  LOWRANK_EXPECT_ERROR(adapter.save(two()), FileError, "SaveOptions::force replaces it.");
  EXPECT_EQ(load().adapter.config().rank, 2);
  adapter.save(two(), {.force = true});
  EXPECT_EQ(load().adapter.config().rank, 1);
  adapter.merge();
  LOWRANK_EXPECT_ERROR(adapter.save(folder_ / "merged"), TensorError, "Unmerge it first.");
}

TEST_F(AdapterFiles, AreRefusedForAnotherModel) {
  auto wider = Mlp(MlpOptions{.sizes = {8, 7, 3}});
  LOWRANK_EXPECT_ERROR(
      load_adapter(*wider, two()), FileError,
      "[load] \"base_model.model.linear1.lora_B.weight\" must have shape (7, 2) for the layer "
      "\"linear1\" with a weight of (7, 8). Got (6, 2) in ");
  auto shorter = Mlp(MlpOptions{.sizes = {8, 3}});
  LOWRANK_EXPECT_ERROR(load_adapter(*shorter, two()), FileError,
                       "\"base_model.model.linear1.lora_B.weight\" must have shape (3, 2)");
}

TEST_F(AdapterFiles, AreRefusedWithTensorsMissingOrUnexpected) {
  auto changed = entries();
  changed.push_back({"base_model.model.linear9.lora_A.weight", at::zeros({2, 8})});
  rewrite(changed);
  LOWRANK_EXPECT_ERROR(load(), FileError, "Got \"base_model.model.linear9.lora_A.weight\" too.");
  changed.pop_back();
  changed.pop_back();
  rewrite(changed);
  LOWRANK_EXPECT_ERROR(load(), FileError, "must hold a tensor \"base_model.model.linear");
  changed = entries();
  changed[0].tensor.view(-1)[0] = std::numeric_limits<float>::quiet_NaN();
  rewrite(changed);
  LOWRANK_EXPECT_ERROR(load(), FileError, "must be finite. Got NaN or Inf.");
}

TEST_F(AdapterFiles, MustHoldWhatTheirConfigAsksFor) {
  const std::vector<std::tuple<const char*, nlohmann::json, const char*>> fields = {
      {"use_dora", true, "must hold a tensor \"base_model.model.linear1.lora_magnitude_vector\""},
      {"lora_bias", true, "must hold a tensor \"base_model.model.linear1.lora_B.bias\""},
      {"bias", "all", "must hold a tensor \"base_model.model.linear1.base_layer.bias\""},
      {"rank_pattern", {{"linear1", 4}}, "must have shape (4, 8) for the layer \"linear1\""},
      {"modules_to_save", {"linear2"}, "must hold a tensor \"base_model.model.linear2.weight\""},
  };
  const auto good = read_bytes(two() / "adapter_config.json");
  for (const auto& [field, value, message] : fields) {
    set(field, value);
    LOWRANK_EXPECT_ERROR(load(), FileError, message);
    folder_.write("two/adapter_config.json", good);
  }
}

/// A command that is killed while it replaces an adapter leaves such a folder.
TEST_F(AdapterFiles, SayThatTheirConfigIsNotTheirOwn) {
  set("r", 3);
  LOWRANK_EXPECT_ERROR(load(), FileError,
                       "adapter_config.json beside the tensors is not the one that was saved");
}

TEST_F(AdapterFiles, AreRefusedForWhatCannotBeHonoured) {
  const std::vector<std::pair<const char*, nlohmann::json>> fields = {
      {"peft_type", "ADALORA"},
      {"use_qalora", true},
      {"layer_replication", {{0, 4}, {2, 5}}},
      {"rank_pattern", {{"linear9", "four"}}},
      {"lora_dropout", 1},
      {"r", 0},
      {"r", int64_t{1} << 40},
      {"r", "two"},
      {"lora_alpha", 0},
      {"target_modules", nlohmann::json::array()},
      {"use_rslora", 1},
  };
  const auto good = read_bytes(two() / "adapter_config.json");
  for (const auto& [field, value] : fields) {
    set(field, value);
    LOWRANK_EXPECT_ERROR(load(), FileError, field);
    folder_.write("two/adapter_config.json", good);
  }
  EXPECT_NO_THROW(load());
}

TEST_F(AdapterFiles, HonourRsloraAndTheFieldsThatDoNotMatter) {
  set("use_rslora", true);
  set("lora_dropout", 0.1);
  set("something_new", {1, 2});
  set("task_type", "CAUSAL_LM");
  const auto loaded = load();
  EXPECT_DOUBLE_EQ(loaded.adapter.layers().at(0).scaling, 4 / std::sqrt(2.0));
}

TEST_F(AdapterFiles, NeedNoDataWhereTheBaseIsLeftAlone) {
  set("init_lora_weights", "eva");
  auto copy = fresh();
  const auto loaded = load_adapter(*copy, two());
  EXPECT_TRUE(at::equal(copy->forward(x_).detach(), on_));
  EXPECT_EQ(loaded.adapter.config().init, LoraInit::kEva);
  set("init_lora_weights", "corda");
  LOWRANK_EXPECT_ERROR(load(), FileError, "Got corda in");
}

// PEFT's save_embedding_layers adds such weights.
TEST_F(AdapterFiles, MayHoldWeightsOfTheBase) {
  const auto base = fresh()->named_parameters()["linear1.weight"].detach().clone();
  for (const auto* name : {"linear1.base_layer.weight", "linear1.weight"}) {
    auto more = entries();
    more.push_back({std::string("base_model.model.") + name, base});
    rewrite(more);
    auto copy = fresh();
    load_adapter(*copy, two());
    EXPECT_TRUE(at::equal(copy->forward(x_).detach(), on_));
    more.back().tensor = base + 1;
    rewrite(more);
    LOWRANK_EXPECT_ERROR(load(), FileError, "must be the model's \"linear1.weight\"");
    more.pop_back();
    rewrite(more);
  }
}

/// TRL's examples list the names of layers of several kinds of models, and PEFT loads what matches.
TEST_F(AdapterFiles, LoadThoughTheirConfigNamesWhatTheModelLacks) {
  set("target_modules", {"linear1", "linear2", "c_proj"});
  set("exclude_modules", {"lm_head"});
  set("modules_to_save", {"score"});
  set("rank_pattern", {{"c_fc", 4}, {"linear2", 2}});
  set("alpha_pattern", {{"^decoder.*", 4}});
  auto model = fresh();
  const auto [adapter, report] = load_adapter(*model, two());
  EXPECT_TRUE(at::equal(model->forward(x_).detach(), on_));
  std::vector<std::string> unmatched;
  for (const auto& [field, entry] : report.unmatched) {
    unmatched.push_back(fmt::format("{}: {}", field, entry));
  }
  EXPECT_THAT(unmatched,
              testing::UnorderedElementsAre("target_modules: c_proj", "exclude_modules: lm_head",
                                            "modules_to_save: score", "rank_pattern: c_fc",
                                            "alpha_pattern: ^decoder.*"));
  EXPECT_TRUE(report.unknown_fields.empty());
}

TEST_F(AdapterFiles, LoadThoughLayersToTransformNamesAbsentLayers) {
  auto make = [] {
    at::manual_seed(5);
    torch::nn::Sequential layers(torch::nn::Linear(3, 3), torch::nn::Linear(3, 3));
    auto model = std::make_shared<torch::nn::Module>();
    model->register_module("layers", layers.ptr());
    return model;
  };
  auto model = make();
  auto adapter = attach(*model, {.rank = 2, .target_modules = {"0", "1"}});
  adapter.save(two(), {.force = true});
  set("target_modules", {"0", "1"});
  set("layers_to_transform", {0, 1, 7});
  auto other = make();
  const auto report = load_adapter(*other, two()).report;
  ASSERT_EQ(report.unmatched.size(), 1U);
  EXPECT_EQ(report.unmatched[0].field, "layers_to_transform");
  EXPECT_EQ(report.unmatched[0].entry, "7");
}

TEST_F(AdapterFiles, AreRefusedIfNothingOfTheConfigMatches) {
  set("target_modules", {"c_proj", "c_fc"});
  LOWRANK_EXPECT_ERROR(load(), FileError, "Got \"c_proj\", which matches none of");
}

TEST_F(AdapterFiles, NameTheFieldsOfTheirConfigThatNobodyKnows) {
  set("lora_aplha", 32);
  set("use_new_lora", false);
  set("new_config", nlohmann::json::object());
  set("qalora_group_size", 16);
  const auto report = load().report;
  EXPECT_EQ(report.unknown_fields, std::vector<std::string>{"lora_aplha"});
}

/// The files have no place for a scale, so it is a part of alpha afterwards.
TEST_F(AdapterFiles, KeepTheScale) {
  for (const bool rslora : {false, true}) {
    auto model = fresh();
    auto adapter = attach(
        *model, {.rank = 2, .alpha = 4, .alpha_pattern = {{"linear2", 3}}, .use_rslora = rslora});
    {
      const at::NoGradGuard no_grad;
      for (const auto& factor : adapter.parameters()) factor.normal_();
    }
    adapter.set_scale("default", 0.5);
    const auto expected = model->forward(x_).detach();
    adapter.save(two(), {.force = true});
    EXPECT_EQ(adapter.config().alpha, 4) << "the adapter itself stays as it is";
    auto again = fresh();
    const auto loaded = load_adapter(*again, two());
    EXPECT_TRUE(at::equal(again->forward(x_).detach(), expected));
    EXPECT_EQ(loaded.adapter.config().alpha, 2);
    adapter.set_scale("default", 0);
    LOWRANK_EXPECT_ERROR(adapter.save(folder_ / "none"), TensorError, "a scale other than 0");
  }
}

TEST_F(AdapterFiles, SayWhatIsMissing) {
  std::filesystem::rename(two() / "adapter_model.safetensors", two() / "adapter_model.bin");
  LOWRANK_EXPECT_ERROR(load(), FileError, "is a pickle, which is never executed here; convert it");
  std::filesystem::remove(two() / "adapter_config.json");
  LOWRANK_EXPECT_ERROR(load(), FileError, "must hold adapter_config.json. Got none in");
}

// Compares with PEFT's numbers; tests/reference/README.md describes the fixtures.
class PeftLinear : public testing::TestWithParam<std::string> {};

TEST_P(PeftLinear, GivesTheSameNumbers) {
  const auto file = SafetensorsFile::open(LOWRANK_FIXTURES "/lora_linear.safetensors");
  const auto get = [&](const char* name) {
    return file.tensor(fmt::format("{}.{}", GetParam(), name)).clone();
  };
  const bool bias = file.contains(GetParam() + ".bias");
  const auto weight = get("weight");
  const auto rank = get("lora_A").size(0);
  torch::nn::Linear layer(torch::nn::LinearOptions(weight.size(1), weight.size(0)).bias(bias));
  {
    const at::NoGradGuard no_grad;
    layer->weight.copy_(weight);
    if (bias) layer->bias.copy_(get("bias"));
  }
  auto adapter = attach(
      *layer, {.rank = rank, .alpha = get("scaling").item<double>() * static_cast<double>(rank)});
  const auto info = adapter.layers().at(0);
  {
    const at::NoGradGuard no_grad;
    info.a.copy_(get("lora_A"));
    info.b.copy_(get("lora_B"));
  }
  const auto x = get("x").requires_grad_();
  const auto y = layer->forward(x);
  y.backward(get("dy"));
  const auto near = [](const at::Tensor& found, const at::Tensor& expected) {
    return found.sizes() == expected.sizes() &&
           (found - expected).norm().item<double>() <= 1e-5 * expected.norm().item<double>();
  };
  EXPECT_TRUE(near(y, get("y")));
  EXPECT_TRUE(near(x.grad(), get("dx")));
  EXPECT_TRUE(near(info.a.grad(), get("d_lora_A")));
  EXPECT_TRUE(near(info.b.grad(), get("d_lora_B")));
  adapter.merge();
  EXPECT_TRUE(near(layer->weight.detach(), get("merged")));
}

INSTANTIATE_TEST_SUITE_P(Cases, PeftLinear,
                         testing::Values("batch", "batch_no_bias", "square", "sequence",
                                         "sequence_no_bias", "vector", "empty", "rslora", "larger"),
                         [](const auto& test) { return test.param; });

TEST(PeftInit, DrawsTheSameFactorsFromOneSeed) {
  const auto file = SafetensorsFile::open(LOWRANK_FIXTURES "/peft_init.safetensors");
  Mlp net(MlpOptions{});
  at::manual_seed(3);
  auto adapter = attach(*net, {.rank = 4});
  for (const auto& layer : adapter.layers()) {
    EXPECT_EQ(sha256_hex(layer.a), file.metadata().at("sha256." + layer.name + ".lora_A"));
  }
}

}  // namespace
}  // namespace lowrank
