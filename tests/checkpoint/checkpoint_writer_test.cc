#include "checkpoint/checkpoint_writer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <lowrank/error.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "support/expect_error.h"
#include "support/temporary_folder.h"

namespace lowrank {
namespace {

namespace fs = std::filesystem;

class WritesCheckpoint : public ::testing::Test {
 protected:
  /// Writes all tensors; throws before making the tensor `stop`, leaving what a kill would leave.
  void write(bool resume, const std::string& stop = "", const std::string& identity = "work") {
    made_.clear();
    reported_.clear();
    CheckpointWriter writer(out_, {.resume = resume, .identity = identity, .operation = "test"});
    const auto make = [&](const SafetensorsEntry& entry) -> CheckpointWriter::Content {
      if (entry.name == stop) {
        fs::copy(left_, copy_, fs::copy_options::recursive);
        throw std::runtime_error("stopped");
      }
      made_ += entry.name;
      return {entry.tensor, {{"name", entry.name}}};
    };
    const auto take = [&](const SafetensorsEntry& entry, const nlohmann::ordered_json& report) {
      EXPECT_EQ(report.at("name"), entry.name);
      reported_ += entry.name;
    };
    for (const auto* entries : {&first_, &second_}) {
      const std::string name = entries == &first_ ? "1.safetensors" : "2.safetensors";
      writer.write(name, *entries, {{"format", "pt"}}, {.make = make, .report = take});
    }
    writer.add("config.json", "{}");
    writer.commit();
  }
  /// Writes until `stop`, and leaves what a killed process would have left.
  void kill_at(const std::string& stop) {
    EXPECT_THROW(write(false, stop), std::runtime_error);
    EXPECT_FALSE(fs::exists(out_));
    EXPECT_FALSE(fs::exists(left_)) << "an exception leaves nothing";
    fs::rename(copy_, left_);
  }
  void expect_whole() {
    EXPECT_EQ(read_bytes(out_ / "1.safetensors"),
              serialize_safetensors(first_, {{"format", "pt"}}));
    EXPECT_EQ(read_bytes(out_ / "2.safetensors"),
              serialize_safetensors(second_, {{"format", "pt"}}));
    EXPECT_EQ(read_bytes(out_ / "config.json"), "{}");
    EXPECT_EQ(std::distance(fs::directory_iterator(out_), fs::directory_iterator()), 3);
    EXPECT_FALSE(fs::exists(left_));
    fs::remove_all(out_);
  }

  const TemporaryFolder folder_;
  const fs::path out_ = folder_ / "out", left_ = folder_ / ".out.unfinished",
                 copy_ = folder_ / "copy";
  const std::vector<SafetensorsEntry> first_ = {{"a", at::randn({300, 7})}, {"b", at::randn({5})}};
  const std::vector<SafetensorsEntry> second_ = {{"c", at::randn({3, 3}).to(at::kBFloat16)},
                                                 {"d", at::empty({0})},
                                                 {"e", at::randn({4}).to(at::kDouble)}};
  std::string made_, reported_;
};

TEST_F(WritesCheckpoint, AsSafetensorsAreSerialized) {
  write(false);
  EXPECT_EQ(made_, "abedc") << "in the order of the files";
  EXPECT_EQ(reported_, made_);
  expect_whole();
}

TEST_F(WritesCheckpoint, FromWhereItWasKilled) {
  for (const std::string stop : {"a", "b", "e", "d", "c"}) {
    kill_at(stop);
    const auto before = made_;
    write(true);
    // The last tensor made may not have been stored yet.
    const auto again = before.size() + made_.size() - 5;
    EXPECT_LE(again, 1U);
    EXPECT_EQ(before + made_.substr(again), "abedc");
    EXPECT_EQ(reported_, "abedc");
    expect_whole();
  }
}

TEST_F(WritesCheckpoint, AnewWithoutResume) {
  kill_at("c");
  write(false);
  EXPECT_EQ(made_, "abedc");
  expect_whole();
}

/// The journal is believed only where the bytes are those that it speaks of.
TEST_F(WritesCheckpoint, AgainWhatWasDamaged) {
  kill_at("e");
  auto bytes = read_bytes(left_ / "1.safetensors");
  bytes[bytes.size() - 1] ^= 1;  // of b
  folder_.write(".out.unfinished/1.safetensors", bytes);
  write(true);
  EXPECT_EQ(made_, "bedc");
  expect_whole();
  kill_at("e");
  fs::remove(left_ / "1.safetensors");
  write(true);
  EXPECT_EQ(made_, "abedc");
  expect_whole();
  kill_at("e");
  folder_.write(".out.unfinished/1.safetensors", bytes + "more");
  write(true);
  expect_whole();
}

TEST_F(WritesCheckpoint, OfTheSameWorkAlone) {
  kill_at("e");
  LOWRANK_EXPECT_ERROR(write(true, "", "other"), FileError, "Got other inputs or options.");
  write(true);
  EXPECT_EQ(made_, "edc") << "what was there is still there";
  expect_whole();
}

TEST_F(WritesCheckpoint, OfTheShapesAnnounced) {
  CheckpointWriter writer(out_, {.identity = "work", .operation = "test"});
  const auto make = [](const SafetensorsEntry&) -> CheckpointWriter::Content {
    return {at::zeros({1}), nullptr};
  };
  LOWRANK_EXPECT_ERROR(writer.write("x", first_, {}, {.make = make, .report = {}}), TensorError,
                       "must have the dtype and shape announced");
}

}  // namespace
}  // namespace lowrank
