#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <lowrank/io/npy.h>
#include <lowrank/io/safetensors.h>
#include <lowrank/linalg/error_figures.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "support/run_command.h"
#include "support/tolerances.h"

namespace lowrank {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

nlohmann::json svd_json(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "svd");
  arguments.emplace_back("--json");
  const auto result = run_lowrank(arguments);
  EXPECT_EQ(result.status, 0) << result.err;
  return nlohmann::json::parse(result.out);
}

void expect_refusal(std::vector<std::string> arguments, int status, const std::string& message) {
  arguments.insert(arguments.begin(), "svd");
  const auto result = run_lowrank(arguments);
  EXPECT_EQ(result.status, status) << message;
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, AllOf(StartsWith("lowrank: "), HasSubstr(message)));
  EXPECT_EQ(result.err.find('\n'), result.err.size() - 1) << result.err;
}

TEST(SvdCommand, TellsTheNotebooksStory) {
  const auto result = run_lowrank({"svd", "--random", "10x10", "--true-rank", "2", "--seed", "0"});
  EXPECT_EQ(result.status, 0);
  EXPECT_EQ(result.err, "");
  for (const char* text :
       {"-1.0797  0.5545  0.8058 -0.7140 -0.1518  1.0773  2.3690  0.8486 -1.1825 -3.2632",
        "numerical rank        2\n", "100 in W, 40 in B and A (40 %)",
        "B                     10 x 2", "A                     2 x 10", "y = Wx + b",
        "y' = B(Ax) + b", "7.2684", "largest difference", "relative Frobenius"}) {
    EXPECT_THAT(result.out, HasSubstr(text));
  }
}

TEST(SvdCommand, GivesTheSameAsOneJsonObject) {
  const auto json = svd_json({"--random", "10x10", "--true-rank", "2", "--seed", "0"});
  EXPECT_EQ(json["shape"], (std::vector<int64_t>{10, 10}));
  EXPECT_EQ(json["rank"], 2);
  EXPECT_EQ(json["numerical_rank"], 2);
  ASSERT_EQ(json["singular_values"].size(), 10);
  // numpy.linalg.svd of the same draw in Debian's PyTorch
  EXPECT_NEAR(json["singular_values"][0], 11.385, 5e-4);
  EXPECT_NEAR(json["singular_values"][1], 4.8439, 5e-5);
  EXPECT_EQ(json["parameters"]["dense"], 100);
  EXPECT_EQ(json["parameters"]["factored"], 40);
  EXPECT_LT(json["error"]["relative_frobenius"], tolerance(at::kFloat, 10).decomposition);
  EXPECT_LT(json["output_max_difference"], 1e-5);
  EXPECT_NEAR(json["matrix"][0][9], -3.2632, 5e-5);
}

TEST(SvdCommand, ChoosesTheRankAsItIsTold) {
  const TemporaryFolder folder;
  const auto file = folder.write("d.csv", "3,0,0\n0,2,0\n0,0,1\n").string();
  EXPECT_EQ(svd_json({file, "--rank", "1"})["rank"], 1);
  EXPECT_EQ(svd_json({file, "--energy", "0.9"})["rank"], 2);
  EXPECT_EQ(svd_json({file, "--tolerance", "2.5"})["rank"], 1);
  const auto json = svd_json({file, "--rank", "2", "--balanced"});
  EXPECT_EQ(json["numerical_rank"], 3);
  EXPECT_EQ(json["dtype"], "float64");
  EXPECT_NEAR(json["error"]["frobenius"], 1, 1e-14);
  EXPECT_NEAR(json["error"]["spectral"], 1, 1e-14);
  EXPECT_NEAR(json["error"]["retained_energy"], 13.0 / 14, 1e-14);
  EXPECT_EQ(svd_json({file, "--dtype", "float32"})["dtype"], "float32");
}

TEST(SvdCommand, SavesFactorsOnceAndReplacesThemOnlyWhenForced) {
  const TemporaryFolder folder;
  at::manual_seed(1);
  const auto w = at::randn({6, 4});
  write_npy(folder / "w.npy", w);
  const auto out = (folder / "factors").string();
  const std::vector<std::string> arguments = {
      "svd", (folder / "w.npy").string(), "--rank", "3", "--out", out};
  EXPECT_THAT(run_lowrank(arguments).out, HasSubstr("Saved lora_B and lora_A to"));
  const auto file = SafetensorsFile::open(folder / "factors" / "factors.safetensors");
  const auto a = file.tensor("lora_A");
  const auto b = file.tensor("lora_B");
  EXPECT_EQ(a.sizes(), (std::vector<int64_t>{3, 4}));
  EXPECT_EQ(b.sizes(), (std::vector<int64_t>{6, 3}));
  EXPECT_EQ(file.metadata().at("rank"), "3");
  EXPECT_NEAR(error_figures(w, b, a).frobenius, at::linalg_svdvals(w)[3].item<double>(),
              10 * tolerance(at::kFloat, 6).decomposition);

  const auto bytes = read_bytes(folder / "factors" / "factors.safetensors");
  const auto refused = run_lowrank(arguments);
  EXPECT_EQ(refused.status, 1);
  EXPECT_THAT(refused.err, HasSubstr("--force"));
  EXPECT_EQ(read_bytes(folder / "factors" / "factors.safetensors"), bytes);
  auto forced = arguments;
  forced.emplace_back("--force");
  EXPECT_EQ(run_lowrank(forced).status, 0);
}

TEST(SvdCommand, WritesNoFactorsOverTheirOwnMatrix) {
  const TemporaryFolder folder;
  const auto file = folder / "factors.safetensors";
  write_safetensors(file, {{"lora_B", at::eye(3)}});
  const auto bytes = read_bytes(file);
  expect_refusal({file.string(), "--out", folder.path().string(), "--force"}, 1,
                 "must not be an input of the command. Got the input");
  EXPECT_EQ(read_bytes(file), bytes);
}

