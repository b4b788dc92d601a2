#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "support/run_command.h"
#include "support/temporary_folder.h"

namespace lowrank {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using Arguments = std::vector<std::string>;

std::string program() {
  return (fs::path(LOWRANK_COMMAND).parent_path() / "lowrank-program").string();
}

class Launcher : public testing::TestWithParam<Arguments> {};

/// The launcher answers from a description of the command line, which must leave nothing out.
TEST_P(Launcher, AnswersAsTheProgramItself) {
  const auto launched = run_lowrank(GetParam());
  const auto direct = run_program(program(), GetParam());
  EXPECT_EQ(launched.status, direct.status);
  EXPECT_EQ(launched.out, direct.out);
  EXPECT_EQ(launched.err, direct.err);
  EXPECT_FALSE(launched.out.empty() && launched.err.empty());
}

INSTANTIATE_TEST_SUITE_P(
    CommandLines, Launcher,
    testing::Values(Arguments{"--help"}, Arguments{"--version"}, Arguments{"mnist", "--help"},
                    Arguments{"train", "--help"}, Arguments{"finetune", "--help"},
                    Arguments{"eval", "--help"}, Arguments{"predict", "--help"},
                    Arguments{"info", "--help"}, Arguments{"targets", "--help"},
                    Arguments{"svd", "--help"}, Arguments{"data", "--help"},
                    Arguments{"data", "fetch", "--help"}, Arguments{"data", "info", "--help"},
                    Arguments{"doctor", "--help"}, Arguments{}, Arguments{"trian"},
                    Arguments{"data"}, Arguments{"info"}, Arguments{"finetune", "--lrr", "3"},
                    Arguments{"train", "--epochs"}, Arguments{"svd", "a", "b", "c"},
                    Arguments{"svd", "--random", "3x3", "--rank", "x"},
                    Arguments{"svd", "missing.npy"}));

TEST(Launcher, NeedsTheProgramForWorkAlone) {
  const TemporaryFolder folder;
  const auto alone = (folder / "lowrank").string();
  fs::copy_file(LOWRANK_COMMAND, alone);
  EXPECT_EQ(run_program(alone, {"--help"}).status, 0);
  EXPECT_EQ(run_program(alone, {"svd", "--bogus"}).status, 2);
  const auto result = run_program(alone, {"svd", "--random", "2x2"});
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.err,
              HasSubstr("lowrank-program\" must be a program that can be run. Got \"No such file"));
}

TEST(Launcher, StartsWhatIsInstalledAnywhere) {
  const TemporaryFolder folder;
  fs::create_directories(folder / "bin");
  fs::create_directories(folder / "libexec/lowrank");
  fs::copy_file(LOWRANK_COMMAND, folder / "bin/lowrank");
  fs::copy_file(program(), folder / "libexec/lowrank/lowrank-program");
  fs::create_symlink("bin/lowrank", folder / "link");
  const auto result = run_program((folder / "link").string(), {"svd", "--random", "2x2", "--json"});
  EXPECT_EQ(result.status, 0) << result.err;
}

TEST(Launcher, LetsOpenBlasUseTheKernelsOfThisMachine) {
  const auto doctor = run_lowrank({"doctor", "--json"});
  ASSERT_EQ(doctor.status, 0) << doctor.err;
  const auto answer = nlohmann::json::parse(doctor.out);
  EXPECT_THAT(answer["remedy"].dump(), testing::Not(HasSubstr("CORETYPE")));
}

}  // namespace
}  // namespace lowrank
