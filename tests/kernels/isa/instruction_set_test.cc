#include "kernels/isa/instruction_set.h"

#include <gtest/gtest.h>

#include <cstdlib>

namespace lowrank::kernels {
namespace {

TEST(InstructionSet, EachHasAnOwnName) {
  EXPECT_EQ(name_of(InstructionSet::kPortable), "portable");
  EXPECT_EQ(name_of(InstructionSet::kAvx2), "avx2");
  EXPECT_EQ(name_of(InstructionSet::kAvx512), "avx512");
}

TEST(InstructionSet, IsTheBestUnlessTheEnvironmentNamesOne) {
  const auto sets = supported_instruction_sets();
  ASSERT_EQ(sets.front(), InstructionSet::kPortable);
  const char* const wanted = std::getenv("LOWRANK_CPU");
  if (wanted == nullptr) {
    EXPECT_EQ(instruction_set(), sets.back());
  } else {
    EXPECT_EQ(name_of(instruction_set()), wanted);
  }
}

}  // namespace
}  // namespace lowrank::kernels
