#include <lowrank/adapter/combine.h>
#include <lowrank/error.h>

#include <limits>

#include "support/expect_error.h"

namespace lowrank {
namespace {

TEST(Combine, MethodsHavePeftsNames) {
  const std::vector<std::string> names = {"cat",
                                          "linear",
                                          "svd",
                                          "ties",
                                          "ties_svd",
                                          "dare_linear",
                                          "dare_ties",
                                          "dare_linear_svd",
                                          "dare_ties_svd",
                                          "magnitude_prune",
                                          "magnitude_prune_svd"};
  for (const auto& name : names) EXPECT_EQ(combine_method_name(combine_method(name)), name);
  EXPECT_EQ(combine_method("dare_ties_svd"), CombineMethod::kDareTiesSvd);
  EXPECT_EQ(combine_method("magnitude_prune"), CombineMethod::kMagnitudePrune);
  for (const char* name : {"total", "frequency"}) {
    EXPECT_EQ(std::string(majority_sign_name(majority_sign(name))), name);
  }
}

TEST(Combine, UnknownNamesAreRefusedWithTheNearest) {
  LOWRANK_EXPECT_ERROR(
      combine_method("dare_tie"), ArgumentError,
      "[combine] the method must be one of cat, linear, svd, ties, ties_svd, dare_linear, "
      "dare_linear_svd, dare_ties, dare_ties_svd, magnitude_prune, magnitude_prune_svd. Got "
      "\"dare_tie\". Did you mean \"dare_ties\"?");
  LOWRANK_EXPECT_ERROR(majority_sign("totl"), ArgumentError,
                       "[combine] the majority sign must be total or frequency. Got \"totl\". Did "
                       "you mean \"total\"?");
}

TEST(Combine, OptionsOutOfRangeAreRefused) {
  LOWRANK_EXPECT_ERROR(check(CombineOptions{.rank = -1}), ArgumentError,
                       "[combine] the rank must be at least 1, or 0 for the adapters' largest. Got "
                       "-1.");
  for (const double density : {0.0, -0.5, 1.5, std::numeric_limits<double>::quiet_NaN()}) {
    LOWRANK_EXPECT_ERROR(check({.method = CombineMethod::kTies, .density = density}), ArgumentError,
                         "[combine] the density must be above 0 and at most 1. Got ");
  }
}

TEST(Combine, OptionsThatTheMethodDoesNotTakeAreRefused) {
  LOWRANK_EXPECT_ERROR(check({.method = CombineMethod::kLinear, .rank = 4}), ArgumentError,
                       "[combine] the rank must be left to the method with linear. Got 4. Only svd "
                       "and the *_svd methods take one.");
  LOWRANK_EXPECT_ERROR(check({.method = CombineMethod::kSvd, .density = 0.5}), ArgumentError,
                       "[combine] the density must be 1 with svd. Got 0.5. That method prunes "
                       "nothing.");
  EXPECT_NO_THROW(check({.method = CombineMethod::kTiesSvd, .rank = 4, .density = 0.5}));
}

}  // namespace
}  // namespace lowrank
