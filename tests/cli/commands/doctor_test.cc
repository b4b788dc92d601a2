#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <lowrank/version.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "support/run_command.h"
#include "support/scoped_environment.h"

namespace lowrank {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(DoctorCommand, SaysWhatTheWorkRunsOn) {
  const auto result = run_lowrank({"doctor", "--threads", "1"});
  ASSERT_EQ(result.status, 0) << result.err;
  for (const char* line : {"LibTorch", "Processor", "Threads           1\n", "Kernels",
                           "BLAS library", "GFLOP/s", "GB/s", "GPU", "To speed it up"}) {
    EXPECT_THAT(result.out, HasSubstr(line));
  }
}

TEST(DoctorCommand, GivesTheSameAsOneJsonObject) {
  const auto result = run_lowrank({"doctor", "--json"});
  ASSERT_EQ(result.status, 0) << result.err;
  const auto json = nlohmann::json::parse(result.out);
  EXPECT_EQ(json["versions"]["lowrank"], version());
  EXPECT_GT(json["gflops"]["thin_product"].get<double>(), 0);
  EXPECT_GT(json["copy_gb_per_second"].get<double>(), 0);
  EXPECT_FALSE(json["blas"]["name"].get<std::string>().empty());
}

TEST(DoctorCommand, UsesTheInstructionSetOfTheEnvironment) {
  const ScopedEnvironment portable("LOWRANK_CPU", "portable");
  const auto result = run_lowrank({"doctor", "--json"});
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(nlohmann::json::parse(result.out)["instruction_set"], "portable");
}

TEST(DoctorCommand, SaysWhereOpenBlasTakesTheProcessorForAnOldOne) {
  const auto json_with = [](const char* kernels) {
    const ScopedEnvironment chosen("OPENBLAS_CORETYPE", kernels);
    const auto result = run_lowrank({"doctor", "--json"});
    EXPECT_EQ(result.status, 0) << result.err;
    return nlohmann::json::parse(result.out);
  };
  const auto old = json_with("Prescott"), right = json_with("Haswell");
  const auto& sets = old["instruction_sets"];
  if (old["blas"]["name"] != "OpenBLAS" ||
      std::find(sets.begin(), sets.end(), "avx2") == sets.end())
    GTEST_SKIP() << "no OpenBLAS, or no AVX2";
  EXPECT_EQ(old["blas"]["kernels"], "Prescott");
  EXPECT_THAT(old["remedy"].get<std::string>(),
              testing::MatchesRegex("export OPENBLAS_CORETYPE=(Haswell|SkylakeX)"));
  EXPECT_EQ(right["blas"]["kernels"], "Haswell");
  EXPECT_THAT(right["remedy"].dump(), Not(HasSubstr("CORETYPE")));
}

TEST(DoctorCommand, RefusesAnInstructionSetThatIsNotHere) {
  const ScopedEnvironment unknown("LOWRANK_CPU", "sse9");
  const auto result = run_lowrank({"doctor"});
  EXPECT_EQ(result.status, 2);
  EXPECT_THAT(
      result.err,
      HasSubstr("[cpu] LOWRANK_CPU must name an instruction set that this machine has: portable"));
  EXPECT_THAT(result.err, HasSubstr("Got \"sse9\"."));
}

}  // namespace
}  // namespace lowrank
