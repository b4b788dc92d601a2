// Covers src/adapter/combine in comparison with PEFT's add_weighted_adapter.

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <lowrank/io/safetensors.h>

#include <string>

#include "adapter/combine/combine_factors.h"
#include "adapter/combine/combine_problem.h"
#include "adapter/combine/combine_reference.h"

namespace lowrank {
namespace {

/// The results of PEFT's add_weighted_adapter (tests/reference/make_adapter_fixtures.py), for the
/// methods and scalings for which it is right.
class BesidePeft : public testing::Test {
 protected:
  SafetensorsFile file_ = SafetensorsFile::open(LOWRANK_FIXTURES "/combine.safetensors");

  void expect_equal(const std::string& name, const std::string& method, CombineOptions options) {
    SCOPED_TRACE(name + "." + method);
    Inputs inputs;
    for (const char* i : {"0", "1", "2"}) {
      inputs.push_back({.a = file_.tensor(name + ".lora_A." + i),
                        .b = file_.tensor(name + ".lora_B." + i),
                        .scaling = file_.tensor(name + ".scaling." + i).item<double>()});
    }
    options.method = combine_method(method.substr(0, method.find("_frequency")));
    const auto delta = file_.tensor(name + "." + method + ".delta").flatten(1);
    expect_near(reference::product(combine_factors(inputs, kWeights, options)), delta, 1e-5);
  }
};

TEST_F(BesidePeft, UpdatesWithScalingOne) {
  expect_equal("unit", "cat", {});
  expect_equal("unit", "svd", {.rank = 2});
  expect_equal("unit", "ties_svd", {.rank = 3, .density = 0.4});
  expect_equal("unit", "magnitude_prune_svd", {.rank = 3, .density = 0.4});
}

TEST_F(BesidePeft, FactorsWithDifferentScalings) {
  expect_equal("equal", "cat", {});
  expect_equal("equal", "linear", {});
  expect_equal("equal", "ties", {.density = 0.4});
  expect_equal("equal", "magnitude_prune", {.density = 0.4});
  expect_equal("equal", "ties_frequency",
               {.density = 0.8, .majority_sign = MajoritySign::kFrequency});
}

TEST_F(BesidePeft, Convolutions) {
  expect_equal("conv", "cat", {});
  expect_equal("conv", "linear", {});
  expect_equal("conv", "svd", {.rank = 3});
  expect_equal("conv", "ties_svd", {.rank = 2, .density = 0.5});
}

}  // namespace
}  // namespace lowrank
