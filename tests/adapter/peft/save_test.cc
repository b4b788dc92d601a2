#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <lowrank/adapter/adapter.h>
#include <lowrank/error.h>
#include <lowrank/io/json.h>

#include "app/models/mlp.h"
#include "support/expect_error.h"
#include "support/temporary_folder.h"

namespace lowrank {
namespace {

using app::Mlp;
using app::MlpOptions;

/// Two adapters, "default" and "two", which change the outputs differently.
class SaveAll : public testing::Test {
 protected:
  SaveAll() {
    adapter_.add("two", {.rank = 1, .target_modules = {"linear1"}});
    const at::NoGradGuard no_grad;
    for (const auto* name : {"default", "two"}) {
      for (const auto& layer : adapter_.layers(name)) layer.b.normal_();
    }
  }

  /// Returns a net that has the same parameters each time.
  static Mlp fresh() {
    at::manual_seed(1);
    return Mlp(MlpOptions{.sizes = {8, 6, 3}});
  }
  at::Tensor output(const char* name) {
    const auto use = adapter_.use(name);
    return net_->forward(x_).detach();
  }
  at::Tensor loaded(const std::filesystem::path& folder) {
    auto copy = fresh();
    load_adapter(*copy, folder);
    return copy->forward(x_).detach();
  }

  TemporaryFolder folder_;
  at::Tensor x_ = at::ones({4, 8});
  Mlp net_ = fresh();
  Adapter adapter_ = attach(*net_, {.rank = 2});
};

TEST_F(SaveAll, PlacesAdaptersAsPeftDoes) {
  adapter_.save_all(folder_.path(), {.base_model = "base"});
  EXPECT_TRUE(at::equal(loaded(folder_.path()), output("default")));
  EXPECT_TRUE(at::equal(loaded(folder_ / "two"), output("two")));
  EXPECT_EQ(read_json_file(folder_ / "two" / "adapter_config.json")["r"], 1);
}

TEST_F(SaveAll, WritesAllOrNone) {
  adapter_.save(folder_ / "two", {.adapter = "two"});
  LOWRANK_EXPECT_ERROR(adapter_.save_all(folder_.path()), FileError,
                       "SaveOptions::force replaces it.");
  EXPECT_FALSE(std::filesystem::exists(folder_ / "adapter_config.json"));
  adapter_.save_all(folder_.path(), {.force = true});
  EXPECT_TRUE(std::filesystem::exists(folder_ / "adapter_config.json"));
  adapter_.merge();
  LOWRANK_EXPECT_ERROR(adapter_.save_all(folder_ / "merged"), TensorError, "Unmerge it first.");
}

}  // namespace
}  // namespace lowrank
