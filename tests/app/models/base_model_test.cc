#include "app/models/base_model.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <lowrank/error.h>

#include <string>

#include "support/expect_error.h"
#include "support/temporary_folder.h"

namespace lowrank::app {
namespace {

BaseModel script(const std::string& name) {
  return BaseModel::from_script(LOWRANK_FIXTURES "/" + name + ".pt");
}

TEST(BaseModel, GivesTorchScriptItsLayout) {
  auto rows = script("base_rows");
  EXPECT_TRUE(rows.is_script());
  rows.set_layout({{4, 4}});
  EXPECT_EQ(rows.forward(at::randn({5, 16})).sizes(), (at::IntArrayRef{5, 10}));
  rows.set_layout({{16}});
  LOWRANK_EXPECT_ERROR(rows.forward(at::randn({5, 16})), TensorError,
                       "must compute with inputs of shape (5, 16). Got \"");
  auto tokens = script("reader_scripted");
  tokens.set_layout({{6}, /*is_whole=*/true});
  EXPECT_EQ(tokens.forward(at::ones({2, 6})).sizes(), (at::IntArrayRef{2, 5}));
}

TEST(BaseModel, IsAdaptedSavedAndLoadedWhateverItIs) {
  at::manual_seed(0);
  const BaseModel mlp(Mlp(MlpOptions{.sizes = {16, 8, 10}}));
  EXPECT_FALSE(mlp.is_script());
  for (const auto& [base, again] :
       {std::pair(mlp, mlp), {script("base_flat"), script("base_flat")}}) {
    const auto x = at::randn({3, 16});
    const auto before = base.forward(x);
    const auto fingerprint = base.fingerprint();
    auto adapter = base.attach({.rank = 2});
    {
      const at::NoGradGuard no_grad;
      for (const auto& layer : adapter.layers()) layer.b.normal_();
    }
    const auto with = base.forward(x);
    EXPECT_FALSE(at::allclose(with, before));
    EXPECT_EQ(base.fingerprint(), fingerprint) << "an adapter is no part of the base";
    const TemporaryFolder folder;
    adapter.save(folder / "a");
    adapter.detach();
    EXPECT_TRUE(at::equal(base.forward(x), before));
    const auto loaded = again.load_adapter(folder / "a");
    EXPECT_EQ(loaded.report.expected_base, fingerprint);
    EXPECT_TRUE(loaded.report.base_matches());
    EXPECT_TRUE(at::equal(again.forward(x), with));
    EXPECT_EQ(base.plan({.rank = 2}).layers.size(), 2);
  }
}

TEST(BaseModel, ConvertsWhatIsFloatingPoint) {
  const auto model = script("base_image");
  model.to(at::kCPU, at::kDouble);
  for (const auto& [name, tensor] : model.named_parameters()) {
    EXPECT_EQ(tensor.scalar_type(), at::kDouble) << name;
  }
  size_t counts = 0;
  for (const auto& [name, tensor] : model.named_buffers()) {
    const bool is_count = name == "norm.num_batches_tracked";
    EXPECT_EQ(tensor.scalar_type(), is_count ? at::kLong : at::kDouble) << name;
    counts += is_count ? 1 : 0;
  }
  EXPECT_EQ(counts, 1);
}

}  // namespace
}  // namespace lowrank::app
