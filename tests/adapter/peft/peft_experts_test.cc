// Covers target_parameters of experts and trainable_token_indices: src/adapter/peft and targets.

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <lowrank/adapter/adapter.h>
#include <lowrank/adapter/plan.h>
#include <lowrank/error.h>
#include <lowrank/io/json.h>
#include <lowrank/io/safetensors.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>
#include <torch/nn/module.h>

#include "adapter/peft/keys.h"
#include "support/dense_reference.h"
#include "support/expect_error.h"
#include "support/temporary_folder.h"

// PEFT's target_parameters on the weights of experts, and its trainable_token_indices;
// tests/reference/make_experts.py made the nets and the numbers.
namespace lowrank {
namespace {

const std::vector<std::string> kCells = {"up", "both", "patterns", "tokens", "tokens_by_name"};

class PeftExperts : public testing::TestWithParam<std::string> {
 protected:
  torch::jit::Module net() const {
    return torch::jit::load(std::string(LOWRANK_FIXTURES "/") + GetParam() + ".pt");
  }
  at::Tensor tensor(const std::string& name) const {
    return file_.tensor(GetParam() + "." + name).clone();
  }
  at::Tensor run(torch::jit::Module& net) const { return net.forward({tensor("x")}).toTensor(); }

  std::vector<SafetensorsEntry> saved(const std::string& cell) const {
    const auto prefix = GetParam() + "." + cell + ".file.";
    std::vector<SafetensorsEntry> entries;
    for (const auto& name : file_.names()) {
      if (!name.starts_with(prefix)) continue;
      entries.push_back({name.substr(prefix.size()), file_.tensor(name)});
    }
    return entries;
  }
  std::filesystem::path write(const std::string& cell) const {
    const auto configs = parse_json(file_.metadata().at("configs"), "configs");
    std::filesystem::create_directories(folder_ / cell);
    folder_.write(cell + "/adapter_config.json", configs.at(GetParam() + "." + cell).dump());
    write_safetensors(folder_ / cell / "adapter_model.safetensors", saved(cell));
    return folder_ / cell;
  }

