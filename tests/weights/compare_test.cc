#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <lowrank/io/safetensors.h>
#include <lowrank/weights/compare.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>

#include "support/orthonormal.h"
#include "support/temporary_folder.h"

namespace lowrank {
namespace {

using Names = std::vector<std::string>;

TEST(CompareCheckpoints, MeasuresEachTensor) {
  at::manual_seed(0);
  const TemporaryFolder folder;
  const auto w = at::randn({300, 20000}), change = at::randn({300, 20000});  // several blocks
  const auto whole = at::arange(5, at::kLong);
  write_safetensors(folder / "one", {{"w", w},
                                     {"same", whole},
                                     {"half", at::ones({3})},
                                     {"gone", whole},
                                     {"shape", whole},
                                     {"zero", at::zeros({2})}});
  write_safetensors(folder / "two", {{"w", w + change},
                                     {"same", whole},
                                     {"half", at::ones({3}).to(at::kHalf)},
                                     {"new", whole},
                                     {"shape", at::arange(6, at::kLong)},
                                     {"zero", at::ones({2})}});
  const auto found =
      compare_checkpoints(Checkpoint::open(folder / "one"), Checkpoint::open(folder / "two"));
  ASSERT_EQ(found.changed.size(), 2);
  const auto& of_w = found.changed[0].name == "w" ? found.changed[0] : found.changed[1];
  const auto& of_zero = found.changed[0].name == "w" ? found.changed[1] : found.changed[0];
  const auto difference = (w + change).to(at::kDouble) - w.to(at::kDouble);
  EXPECT_NEAR(of_w.difference, norm_of(difference), 1e-9 * norm_of(difference));
  EXPECT_NEAR(of_w.norm, norm_of(w), 1e-9 * norm_of(w));
  EXPECT_EQ(of_w.largest, difference.abs().max().item<double>());
  EXPECT_EQ(of_w.shape, (std::vector<int64_t>{300, 20000}));
  EXPECT_TRUE(std::isinf(of_zero.relative()));
  EXPECT_EQ(found.equal, 2) << "a dtype that holds the same numbers changes none";
  EXPECT_EQ(found.only_base, Names{"gone"});
  EXPECT_EQ(found.only_tuned, Names{"new"});
  EXPECT_EQ(found.reshaped, Names{"shape"});
  EXPECT_FALSE(found.are_equal());
  EXPECT_EQ(to_json(found).at("equal"), 2);
  const auto one = Checkpoint::open(folder / "one");
  EXPECT_TRUE(compare_checkpoints(one, one).are_equal());
}

TEST(CompareCheckpoints, DecomposesTheDifferences) {
  at::manual_seed(1);
  const TemporaryFolder folder;
  const auto w = at::randn({40, 5, 4}, at::kDouble);
  const auto change = at::randn({40, 3}, at::kDouble).mm(at::randn({3, 20}, at::kDouble));
  write_safetensors(folder / "one", {{"w", w}, {"b", at::zeros({4})}});
  write_safetensors(folder / "two", {{"w", w + change.view({40, 5, 4})}, {"b", at::ones({4})}});
  const auto one = Checkpoint::open(folder / "one"), two = Checkpoint::open(folder / "two");
  for (const auto& tensor : compare_checkpoints(one, two, {.spectra = true}).changed) {
    ASSERT_EQ(tensor.spectrum.has_value(), tensor.name == "w");
    if (tensor.name != "w") continue;
    EXPECT_EQ(tensor.spectrum->numerical_rank, 3);
    EXPECT_NEAR(tensor.spectrum->norm, norm_of(change), 1e-5);
  }
  EXPECT_FALSE(compare_checkpoints(one, two).changed[0].spectrum);
  EXPECT_TRUE(to_json(compare_checkpoints(one, two, {.spectra = true})).dump().find("rank_95") !=
              std::string::npos);
}

}  // namespace
}  // namespace lowrank