TEST(SvdCommand, TellsTheErrorOfTheTiniestNumbers) {
  const auto result = run_lowrank({"svd", "-", "--rank", "1", "--json"}, "1e-320 0\n0 2e-320\n");
  ASSERT_EQ(result.status, 0) << result.err;
  const auto error = nlohmann::json::parse(result.out)["error"];
  EXPECT_EQ(error["frobenius"], 1e-320);
  EXPECT_NEAR(error["relative_frobenius"], 1 / std::sqrt(5.0), 1e-4);  // denormals have few digits
  EXPECT_NEAR(error["retained_energy"], 0.8, 1e-4);
}

TEST(SvdCommand, ReadsStandardInputAndSafetensors) {
  const auto result = run_lowrank({"svd", "-", "--json"}, "1 2\n2 4\n");
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(nlohmann::json::parse(result.out)["rank"], 1);

  const TemporaryFolder folder;
  const auto file = (folder / "m.safetensors").string();
  write_safetensors(file, {{"a.weight", at::eye(3, at::kHalf)}, {"b.weight", at::eye(2)}});
  const auto json = svd_json({file, "--tensor", "a.weight"});
  EXPECT_EQ(json["rank"], 3);
  EXPECT_EQ(json["dtype"], "float32");
  expect_refusal({file}, 2, "there are b.weight, a.weight.");
  expect_refusal({file, "--tensor", "c.weight"}, 1, "Did you mean");
}

TEST(SvdCommand, TakesEmptyAndZeroMatrices) {
  const TemporaryFolder folder;
  for (const auto& w : {at::zeros({0, 5}), at::zeros({4, 3})}) {
    write_npy(folder / "w.npy", w);
    const auto json = svd_json({(folder / "w.npy").string()});
    EXPECT_EQ(json["rank"], 0);
    EXPECT_EQ(json["error"]["relative_frobenius"], 0);
    EXPECT_EQ(json["error"]["retained_energy"], 1);
    EXPECT_EQ(json["output_max_difference"], 0);
  }
}

TEST(SvdCommand, RefusesWrongArguments) {
  expect_refusal({}, 2, "one matrix must be given, as FILE or as --random MxN. Got neither.");
  expect_refusal({"--random", "10by10"}, 2, "--random must be a shape such as 10x10");
  expect_refusal({"--random", "4000000000x4000000000"}, 2, "must fit into this machine's");
  expect_refusal({"--random", "4x6", "--true-rank", "5"}, 2,
                 "--true-rank of a 4 x 6 matrix must be 0 to 4. Got 5.");
  expect_refusal({"w.npy", "--true-rank", "1"}, 2, "--true-rank goes with --random");
  expect_refusal({"--random", "4x6", "--rank", "0"}, 2, "the rank must be at least 1. Got 0.");
  expect_refusal({"--random", "4x6", "--rank", "5"}, 2,
                 "the rank of a 4 x 6 matrix must be at most 4. Got 5.");
  expect_refusal({"--random", "4x6", "--energy", "1.5"}, 2, "above 0 and at most 1. Got 1.5.");
  expect_refusal({"--random", "4x6", "--rank", "1", "--energy", "1"}, 2,
                 "at most one rule for the rank may be given. Got --rank 1 and --energy 1.");
  expect_refusal({"--random", "4x6", "--device", "gpu"}, 2, "--device must be auto, cpu or cuda");
  expect_refusal({"--random", "4x6", "--seed", "-1"}, 2,
                 "[svd] --seed must be a whole number of at least 0. Got \"-1\".");
  expect_refusal({"--random", "4x6", "--threads", "-1"}, 2, "--threads must be 0");
}

/// The file takes no room on the disk, but the work on its matrix would take hundreds of gigabytes.
TEST(SvdCommand, RefusesAFileWhoseMatrixCannotFit) {
  const TemporaryFolder folder;
  std::string header =
      R"({"w":{"dtype":"F32","shape":[400000,40000],"data_offsets":[0,64000000000]}})";
  header.resize(120, ' ');
  const auto file = folder.write("w.safetensors", std::string("\x78\0\0\0\0\0\0\0", 8) + header);
  std::error_code error;
  std::filesystem::resize_file(file, 128 + 64'000'000'000, error);
  if (error) GTEST_SKIP() << "no sparse files here: " << error.message();
  const auto result = run_lowrank({"svd", file.string()});
  EXPECT_EQ(result.status, 1) << result.err;
  EXPECT_THAT(result.err, HasSubstr("the work must fit into this machine's"));
}

TEST(SvdCommand, RefusesFilesThatHoldNoMatrix) {
  const TemporaryFolder folder;
  expect_refusal({(folder / "none.npy").string()}, 1, "none.npy\" must exist");
  expect_refusal({folder.write("text.npy", "1 2 3").string()}, 1,
                 "must begin as a NumPy array does. Got \"1 2 3\".");
  expect_refusal({folder.write("t.csv", "1,2\n3\n").string()}, 1, "Got 1 in line 2.");
  write_npy(folder / "v.npy", at::ones({3}));
  expect_refusal({(folder / "v.npy").string()}, 1, "must be a matrix of 2 dimensions");
  auto w = at::eye(3);
  w[1][2] = std::numeric_limits<float>::quiet_NaN();
  write_npy(folder / "nan.npy", w);
  expect_refusal({(folder / "nan.npy").string()}, 1,
                 "nan.npy must hold only finite numbers. Got 1 NaN, the first in row 1, column 2");
}

}  // namespace
}  // namespace lowrank
