#include <gtest/gtest.h>
#include <lowrank/version.h>

#include <algorithm>
#include <string>

namespace lowrank {
namespace {

TEST(Version, IsTheSameInHeadersAndLibrary) {
  EXPECT_EQ(version(), std::to_string(LOWRANK_VERSION_MAJOR) + "." +
                           std::to_string(LOWRANK_VERSION_MINOR) + "." +
                           std::to_string(LOWRANK_VERSION_PATCH));
}

TEST(Version, OfLibTorchHasTwoDotsAtLeast) {
  const std::string found = libtorch_version();
  EXPECT_GE(std::count(found.begin(), found.end(), '.'), 2) << found;
}

}  // namespace
}  // namespace lowrank
