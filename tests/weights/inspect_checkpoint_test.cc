#include <lowrank/weights/inspect_checkpoint.h>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <lowrank/error.h>
#include <lowrank/io/safetensors.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "support/expect_error.h"
#include "support/temporary_folder.h"

namespace lowrank {
namespace {

TEST(InspectCheckpoint, ReadsNoMoreThanWasAskedFor) {
  at::manual_seed(0);
  const TemporaryFolder folder;
  const auto place = folder / "m.safetensors";
  const auto w = at::randn({6, 2}).mm(at::randn({2, 9})).to(at::kBFloat16);
  const auto kernel = at::randn({4, 3, 2, 2});
  write_safetensors(place, {{"kernel", kernel},
                            {"w", w},
                            {"bias", at::full({4}, 3.0)},
                            {"ids", at::arange(6, at::kLong).view({2, 3})},
                            {"none", at::zeros({0, 5})}});
  const auto checkpoint = Checkpoint::open(place);
  for (const auto& tensor : inspect_checkpoint(checkpoint)) {
    EXPECT_FALSE(tensor.norm || tensor.spectrum) << tensor.name;
    EXPECT_EQ(tensor.stored.shape, checkpoint.tensor(tensor.name).sizes().vec());
    EXPECT_FALSE(to_json(tensor).contains("norm"));
  }
  for (const auto& tensor : inspect_checkpoint(checkpoint, {.norms = true})) {
    EXPECT_FALSE(tensor.spectrum) << tensor.name;
    EXPECT_NEAR(tensor.norm.value(),
                checkpoint.tensor(tensor.name).to(at::kDouble).norm().item<double>(), 1e-12);
  }
  int64_t calls = 0;
  const auto all = inspect_checkpoint(
      checkpoint, {.spectra = true}, [&](const std::string& name, int64_t done, int64_t total) {
        EXPECT_EQ(name, checkpoint.names().at(static_cast<size_t>(done)));
        EXPECT_EQ(done, calls++);
        EXPECT_EQ(total, 5);
      });
  EXPECT_EQ(calls, 5);
  for (const auto& tensor : all) {
    const bool is_weight = tensor.stored.shape.size() >= 2 && tensor.name != "ids";
    EXPECT_EQ(tensor.spectrum.has_value(), is_weight) << tensor.name;
    if (!is_weight) continue;
    const auto expected = spectrum(checkpoint.tensor(tensor.name).flatten(1));
    EXPECT_EQ(tensor.spectrum->largest, expected.largest) << tensor.name;
    EXPECT_EQ(to_json(tensor).at("spectrum").at("rank_95"), expected.rank_95);
  }
}

TEST(InspectCheckpoint, NamesATensorThatIsNotFinite) {
  const TemporaryFolder folder;
  write_safetensors(folder / "m.safetensors",
                    {{"a.weight", at::full({2, 2}, std::numeric_limits<double>::infinity())}});
  const auto checkpoint = Checkpoint::open(folder / "m.safetensors");
  LOWRANK_EXPECT_ERROR(inspect_checkpoint(checkpoint, {.spectra = true}), TensorError,
                       "a.weight must hold only finite numbers");
}

}  // namespace
}  // namespace lowrank
