#include "checkpoint/staged_output.h"

#include <gtest/gtest.h>
#include <lowrank/error.h>

#include <optional>
#include <set>
#include <string>

#include "support/expect_error.h"
#include "support/temporary_folder.h"

namespace lowrank {
namespace {

namespace fs = std::filesystem;

class StagedFolder : public ::testing::Test {
 protected:
  void write(const StagedOutput& stage, const std::string& name, const std::string& text) const {
    std::ofstream(stage.file(name)) << text;
    std::ofstream(stage.journal()) << "{}";
  }
  std::set<std::string> names(const fs::path& folder) const {
    std::set<std::string> found;
    for (const auto& entry : fs::directory_iterator(folder)) {
      found.insert(entry.path().filename().string());
    }
    return found;
  }
  using Names = std::set<std::string>;

  const TemporaryFolder folder_;
  const fs::path out_ = folder_ / "out";
};

TEST_F(StagedFolder, TakesThePlaceOfNothing) {
  {
    StagedOutput stage(folder_ / "new" / "deep" / "", false, "test");
    write(stage, "a", "1");
    EXPECT_FALSE(fs::exists(folder_ / "new" / "deep"));
    stage.publish_folder({"a"}, {});
  }
  EXPECT_EQ(names(folder_ / "new"), Names{"deep"});
  EXPECT_EQ(names(folder_ / "new" / "deep"), Names{"a"});
}

TEST_F(StagedFolder, KeepsWhatElseIsThere) {
  fs::create_directory(out_);
  folder_.write("out/a", "old");
  folder_.write("out/notes.txt", "mine");
  folder_.write("out/old.safetensors", "weights");
  fs::create_symlink("nowhere", out_ / "link");
  {
    StagedOutput stage(out_, false, "test");
    write(stage, "a", "new");
    write(stage, "stray", "of a killed process");
    stage.publish_folder({"a"}, {"old.safetensors"});
  }
  EXPECT_EQ(names(folder_.path()), Names{"out"});
  EXPECT_EQ(names(out_), (Names{"a", "link", "notes.txt"}));
  EXPECT_EQ(read_bytes(out_ / "a"), "new");
  EXPECT_EQ(read_bytes(out_ / "notes.txt"), "mine");
}

/// Where the folder must not be moved, its files take their places one by one.
TEST_F(StagedFolder, StaysWhereItMust) {
  fs::create_directories(out_ / "photos");
  folder_.write("out/photos/x", "mine");
  folder_.write("out/a", "old");
  folder_.write("out/old.safetensors", "weights");
  fs::create_symlink(out_, folder_ / "link");
  {
    StagedOutput stage(folder_ / "link", false, "test");
    EXPECT_EQ(stage.file("a").parent_path(), fs::canonical(out_) / ".lowrank.unfinished");
    write(stage, "a", "new");
    write(stage, "b.json", "{}");
    stage.publish_folder({"a", "b.json"}, {"old.safetensors"});
  }
  EXPECT_EQ(names(out_), (Names{"a", "b.json", "photos"}));
  EXPECT_EQ(read_bytes(out_ / "a"), "new");
  EXPECT_EQ(read_bytes(out_ / "photos" / "x"), "mine");
  EXPECT_TRUE(fs::is_symlink(folder_ / "link"));
  StagedOutput stage(out_, false, "test");
  write(stage, "photos", "a file");
  EXPECT_THROW(stage.require_places({"a", "photos"}), FileError);
  EXPECT_THROW(stage.publish_folder({"photos"}, {}), FileError);
  EXPECT_EQ(read_bytes(out_ / "photos" / "x"), "mine");
}

/// A killed process leaves the journal in the new folder, and the old one in its place.
TEST_F(StagedFolder, FinishesWhatAKillLeft) {
  fs::create_directory(out_);
  folder_.write("out/a", "new");
  folder_.write("out/lowrank_journal.jsonl", "");
  fs::create_directory(folder_ / ".out.unfinished");
  folder_.write(".out.unfinished/a", "old");
  { const StagedOutput stage(out_, false, "test"); }
  EXPECT_EQ(names(folder_.path()), Names{"out"});
  EXPECT_EQ(names(out_), Names{"a"});
}

TEST_F(StagedFolder, KeepsPermissions) {
  fs::create_directory(out_);
  folder_.write("out/a", "old");
  fs::permissions(out_, fs::perms::owner_all);
  fs::permissions(out_ / "a", fs::perms::owner_read | fs::perms::owner_write);
  StagedOutput stage(out_, false, "test");
  write(stage, "a", "new");
  stage.publish_folder({"a"}, {});
  EXPECT_EQ(fs::status(out_).permissions(), fs::perms::owner_all);
  EXPECT_EQ(fs::status(out_ / "a").permissions(), fs::perms::owner_read | fs::perms::owner_write);
}

TEST_F(StagedFolder, TakesLinksThatLeadNowhere) {
  fs::create_directories(out_ / "notes");
  fs::create_symlink("loop", out_ / "loop");
  {
    StagedOutput stage(out_, false, "test");
    write(stage, "a", "new");
    stage.publish_folder({"a"}, {});
  }
  EXPECT_EQ(names(out_), (Names{"a", "loop", "notes"}));
}

TEST_F(StagedFolder, MayBeTheWorkingFolder) {
  fs::create_directory(out_);
  const auto before = fs::current_path();
  fs::current_path(out_);
  {
    StagedOutput stage(".", false, "test");
    write(stage, "a", "new");
    stage.publish_folder({"a"}, {});
  }
  fs::current_path(before);
  EXPECT_EQ(names(out_), Names{"a"});
  EXPECT_EQ(names(folder_.path()), Names{"out"});
}

TEST_F(StagedFolder, ChangesNothingUntilThen) {
  fs::create_directory(out_);
  folder_.write("out/a", "old");
  {
    const StagedOutput stage(out_, false, "test");
    write(stage, "a", "new");
    const StagedOutput other(folder_ / "deep" / "er" / "out", false, "test");
  }
  EXPECT_EQ(names(folder_.path()), Names{"out"});
  EXPECT_EQ(read_bytes(out_ / "a"), "old");
}

TEST_F(StagedFolder, IsTakenUpOrRemoved) {
  const auto left = folder_ / ".out.unfinished";
  fs::create_directory(left);
  folder_.write(".out.unfinished/a", "half");
  folder_.write(".out.unfinished/lowrank_journal.jsonl", "{}");
  EXPECT_EQ(read_bytes(StagedOutput(out_, true, "test").file("a")), "half");
  EXPECT_EQ(read_bytes(left / "a"), "half") << "what was taken up stays if that fails";
  const StagedOutput stage(out_, false, "test");
  EXPECT_EQ(names(left), Names{"lowrank_journal.jsonl"});
}

TEST_F(StagedFolder, IsOurs) {
  fs::create_directory(folder_ / ".out.unfinished");
  folder_.write(".out.unfinished/notes.txt", "mine");
  for (const bool resume : {false, true}) {
    LOWRANK_EXPECT_ERROR(StagedOutput(out_, resume, "test"), FileError,
                         "must be free for the unfinished result");
  }
  EXPECT_EQ(read_bytes(folder_ / ".out.unfinished" / "notes.txt"), "mine");
}

TEST_F(StagedFolder, HasOneWriter) {
  const StagedOutput first(out_, false, "test");
  write(first, "a", "1");
  LOWRANK_EXPECT_ERROR(StagedOutput(out_, true, "test"), FileError,
                       "no other process may be writing");
  EXPECT_EQ(read_bytes(first.file("a")), "1");
}

TEST_F(StagedFolder, GivesOneFileItsPlace) {
  folder_.write("out", "old");
  {
    StagedOutput stage(out_, false, "test");
    write(stage, "model", "new");
    stage.publish_file("model");
  }
  EXPECT_EQ(names(folder_.path()), Names{"out"});
  EXPECT_EQ(read_bytes(out_), "new");
  StagedOutput stage(folder_.path(), false, "test");
  write(stage, "model", "new");
  LOWRANK_EXPECT_ERROR(stage.publish_file("model"), FileError, "Got a folder");
}

}  // namespace
}  // namespace lowrank
