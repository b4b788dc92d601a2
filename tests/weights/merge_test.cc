// Covers src/weights/merge, adapter_updates and plain_adapter.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <lowrank/adapter/adapter.h>
#include <lowrank/error.h>
#include <lowrank/io/json.h>
#include <lowrank/io/safetensors.h>
#include <lowrank/weights/merge.h>
#include <lowrank/weights/resize.h>
#include <torch/nn/modules/container/sequential.h>
#include <torch/nn/modules/conv.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/normalization.h>

#include <string>

#include "checkpoint/fingerprint.h"
#include "support/expect_error.h"
#include "support/orthonormal.h"
#include "support/temporary_folder.h"

namespace lowrank {
namespace {

namespace nn = torch::nn;
using Paths = std::vector<std::filesystem::path>;

struct Merged : nn::Module {
  nn::Embedding table = register_module("table", nn::Embedding(11, 6));
  nn::Conv2d conv = register_module("conv", nn::Conv2d(nn::Conv2dOptions(6, 9, {2, 1})));
  nn::Linear linear = register_module("linear", nn::Linear(9, 20));
  nn::Linear alone = register_module("alone", nn::Linear(9, 20));
  nn::LayerNorm norm = register_module("norm", nn::LayerNorm(nn::LayerNormOptions({20})));
};

class MergeAdapters : public ::testing::Test {
 protected:
  void SetUp() override {
    at::manual_seed(0);
    net_ = std::make_shared<Merged>();
  }
  std::vector<SafetensorsEntry> entries(at::ScalarType dtype) const {
    std::vector<SafetensorsEntry> list;
    for (const auto& item : net_->named_parameters()) {
      list.push_back({item.key(), item.value().detach().to(dtype)});
    }
    return list;
  }
  Checkpoint save(const std::string& name, at::ScalarType dtype = at::kFloat) const {
    write_safetensors(folder_ / name, entries(dtype), {{"format", "pt"}});
    return Checkpoint::open(folder_ / name);
  }
  void save_adapter(const std::string& name, const LoraConfig& config) const {
    auto adapter = attach(*net_, config);
    {
      const at::NoGradGuard no_grad;
      for (const auto& layer : adapter.layers()) {
        layer.a.normal_();
        layer.b.normal_();
      }
      for (auto& [key, tensor] : adapter.named_parameters()) {
        if (key.find("lora_") == std::string::npos) tensor.normal_();
        if (key.ends_with("lora_B.bias")) tensor.normal_();
      }
    }
    adapter.save(folder_ / name);
    adapter.detach();
  }
  std::filesystem::path at(const std::string& name) const { return folder_ / name; }

