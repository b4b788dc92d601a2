#include "app/runs/run_record.h"

#include <gtest/gtest.h>
#include <lowrank/error.h>

#include "support/expect_error.h"
#include "support/temporary_folder.h"

namespace lowrank::app {
namespace {

TEST(ReadRecords, FindsRunsPartsAndReports) {
  const TemporaryFolder folder;
  for (const char* name : {"one", "whole/base", "whole/replay", "small"}) {
    std::filesystem::create_directories(folder / name);
  }
  folder.write("one/training.json", R"({"result": {"steps": 3}})");
  const auto one = read_records(folder / "one/");
  EXPECT_EQ(one.name, "one");
  ASSERT_EQ(one.runs.size(), 1U);
  EXPECT_EQ(one.runs[0].training["result"]["steps"], 3);
  EXPECT_TRUE(one.runs[0].history.is_null());

  folder.write("whole/run.json", "{}");
  folder.write("whole/report.json", R"({"checks": []})");
  folder.write("whole/base/training.json", "{}");
  folder.write("whole/replay/training.json", "{}");
  folder.write("whole/replay/figures.json", R"({"parameters": 7})");
  const auto whole = read_records(folder / "whole");
  ASSERT_EQ(whole.runs.size(), 2U);
  EXPECT_EQ(whole.runs[0].name, "base");
  EXPECT_EQ(whole.runs[1].figures["parameters"], 7);
  EXPECT_TRUE(whole.notebook.contains("checks"));

  folder.write("small/lowrank_report.json", R"({"layers": []})");
  EXPECT_TRUE(read_records(folder / "small").weights.contains("layers"));
}

TEST(RemoveOtherRecords, LeavesItsOwnAndAllOtherFiles) {
  const TemporaryFolder folder;
  folder.write("training.json", R"({"run": {}})");
  folder.write("lowrank_report.json", R"({"layers": []})");
  folder.write("history.json", R"({"of": "the user's own"})");
  folder.write("figures.json", "[1, 2]");
  remove_other_records(folder.path(), {"training.json"});
  EXPECT_TRUE(std::filesystem::exists(folder / "training.json"));
  EXPECT_TRUE(std::filesystem::exists(folder / "history.json"));
  EXPECT_TRUE(std::filesystem::exists(folder / "figures.json"));
  EXPECT_FALSE(std::filesystem::exists(folder / "lowrank_report.json"));
}

TEST(ReadRecords, RefusesWhatIsNoRun) {
  const TemporaryFolder folder;
  std::filesystem::create_directories(folder / "empty");
  LOWRANK_EXPECT_ERROR(read_records(folder / "empty"), FileError, "Got none of them.");
  LOWRANK_EXPECT_ERROR(read_records(folder / "missing"), FileError, "missing");
  for (const char* name : {"list", "broken"}) std::filesystem::create_directories(folder / name);
  folder.write("list/training.json", "[1]");
  LOWRANK_EXPECT_ERROR(read_records(folder / "list"), FileError,
                       "must hold a JSON object. Got array.");
  std::filesystem::create_directories(folder / "link");
  folder.write("link/training.json", "{}");
  std::filesystem::create_symlink("nowhere", folder / "link/history.json");
  LOWRANK_EXPECT_ERROR(read_records(folder / "link"), FileError, "history.json");
  folder.write("broken/training.json", "{");
  LOWRANK_EXPECT_ERROR(read_records(folder / "broken"), FileError, "training.json");
}

}  // namespace
}  // namespace lowrank::app
