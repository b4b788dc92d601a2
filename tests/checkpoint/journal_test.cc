#include "checkpoint/journal.h"

#include <gtest/gtest.h>
#include <lowrank/error.h>
#include <lowrank/io/sha256.h>

#include <string>

#include "support/expect_error.h"
#include "support/temporary_folder.h"

namespace lowrank {
namespace {

TEST(Journal, GoesOnWhereItStopped) {
  const TemporaryFolder folder;
  const auto path = folder / "journal";
  {
    Journal journal(path, "work", /*resume=*/false, "test");
    journal.add("a", {"12", {{"norm", 0.1}}});
    journal.add("b", {"34", nullptr});
  }
  const auto whole = read_bytes(path);
  folder.write("journal", whole + R"({"part": "c", "sha2)");
  {
    Journal journal(path, "work", /*resume=*/true, "test");
    ASSERT_NE(journal.find("a"), nullptr);
    EXPECT_EQ(journal.find("a")->sha256, "12");
    EXPECT_EQ(journal.find("a")->report.at("norm"), 0.1);
    EXPECT_TRUE(journal.find("b")->report.is_null());
    EXPECT_EQ(journal.find("c"), nullptr);
    journal.add("d", {"56", nullptr});
  }
  EXPECT_EQ(read_bytes(path).substr(0, whole.size()), whole) << "the line cut short is gone";
  EXPECT_NE(Journal(path, "work", true, "test").find("d"), nullptr);
}

TEST(Journal, BeginsAnewUnlessItIsResumed) {
  const TemporaryFolder folder;
  const auto path = folder / "journal";
  Journal(path, "work", false, "test").add("a", {"12", nullptr});
  EXPECT_EQ(Journal(path, "work", false, "test").find("a"), nullptr);
  EXPECT_EQ(Journal(folder / "other", "work", true, "test").find("a"), nullptr);
}

TEST(Journal, IsOfOneWork) {
  const TemporaryFolder folder;
  Journal(folder / "journal", "work", false, "test").add("a", {"12", nullptr});
  LOWRANK_EXPECT_ERROR(Journal(folder / "journal", "other", true, "test"), FileError,
                       "Got other inputs or options.");
  const auto whole = read_bytes(folder / "journal");
  auto edited = whole;
  edited[edited.size() - 4] ^= 1;
  std::string deep;
  for (int i = 0; i < 200'000; ++i) deep += "{\"a\":";
  const auto line_of = [](const std::string& text) { return sha256_hex(text) + " " + text + "\n"; };
  for (const auto& damaged :
       {std::string("[]\n"), std::string("nonsense\n"), std::string("\0\n", 2),
        std::string("{\"identity\": 1}\n"), edited, deep + "\n"}) {
    folder.write("journal", damaged);
    EXPECT_EQ(Journal(folder / "journal", "work", true, "test").find("a"), nullptr);
  }
  folder.write("journal", line_of("[]") + line_of("1"));
  EXPECT_EQ(Journal(folder / "journal", "work", true, "test").find("a"), nullptr);
}

}  // namespace
}  // namespace lowrank