  const TemporaryFolder folder_;
  std::shared_ptr<Merged> net_;
};

/// The library's own merge in memory, in float64, is the reference.
TEST_F(MergeAdapters, GivesWhatMergingTheModelGives) {
  save_adapter("a", {.rank = 2, .alpha = 3, .target_modules = {"table", "conv", "linear"}});
  save_adapter("b", {.rank = 3,
                     .alpha = -2,
                     .target_modules = {"linear"},
                     .modules_to_save = {"norm"},
                     .bias = BiasMode::kLoraOnly,
                     .use_rslora = true});
  save_adapter("c", {.rank = 2, .target_modules = {"alone"}, .lora_bias = true});
  const auto base = save("base.safetensors");
  const auto report = merge_adapters(base, Paths{at("a"), at("b"), at("c")}, at("m.safetensors"));
  EXPECT_EQ(report.copied, 1) << "conv.bias";

  net_->to(at::kDouble);
  for (const char* name : {"a", "b", "c"}) {
    auto loaded = load_adapter(*net_, folder_ / name);
    const auto trained = loaded.adapter.named_parameters();
    loaded.adapter.merge_and_unload();
    const at::NoGradGuard no_grad;
    for (const auto& [key, tensor] : trained) {
      auto own = key;
      if (const auto wrapper = own.find(".base_layer"); wrapper != std::string::npos) {
        own.erase(wrapper, std::string(".base_layer").size());
      }
      if (auto* parameter = net_->named_parameters().find(own)) parameter->copy_(tensor);
    }
  }
  const auto merged = Checkpoint::open(at("m.safetensors"));
  EXPECT_EQ(merged.metadata_of(0).at("format"), "pt");
  for (const auto& item : net_->named_parameters()) {
    EXPECT_TRUE(at::equal(merged.tensor(item.key()), item.value().to(at::kFloat))) << item.key();
  }
}

/// DoRA's W' = m · V / ‖V‖ of a linear layer, a convolution and an embedding, whose norms are of
/// columns, on top of another adapter.
TEST_F(MergeAdapters, GivesWhatMergingTheModelGivesWithDora) {
  save_adapter("plain", {.rank = 1, .alpha = 2, .target_modules = {"linear"}});
  save_adapter(
      "dora",
      {.rank = 2, .alpha = 3, .target_modules = {"table", "conv", "linear"}, .use_dora = true});
  const auto base = save("base.safetensors");
  merge_adapters(base, Paths{at("plain"), at("dora")}, at("m.safetensors"));
  const auto merged = Checkpoint::open(at("m.safetensors"));
  EXPECT_TRUE(verify_merge(base, Paths{at("plain"), at("dora")}, merged, {}).empty());
  net_->to(at::kDouble);
  for (const char* name : {"plain", "dora"}) {
    load_adapter(*net_, folder_ / name).adapter.merge_and_unload();
  }
  for (const auto& item : net_->named_parameters()) {
    const auto wanted = item.value().detach();
    EXPECT_TRUE(at::allclose(merged.tensor(item.key()).to(at::kDouble), wanted, 1e-6, 1e-7))
        << item.key();
  }
}

TEST_F(MergeAdapters, RefusesDoraWithoutItsMagnitudes) {
  save_adapter("dora", {.rank = 2, .target_modules = {"linear"}, .use_dora = true});
  const auto base = save("base.safetensors");
  const auto file = SafetensorsFile::open(at("dora/adapter_model.safetensors"));
  for (const int64_t outputs : {0, 19}) {  // none, or one too few
    std::vector<SafetensorsEntry> list;
    for (const auto& name : file.names()) {
      const bool is_magnitude = name.find("magnitude") != std::string::npos;
      if (is_magnitude && outputs == 0) continue;
      list.push_back({name, is_magnitude ? at::ones({outputs}) : file.tensor(name).clone()});
    }
    const TemporaryFolder folder;
    std::filesystem::copy(at("dora"), folder / "dora");
    write_safetensors(folder / "dora" / "adapter_model.safetensors", list);
    LOWRANK_EXPECT_ERROR(
        merge_adapters(base, Paths{folder / "dora"}, at("m.safetensors")), FileError,
        outputs == 0 ? "must hold a magnitude for each layer. Got none for \"linear.weight\""
                     : "one number for each output of a layer with factors. Got (19)");
  }
}

TEST_F(MergeAdapters, RefusesWeightsThatNoUpdateCanChange) {
  save_adapter("a", {.rank = 1, .target_modules = {"linear"}});
  save_adapter("dora", {.rank = 1, .target_modules = {"linear"}, .use_dora = true});
  const auto refused = [&](const at::Tensor& weight, const char* adapter, const char* message) {
    auto list = entries(at::kFloat);
    for (auto& entry : list) {
      if (entry.name == "linear.weight") entry.tensor = weight;
    }
    write_safetensors(at("odd.safetensors"), list);
    EXPECT_THROW(
        {
          try {
            merge_adapters(Checkpoint::open(at("odd.safetensors")), Paths{at(adapter)},
                           at("m.safetensors"));
          } catch (const Error& error) {
            EXPECT_NE(std::string(error.what()).find(message), std::string::npos) << error.what();
            throw;
          }
        },
        Error);
    EXPECT_FALSE(std::filesystem::exists(at("m.safetensors")));
  };
  refused(at::ones({20, 9}, at::kInt), "a", "must hold floating-point numbers. Got I32.");
  refused(at::full({20, 9}, 1e200, at::kDouble), "dora", "must have finite norms above 0");
}

TEST_F(MergeAdapters, TellsWhatRoundingLost) {
  save_adapter("a", {.rank = 2, .alpha = 0.01, .target_modules = {"linear"}});
  for (const auto dtype : {at::kDouble, at::kFloat, at::kHalf, at::kBFloat16}) {
    SCOPED_TRACE(c10::toString(dtype));
    const auto base = save("base.safetensors", dtype);
    const auto report = merge_adapters(base, Paths{at("a")}, at("m.safetensors"), {.force = true});
    ASSERT_EQ(report.tensors.size(), 1);
    const auto& found = report.tensors[0];
    const auto file = SafetensorsFile::open(at("a/adapter_model.safetensors"));
    const std::string prefix = "base_model.model.linear.lora_";
    const auto update = file.tensor(prefix + "B.weight")
                            .to(at::kDouble)
                            .mm(file.tensor(prefix + "A.weight").to(at::kDouble)) *
                        0.005;
    const auto old = base.tensor("linear.weight");
    const auto merged = Checkpoint::open(at("m.safetensors")).tensor("linear.weight");
    EXPECT_EQ(merged.scalar_type(), dtype);
    EXPECT_NEAR(found.update, norm_of(update), 1e-12);
    EXPECT_NEAR(found.rounding, norm_of(merged.to(at::kDouble) - old.to(at::kDouble) - update),
                1e-12);
    EXPECT_EQ(found.unchanged, merged.eq(old).sum().item<int64_t>());
    EXPECT_EQ(found.numbers, 180);
  }
}

TEST_F(MergeAdapters, IsTakenOutAgain) {
  save_adapter("a", {.rank = 2, .target_modules = {"linear", "conv"}});
  for (const auto dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
    const auto base = save("base.safetensors", dtype);
    merge_adapters(base, Paths{at("a")}, at("m.safetensors"), {.force = true});
    merge_adapters(Checkpoint::open(at("m.safetensors")), Paths{at("a")}, at("again.safetensors"),
                   {.subtract = true, .force = true});
    const auto again = Checkpoint::open(at("again.safetensors"));
    const double eps = dtype == at::kDouble ? 1e-15 : dtype == at::kFloat ? 1e-6 : 2e-2;
    for (const auto& name : base.names()) {
      EXPECT_LE(norm_of(again.tensor(name).to(at::kDouble) - base.tensor(name).to(at::kDouble)),
                20 * eps)
          << name;
    }
  }
}

TEST_F(MergeAdapters, TellsOfAdaptersOfOtherBases) {
  save_adapter("a", {.rank = 2, .target_modules = {"linear"}});
  const auto merge = [&](const Checkpoint& base, bool subtract = false) {
    return merge_adapters(base, Paths{at("a")}, at("m.safetensors"),
                          {.subtract = subtract, .force = true})
        .of_other_bases;
  };
  const auto base = save("base.safetensors");
  EXPECT_EQ(fingerprint_of(base), base_fingerprint(*net_));
  EXPECT_TRUE(merge(base).empty());
  {
    const at::NoGradGuard no_grad;
    net_->alone->bias += 1;
  }
  const auto other = save("other.safetensors");
  EXPECT_EQ(merge(other), Paths{at("a")});
  EXPECT_TRUE(merge(other, /*subtract=*/true).empty()) << "a merged model is no base";
}

/// A tensor that took the place of the base's cannot be put back, even if it is as in the adapter.
TEST_F(MergeAdapters, CannotPutBackWhatWasReplaced) {
  save_adapter("a", {.rank = 2, .target_modules = {"linear"}, .modules_to_save = {"norm"}});
  merge_adapters(save("base.safetensors"), Paths{at("a")}, at("m.safetensors"));
  LOWRANK_EXPECT_ERROR(merge_adapters(Checkpoint::open(at("m.safetensors")), Paths{at("a")},
                                      at("n.safetensors"), {.subtract = true}),
                       FileError, "must change its base by updates alone. Got \"norm.");
}

/// Each number is the one of the dtype that is nearest to the sum in float64.
TEST_F(MergeAdapters, RoundsToNumbersOfEightBits) {
  save_adapter("a", {.rank = 2, .target_modules = {"linear"}});
  std::vector<SafetensorsEntry> list;
  for (const auto& entry : entries(at::kFloat)) {
    const bool is_weight = entry.name.ends_with("linear.weight");
    list.push_back(
        {entry.name, entry.tensor, is_weight ? std::optional(Float8::kE4M3) : std::nullopt});
  }
  write_safetensors(at("base.safetensors"), list);
  const auto base = Checkpoint::open(at("base.safetensors"));
  const auto report = merge_adapters(base, Paths{at("a")}, at("m.safetensors"));
  const auto merged = Checkpoint::open(at("m.safetensors"));
  EXPECT_EQ(merged.stored("linear.weight").format, "F8_E4M3");
  EXPECT_TRUE(verify_merge(base, Paths{at("a")}, merged).empty());
  const auto adapter = SafetensorsFile::open(at("a/adapter_model.safetensors"));
  const auto factor = [&](const char* name) {
    return adapter.tensor(std::string("base_model.model.linear.lora_") + name + ".weight")
        .to(at::kDouble);
  };
  const auto exact = base.tensor("linear.weight").to(at::kDouble) + 4 * factor("B").mm(factor("A"));
  const auto found = merged.tensor("linear.weight").to(at::kDouble);
  EXPECT_NEAR(report.tensors[0].rounding, norm_of(found - exact), 1e-9);
  const auto wanted = exact.view({-1});
  for (int64_t i = 0; i < wanted.numel(); ++i) {
    EXPECT_EQ(found.view({-1})[i].item<double>(),
              round_to_float8(wanted[i].item<double>(), Float8::kE4M3));
  }
  list.push_back({"linear.weight_scale_inv", at::ones({1})});
  write_safetensors(at("scaled.safetensors"), list);
  LOWRANK_EXPECT_ERROR(merge_adapters(Checkpoint::open(at("scaled.safetensors")), Paths{at("a")},
                                      at("n.safetensors")),
                       FileError, "Got \"linear.weight_scale_inv\", which scales it.");
}

/// mergekit writes differences of biases as lora_B.bias, and no lora_bias.
TEST_F(MergeAdapters, AddsBiasesThatTheConfigDoesNotState) {
  save_adapter("a", {.rank = 2, .target_modules = {"linear"}, .lora_bias = true});
  auto json = read_ordered_json_file(at("a/adapter_config.json"));
  const auto base = save("base.safetensors");
  EXPECT_TRUE(merge_adapters(base, Paths{at("a")}, at("stated.safetensors")).notes.empty());
  json["lora_bias"] = false;
  folder_.write("a/adapter_config.json", json.dump());
  const auto report = merge_adapters(base, Paths{at("a")}, at("m.safetensors"));
  ASSERT_EQ(report.notes.size(), 1);
  EXPECT_NE(report.notes[0].find("lora_B.bias"), std::string::npos);
  const auto bias = Checkpoint::open(at("m.safetensors")).tensor("linear.bias");
  EXPECT_TRUE(at::equal(bias, Checkpoint::open(at("stated.safetensors")).tensor("linear.bias")));
  EXPECT_FALSE(at::equal(bias, base.tensor("linear.bias")));
  const auto resized = resize_adapter(at("a"), at("b"), {.rule = RankRule::at_most(1)});
  EXPECT_EQ(resized.notes.size(), 1);
  EXPECT_EQ(read_json_file(at("b/adapter_config.json")).at("lora_bias"), true);
}

TEST_F(MergeAdapters, KeepsAFolderWhole) {
  save_adapter("a", {.rank = 2, .target_modules = {"linear"}});
  std::filesystem::create_directory(at("base"));
  std::vector<SafetensorsEntry> first, second;
  std::string index;
  for (const auto& entry : entries(at::kFloat)) {
    auto& shard = entry.name == "linear.weight" ? first : second;
    shard.push_back(entry);
    index += (index.empty() ? "\"" : ", \"") + entry.name + "\": \"" +
             (&shard == &first ? "x" : "y") + ".safetensors\"";
  }
  write_safetensors(at("base/x.safetensors"), first);
  write_safetensors(at("base/y.safetensors"), second);
  folder_.write("base/model.safetensors.index.json", "{\"weight_map\": {" + index + "}}");
  folder_.write("base/config.json", "{}");
  folder_.write("base/pytorch_model.bin", "old weights");
  const auto base = Checkpoint::open(at("base"));
  merge_adapters(base, Paths{at("a")}, at("m"));
  EXPECT_EQ(read_bytes(at("m/y.safetensors")), read_bytes(at("base/y.safetensors")));
  EXPECT_EQ(read_bytes(at("m/config.json")), "{}");
  EXPECT_FALSE(std::filesystem::exists(at("m/pytorch_model.bin")));
  EXPECT_TRUE(verify_merge(base, Paths{at("a")}, Checkpoint::open(at("m"))).empty());
  EXPECT_TRUE(std::filesystem::exists(at("m/lowrank_report.json")));
  LOWRANK_EXPECT_ERROR(merge_adapters(base, Paths{at("a")}, at("m")), FileError,
                       "must not exist yet. Got a file.");
  folder_.write("m/notes.txt", "mine");
  folder_.write("m/z.safetensors", "not of this model");
  merge_adapters(base, Paths{at("a")}, at("m"), {.force = true});
  EXPECT_EQ(read_bytes(at("m/notes.txt")), "mine");
  EXPECT_TRUE(std::filesystem::exists(at("m/z.safetensors")));
  EXPECT_TRUE(verify_merge(base, Paths{at("a")}, Checkpoint::open(at("m"))).empty());
}

TEST_F(MergeAdapters, IsVerifiedBitByBit) {
  save_adapter("a", {.rank = 2, .target_modules = {"linear"}});
  for (const auto dtype : {at::kDouble, at::kFloat, at::kHalf}) {
    const auto base = save("base.safetensors", dtype);
    merge_adapters(base, Paths{at("a")}, at("m.safetensors"), {.force = true});
    EXPECT_TRUE(verify_merge(base, Paths{at("a")}, Checkpoint::open(at("m.safetensors"))).empty());
    auto bytes = read_bytes(at("m.safetensors"));
    bytes.back() = static_cast<char>(bytes.back() ^ 1);
    const auto wrong =
        verify_merge(base, Paths{at("a")}, Checkpoint::open(folder_.write("f.safetensors", bytes)));
    ASSERT_EQ(wrong.size(), 1);
    EXPECT_EQ(wrong[0].wrong, 1);
  }
}

/// As BatchNorm's num_batches_tracked, which modules_to_save carries.
TEST_F(MergeAdapters, ReplacesWholeNumbersAsTheyAre) {
  save_adapter("a", {.rank = 2, .target_modules = {"linear"}, .modules_to_save = {"norm"}});
  const auto adapter_file = at("a") / "adapter_model.safetensors";
  std::vector<SafetensorsEntry> trained;
  {
    const auto file = Checkpoint::open(adapter_file);
    for (const auto& name : file.names()) trained.push_back({name, file.tensor(name).clone()});
  }
  trained.push_back({"base_model.model.norm.steps", at::full({2}, 7, at::kLong)});
  write_safetensors(adapter_file, trained, {{"format", "pt"}});
  auto list = entries(at::kFloat);
  list.push_back({"norm.steps", at::full({2}, 3, at::kLong)});
  write_safetensors(at("base.safetensors"), list);

  merge_adapters(Checkpoint::open(at("base.safetensors")), Paths{at("a")}, at("m.safetensors"));
  const auto merged = Checkpoint::open(at("m.safetensors")).tensor("norm.steps").clone();
  EXPECT_TRUE(at::equal(merged, at::full({2}, 7, at::kLong))) << merged;
}

TEST_F(MergeAdapters, TakesAPrefix) {
  save_adapter("a", {.rank = 2, .target_modules = {"linear"}});
  auto list = entries(at::kFloat);
  for (auto& entry : list) entry.name = "model." + entry.name;
  write_safetensors(at("base.safetensors"), list);
  const auto base = Checkpoint::open(at("base.safetensors"));
  LOWRANK_EXPECT_ERROR(
      merge_adapters(base, Paths{at("a")}, at("m.safetensors")), FileError,
      "must hold \"linear.weight\", which the adapter changes. Got no such tensor");
  EXPECT_EQ(merge_adapters(base, Paths{at("a")}, at("m.safetensors"), {.prefix = "model."})
                .tensors.at(0)
                .name,
            "model.linear.weight");
}

TEST_F(MergeAdapters, RefusesWhatItCannotMerge) {
  save_adapter("dora", {.rank = 2, .target_modules = {"linear"}, .use_dora = true});
  save_adapter("whole", {.rank = 2, .target_modules = {"linear"}, .modules_to_save = {"norm"}});
  save_adapter("wide", {.rank = 2, .target_modules = {"linear"}});
  save_adapter(
      "tokens",
      {.rank = 2, .target_modules = {"linear"}, .trainable_token_indices = {{"table", {1, 2}}}});
  const auto base = save("base.safetensors");
  const auto refused = [&](const std::string& adapter, const CheckpointMergeOptions& options,
                           const std::string& message) {
    LOWRANK_EXPECT_ERROR(merge_adapters(base, Paths{at(adapter)}, at("m.safetensors"), options),
                         FileError, message);
    EXPECT_FALSE(std::filesystem::exists(at("m.safetensors")));
  };
  refused("dora", {.subtract = true}, "that do not depend on it. Got use_dora.");
  refused("tokens", {}, "token_adapter");
  refused("whole", {.subtract = true}, "which took the place of the base's");
  auto list = entries(at::kFloat);
  for (auto& entry : list) {
    if (entry.name == "linear.weight") entry.tensor = at::zeros({20, 10});
  }
  write_safetensors(at("other.safetensors"), list);
  LOWRANK_EXPECT_ERROR(merge_adapters(Checkpoint::open(at("other.safetensors")), Paths{at("wide")},
                                      at("m.safetensors")),
                       FileError, "must fit its factors, which make (20, 9). Got (20, 10).");
  const auto half = save("half.safetensors", at::kHalf);
  auto file = SafetensorsFile::open(at("wide/adapter_model.safetensors"));
  std::vector<SafetensorsEntry> huge;
  for (const auto& name : file.names()) huge.push_back({name, file.tensor(name) * 1e6});
  write_safetensors(at("wide/adapter_model.safetensors"), huge);
  LOWRANK_EXPECT_ERROR(merge_adapters(half, Paths{at("wide")}, at("m.safetensors")), TensorError,
                       "the sums in \"linear.weight\" must be finite. Got NaN or Inf as F16.");
  EXPECT_FALSE(std::filesystem::exists(at("m.safetensors")));
}

/// A small language model whose head is its table of embeddings.
struct Tied : nn::Module {
  nn::Embedding embed_tokens = register_module("embed_tokens", nn::Embedding(11, 6));
  nn::Linear lm_head = register_module("lm_head", nn::Linear(nn::LinearOptions(6, 11).bias(false)));
  at::Tensor forward(const at::Tensor& ids) { return lm_head->forward(embed_tokens->forward(ids)); }
};

class MergeTied : public MergeAdapters {
 protected:
  void SetUp() override {
    MergeAdapters::SetUp();
    std::filesystem::create_directory(at("base"));
    const at::NoGradGuard no_grad;
    model_.lm_head->weight.copy_(model_.embed_tokens->weight);
    write_safetensors(at("base/a.safetensors"), {{"other", at::ones({5})}});
    write_safetensors(at("base/b.safetensors"),
                      {{"embed_tokens.weight", model_.embed_tokens->weight.detach()}});
    folder_.write("base/model.safetensors.index.json",
                  R"({"metadata": {"total_size": 1, "x": 2}, "weight_map": {"other":)"
                  R"("a.safetensors", "embed_tokens.weight": "b.safetensors"}})");
    folder_.write("base/config.json", R"({"b": 1, "tie_word_embeddings": true, "a": 2})");
  }
  /// Saves an adapter of a module, and returns the logits of the model with it.
  at::Tensor logits_with_adapter(const LoraConfig& config) {
    auto adapter = attach(model_, config);
    const at::NoGradGuard no_grad;
    for (const auto& layer : adapter.layers()) {
      layer.a.normal_();
      layer.b.normal_();
    }
    for (auto& [key, tensor] : adapter.named_parameters()) {
      if (key.find("lora_") == std::string::npos) tensor.normal_();
    }
    adapter.save(at("a"), {.force = true});
    const auto logits = model_.forward(ids_);
    adapter.detach();
    return logits;
  }
  at::Tensor logits_of(const Checkpoint& merged) {
    Tied net;
    const at::NoGradGuard no_grad;
    net.embed_tokens->weight.copy_(merged.tensor("embed_tokens.weight"));
    net.lm_head->weight.copy_(merged.tensor("lm_head.weight"));
    return net.forward(ids_);
  }
  Tied model_;
  const at::Tensor ids_ = at::arange(11);
};

TEST_F(MergeTied, WritesTheHeadApart) {
  const auto base = Checkpoint::open(at("base"));
  const std::vector<LoraConfig> configs = {
      {.rank = 2, .target_modules = {"embed_tokens"}},
      {.rank = 2, .target_modules = {"lm_head"}},
      {.rank = 2, .target_modules = {"lm_head"}, .modules_to_save = {"embed_tokens"}}};
  for (const auto& config : configs) {
    const auto logits = logits_with_adapter(config);
    merge_adapters(base, Paths{at("a")}, at("m"), {.force = true});
    const auto merged = Checkpoint::open(at("m"));
    EXPECT_TRUE(at::allclose(logits_of(merged), logits, 1e-5, 1e-5));
    EXPECT_TRUE(verify_merge(base, Paths{at("a")}, merged).empty());
    EXPECT_EQ(read_ordered_json_file(at("m/config.json")).dump(),
              R"({"b":1,"tie_word_embeddings":false,"a":2})");
    const auto index = read_json_file(at("m/model.safetensors.index.json"));
    EXPECT_EQ(index.at("weight_map").at("lm_head.weight"), "b.safetensors");
    EXPECT_EQ(index.at("metadata").at("total_size"), 20 + 2 * 11 * 6 * 4);
    EXPECT_EQ(index.at("metadata").at("x"), 2);
  }
  merge_adapters(Checkpoint::open(at("m")), Paths{at("a")}, at("again"), {.resume = true});
}

TEST_F(MergeTied, LeavesTheTieWhereNeitherChanges) {
  write_safetensors(at("base/a.safetensors"), {{"x.weight", at::ones({4, 4})}});
  folder_.write("base/model.safetensors.index.json",
                R"({"weight_map": {"x.weight": "a.safetensors",)"
                R"("embed_tokens.weight": "b.safetensors"}})");
  nn::Sequential net;
  net->push_back("x", nn::Linear(nn::LinearOptions(4, 4).bias(false)));
  auto adapter = attach(*net, {.rank = 2});
  adapter.save(at("a"));
  const auto base = Checkpoint::open(at("base"));
  merge_adapters(base, Paths{at("a")}, at("m"));
  EXPECT_EQ(Checkpoint::open(at("m")).names().size(), 2);
  EXPECT_EQ(read_json_file(at("m/config.json")).at("tie_word_embeddings"), true);
}

TEST_F(MergeTied, TakesShardsOfAnyEnding) {
  folder_.write("base/model.safetensors.index.json",
                R"({"weight_map": {"other": "a.st", "embed_tokens.weight": "b.safetensors"}})");
  std::filesystem::rename(at("base/a.safetensors"), at("base/a.st"));
  logits_with_adapter({.rank = 2, .target_modules = {"embed_tokens"}});
  const auto base = Checkpoint::open(at("base"));
  merge_adapters(base, Paths{at("a")}, at("m"));
  EXPECT_TRUE(verify_merge(base, Paths{at("a")}, Checkpoint::open(at("m"))).empty());
  std::filesystem::rename(at("base/a.st"), at("base/tokenizer.json"));
  folder_.write("base/model.safetensors.index.json", R"({"weight_map": {"other": "tokenizer.json",)"
                                                     R"("embed_tokens.weight": "b.safetensors"}})");
  LOWRANK_EXPECT_ERROR(merge_adapters(Checkpoint::open(at("base")), Paths{at("a")}, at("n")),
                       FileError,
                       "must not have the names of other files. Got \"tokenizer.json\".");
}

TEST_F(MergeTied, IsTiedByTheConfigAlone) {
  folder_.write("base/config.json", R"({"tie_word_embeddings": "no"})");
  logits_with_adapter({.rank = 2, .target_modules = {"embed_tokens"}});
  const auto base = Checkpoint::open(at("base"));
  merge_adapters(base, Paths{at("a")}, at("m"));
  EXPECT_EQ(Checkpoint::open(at("m")).names().size(), 2);
  logits_with_adapter({.rank = 2, .target_modules = {"lm_head"}});
  LOWRANK_EXPECT_ERROR(merge_adapters(base, Paths{at("a")}, at("n")), FileError,
                       "must hold \"lm_head.weight\"");
}

}  // namespace
}  // namespace lowrank