  SafetensorsFile file_ = SafetensorsFile::open(LOWRANK_FIXTURES "/peft_experts.safetensors");
  TemporaryFolder folder_;
};

TEST_P(PeftExperts, GivePeftsOutputsAndGradients) {
  for (const auto& cell : kCells) {
    SCOPED_TRACE(cell);
    auto model = net();
    const auto adapter = load_adapter(model, write(cell)).adapter;
    const auto y = run(model);
    EXPECT_LE(relative_error(y.detach(), tensor(cell + ".y")), 1e-5);
    y.backward(tensor("dy"));
    for (const auto& [name, parameter] : adapter.named_parameters()) {
      const auto expected = tensor(fmt::format("{}.grad.{}{}", cell, kKeyPrefix, name));
      ASSERT_TRUE(parameter.grad().defined()) << name;
      EXPECT_LE(relative_error(parameter.grad(), expected), 1e-5) << name;
    }
  }
}

TEST_P(PeftExperts, AreWrittenAsPeftWroteThem) {
  for (const auto& cell : kCells) {
    SCOPED_TRACE(cell);
    auto model = net();
    const auto adapter = load_adapter(model, write(cell)).adapter;
    adapter.save(folder_ / "again", {.force = true});
    const auto again = SafetensorsFile::open(folder_ / "again" / "adapter_model.safetensors");
    EXPECT_EQ(again.names().size(), saved(cell).size());
    for (const auto& [name, value, none] : saved(cell)) {
      EXPECT_TRUE(at::equal(again.tensor(name), value)) << name;
    }
    const auto theirs = read_json_file(folder_ / cell / "adapter_config.json");
    const auto ours = read_json_file(folder_ / "again" / "adapter_config.json");
    EXPECT_EQ(ours["trainable_token_indices"], theirs["trainable_token_indices"]);
    auto other = net();
    load_adapter(other, folder_ / "again");
    EXPECT_TRUE(at::equal(run(other), run(model)));
  }
}

TEST_P(PeftExperts, MergeAndComeBack) {
  for (const auto& cell : kCells) {
    SCOPED_TRACE(cell);
    auto model = net();
    const auto base = run(model).detach();
    auto adapter = load_adapter(model, write(cell)).adapter;
    adapter.merge();
    EXPECT_LE(relative_error(run(model).detach(), tensor(cell + ".y")), 1e-5);
    adapter.unmerge();
    const DisableAdapter off(adapter);
    EXPECT_TRUE(at::equal(run(model), base));
  }
}

INSTANTIATE_TEST_SUITE_P(Layouts, PeftExperts, testing::Values("experts", "experts_transposed"),
                         [](const auto& test) { return test.param; });

torch::jit::Module experts() { return torch::jit::load(LOWRANK_FIXTURES "/experts.pt"); }

TEST(Experts, HaveOnePairOfFactorsEach) {
  auto model = experts();
  const LoraConfig config{.rank = 2, .target_modules = {"up"}};
  const auto plan = plan_adapter(model, config);
  EXPECT_EQ(plan.layers.at(0).parameters, 3 * 2 * (4 + 6));
  const auto layer = attach(model, config).layers().at(0);
  EXPECT_EQ(layer.a.sizes(), at::IntArrayRef({3 * 2, 4}));
  EXPECT_EQ(layer.b.sizes(), at::IntArrayRef({6, 3 * 2}));
}

struct Transposed : torch::nn::Module {
  at::Tensor up = register_parameter("up", at::randn({3, 4, 6}));
  explicit Transposed(bool is_transposed) {
    register_buffer("is_transposed", at::full({}, is_transposed, at::kBool));
  }
};

TEST(Experts, OfAModuleLieAsItsBufferSays) {
  for (const bool is_transposed : {false, true}) {
    Transposed model(is_transposed);
    const auto layer = attach(model, {.rank = 2, .target_modules = {"up"}}).layers().at(0);
    EXPECT_EQ(layer.a.size(1), is_transposed ? 4 : 6);
    EXPECT_EQ(layer.b.size(0), is_transposed ? 6 : 4);
  }
}

TEST(Experts, AreRefusedForWhatNeedsOneMatrix) {
  auto model = experts();
  const LoraConfig config{.rank = 2, .target_modules = {"up"}};
  const auto attach_with = [&](const std::function<void(LoraConfig&)>& change) {
    auto changed = config;
    change(changed);
    attach(model, changed);
  };
  LOWRANK_EXPECT_ERROR(attach_with([](auto& c) { c.use_dora = true; }), ArgumentError,
                       "use_dora must be for layers of one matrix. Got \"experts.up\" of 3");
  LOWRANK_EXPECT_ERROR(attach_with([](auto& c) { c.init = LoraInit::kPissa; }), ArgumentError,
                       "an initialisation from W must be for layers of one matrix");
  LOWRANK_EXPECT_ERROR(attach_with([](auto& c) { c.lora_dropout = 0.1; }), ArgumentError,
                       "lora_dropout must be 0 to adapt \"experts.up\"");
  auto adapter = attach(model, config);
  LOWRANK_EXPECT_ERROR(adapter.combine("two", {"default"}, {1.0}), ArgumentError,
                       "\"default\", with the packed factors of experts");
}

TEST(TokenRows, AreTrainedAlone) {
  auto model = experts();
  const auto x = at::tensor({0, 1, 5}, at::kLong).unsqueeze(0);
  const auto base = model.forward({x}).toTensor().detach();
  const auto adapter = attach(
      model, {.rank = 1, .target_modules = {"head"}, .trainable_token_indices = {{"", {5}}}});
  EXPECT_TRUE(at::allclose(model.forward({x}).toTensor(), base, 1e-5, 1e-6));
  const auto [name, row] = adapter.named_parameters().back();
  EXPECT_EQ(name, "embed_tokens.token_adapter.trainable_tokens_delta");
  EXPECT_EQ(row.sizes(), at::IntArrayRef({1, 4}));
  {
    const at::NoGradGuard no_grad;
    at::Tensor(row).add_(1);
  }
  const auto change = (model.forward({x}).toTensor() - base).abs();
  const auto changed = change.gt(1e-5).any(-1)[0];  // by more than the head's rounding
  EXPECT_TRUE(at::equal(changed, x[0].eq(5)));
}

TEST(TokenRows, AreRefusedByName) {
  auto model = experts();
  const auto attach_with = [&](const char* name, const std::vector<int64_t>& indices,
                               const char* target = "head") {
    attach(model,
           {.rank = 1, .target_modules = {target}, .trainable_token_indices = {{name, indices}}});
  };
  LOWRANK_EXPECT_ERROR(attach_with("embed_token", {0}), ArgumentError,
                       "Got \"embed_token\" for embed_tokens. Did you mean \"embed_tokens\"?");
  LOWRANK_EXPECT_ERROR(attach_with("embed_tokens", {7}), ArgumentError,
                       "trainable_token_indices must be below 7 for \"embed_tokens\". Got 7.");
  LOWRANK_EXPECT_ERROR(attach_with("", {-1}), ArgumentError, "distinct indices from 0. Got -1.");
  LOWRANK_EXPECT_ERROR(attach_with("", {2, 2}), ArgumentError, "Got 2 twice.");
  const LoraConfig twice{.target_modules = {"head"},
                         .trainable_token_indices = {{"", {1}}, {"embed_tokens", {2}}}};
  LOWRANK_EXPECT_ERROR(attach(model, twice), ArgumentError, "Got one without a name.");
  LOWRANK_EXPECT_ERROR(attach_with("", {}), ArgumentError, "Got none for \"\".");
  LOWRANK_EXPECT_ERROR(attach_with("", {1}, "embed_tokens"), ArgumentError,
                       "an Embedding that is not trained otherwise. Got \"embed_tokens\"");
}

}  // namespace
}  // namespace lowrank
