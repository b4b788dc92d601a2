#include <lowrank/train/run_log.h>

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <lowrank/error.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "support/expect_error.h"
#include "support/temporary_folder.h"
#include "train/log/event_file.h"

namespace lowrank {
namespace {

namespace fs = std::filesystem;

uint64_t number_at(const std::string& bytes, size_t at, size_t size) {
  uint64_t value = 0;
  for (size_t i = 0; i < size; ++i) {
    value |= static_cast<uint64_t>(static_cast<unsigned char>(bytes.at(at + i))) << (8 * i);
  }
  return value;
}

/// Returns the data of all whole records of the folder's event files, in the order of their names.
std::vector<std::string> records_in(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().filename().string().starts_with("events.out.tfevents.")) {
      files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());
  std::vector<std::string> records;
  for (const auto& file : files) {
    const auto bytes = read_bytes(file);
    for (size_t at = 0; at + 12 <= bytes.size();) {
      const auto size = number_at(bytes, at, 8);
      EXPECT_EQ(number_at(bytes, at + 8, 4), masked_crc32c(bytes.substr(at, 8)));
      if (at + 16 + size > bytes.size()) break;
      records.push_back(bytes.substr(at + 12, size));
      EXPECT_EQ(number_at(bytes, at + 12 + size, 4), masked_crc32c(records.back()));
      at += 16 + size;
    }
  }
  return records;
}

std::vector<nlohmann::json> lines_in(const fs::path& folder) {
  std::istringstream text(read_bytes(folder / "metrics.jsonl"));
  std::vector<nlohmann::json> lines;
  for (std::string line; std::getline(text, line);) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

TEST(RunLog, ChecksumsAreThoseOfTheRfc) {
  // CRC-32C of "123456789" is e3069283.
  const uint32_t sum = 0xe3069283U;
  EXPECT_EQ(masked_crc32c("123456789"), (sum >> 15U | sum << 17U) + 0xa282ead8U);
}

TEST(RunLog, WritesEachFigureTwice) {
  const TemporaryFolder folder;
  RunLog log(folder / "new" / "log");
  log.scalars(3, {{"train/loss", 0.5}, {"train/gradient_norm", 1.0 / 3}});
  log.scalars(4, {{"train/loss", std::numeric_limits<double>::quiet_NaN()}});
  const auto lines = lines_in(folder / "new" / "log");
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_EQ(lines[0].dump(),
            R"({"step":3,"train/gradient_norm":0.3333333333333333,"train/loss":0.5})");
  EXPECT_TRUE(lines[1]["train/loss"].is_null());
  // The version, the start, and two summaries.
  const auto records = records_in(folder / "new" / "log");
  ASSERT_EQ(records.size(), 4U);
  EXPECT_TRUE(records[0].ends_with("brain.Event:2"));
  // Step 3; a summary of two values: tag 1, simple_value 2 (0.5f is 00 00 00 3f).
  EXPECT_NE(records[2].find(std::string("\x10\x03\x2a", 3)), std::string::npos);
  EXPECT_NE(records[2].find(std::string("\x0a\x0atrain/loss\x15\x00\x00\x00\x3f", 17)),
            std::string::npos);
}

TEST(RunLog, IsCutBackToTheStepThatARunGoesOnFrom) {
  const TemporaryFolder folder;
  {
    RunLog log(folder.path());
    for (int64_t step = 1; step <= 5; ++step)
      log.scalars(step, {{"loss", 1.0 / static_cast<double>(step)}});
  }
  const auto whole = read_bytes(folder / "metrics.jsonl");
  folder.write("metrics.jsonl", whole + "{\"step\": 6, \"lo");  // a kill in the middle of a line
  RunLog(folder.path(), 3).scalars(4, {{"loss", 9}});
  const auto lines = lines_in(folder.path());
  ASSERT_EQ(lines.size(), 4U);
  EXPECT_EQ(lines[2]["step"], 3);
  EXPECT_EQ(lines[3]["loss"], 9);
  // SessionLog.START with step 4, in the second file: TensorBoard forgets what is older from there.
  const auto records = records_in(folder.path());
  ASSERT_EQ(records.size(), 2 + 5 + 2 + 1U);
  EXPECT_TRUE(records[8].ends_with(std::string("\x10\x04\x3a\x02\x08\x01", 6)));
  RunLog anew(folder.path());
  EXPECT_TRUE(lines_in(folder.path()).empty());
}

TEST(RunLog, TakesAnyTensorAsAHistogram) {
  const TemporaryFolder folder;
  RunLog log(folder.path());
  log.histogram(1, "a", at::arange(100, at::kFloat).view({10, 10}));
  log.histogram(1, "b", at::full({3}, 2, at::kHalf));
  log.histogram(1, "c", at::empty({0}));
  log.histogram(1, "d", at::full({2}, std::nan("")));
  EXPECT_EQ(records_in(folder.path()).size(), 2 + 4U);
}

TEST(RunLog, AFileThatIsCutAnywhereKeepsItsWholeRecords) {
  const TemporaryFolder folder;
  {
    RunLog log(folder.path());
    log.scalars(1, {{"loss", 1}});
    log.text(0, "options", "| a | b |");
    log.image(1, "x", "not really a PNG", 2, 3);
  }
  const auto records = records_in(folder.path());
  ASSERT_EQ(records.size(), 5U);
  fs::path file;
  for (const auto& entry : fs::directory_iterator(folder.path())) {
    if (entry.path().extension() != ".jsonl") file = entry.path();
  }
  const auto bytes = read_bytes(file);
  for (size_t size = 0; size < bytes.size(); ++size) {
    folder.write(file.filename().string(), bytes.substr(0, size));
    const auto found = records_in(folder.path());
    ASSERT_LE(found.size(), records.size());
    for (size_t i = 0; i < found.size(); ++i) EXPECT_EQ(found[i], records[i]);
  }
}

TEST(RunLog, RefusesAFolderThatIsNone) {
  const TemporaryFolder folder;
  folder.write("file", "x");
  LOWRANK_EXPECT_ERROR(RunLog(folder / "file"), FileError, "must be a folder to write to. Got ");
  fs::create_symlink("elsewhere", folder / "metrics.jsonl");
  EXPECT_THROW(RunLog(folder.path()), FileError);
  EXPECT_FALSE(fs::exists(folder / "elsewhere"));
}

}  // namespace
}  // namespace lowrank
