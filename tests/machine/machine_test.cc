#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <lowrank/error.h>
#include <lowrank/machine/machine.h>

#include <algorithm>
#include <filesystem>

#include "support/expect_error.h"

namespace lowrank {
namespace {

TEST(Machine, NamesTheBlasLibraryAndItsFile) {
  const auto blas = blas_library();
  EXPECT_FALSE(blas.name.empty());
  EXPECT_TRUE(std::filesystem::exists(blas.path)) << blas.path;
}

TEST(Machine, SetsLibTorchsThreads) {
  const int before = at::get_num_threads();
  set_threads(3);
  EXPECT_EQ(at::get_num_threads(), 3);
  set_threads(before);
  LOWRANK_EXPECT_ERROR(set_threads(0), ArgumentError, "there must be at least 1. Got 0.");
}

TEST(Machine, UsesAnInstructionSetThatItHas) {
  const auto sets = instruction_sets();
  EXPECT_EQ(std::count(sets.begin(), sets.end(), instruction_set()), 1);
}

TEST(Machine, MeasuresWhatIsPossible) {
  const auto speed = measure_speed();
  for (const double figure : {speed.thin_product, speed.large_product, speed.copy}) {
    EXPECT_GT(figure, 0.001);
    EXPECT_LT(figure, 1e6);
  }
}

}  // namespace
}  // namespace lowrank
