#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "support/refusals.h"
#include "support/run_command.h"
#include "support/temporary_folder.h"

namespace lowrank {
namespace {

using testing::HasSubstr;

TEST(ReportCommand, WritesAPageBesideTheRun) {
  const TemporaryFolder folder;
  for (const char* name : {"a", "b"}) std::filesystem::create_directories(folder / name);
  folder.write("a/training.json", R"({"result": {"steps": 77}})");
  folder.write("a/history.json", R"({"points": [[1, 2.5, 0.1], [2, 1.5, 0.1]]})");
  folder.write("b/training.json", R"({"result": {"steps": 88}})");
  const auto a = (folder / "a").string(), b = (folder / "b").string();
  const auto result = run_lowrank({"report", a});
  EXPECT_EQ(result.status, 0) << result.err;
  EXPECT_EQ(result.out, "Wrote " + a + "/report.html.\n");
  EXPECT_THAT(read_bytes(folder / "a/report.html"), HasSubstr("<td>77</td>"));
  EXPECT_EQ(run_lowrank({"report", a}).status, 0) << "a report is made anew";

  const auto both = (folder / "both.html").string();
  EXPECT_EQ(run_lowrank({"report", a, b, "--out", both}).status, 0);
  EXPECT_THAT(read_bytes(both), testing::AllOf(HasSubstr("<td>77</td>"), HasSubstr("<td>88</td>")));
  expect_refusals(
      {{{"report", a, b, "--out", both}, 1, "--force"},
       {{"report", a, b, "--out", b + "/training.json", "--force"}, 1, "must not be an input"},
       {{"report"}, 2, "folders is required"},
       {{"report", a, (folder / "missing").string()}, 1, "missing"},
       {{"report", folder.path().string()}, 1, "Got none of them."}});
}

}  // namespace
}  // namespace lowrank
