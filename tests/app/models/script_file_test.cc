#include "app/models/script_file.h"

#include <gtest/gtest.h>
#include <lowrank/error.h>

#include "support/expect_error.h"
#include "support/temporary_folder.h"

namespace lowrank::app {
namespace {

TEST(ScriptFile, LoadsWhatTorchJitSaves) {
  for (const char* name : {"scripted.pt", "traced.pt", "encoder_scripted.pt", "experts.pt"}) {
    EXPECT_NO_THROW(load_script(std::string(LOWRANK_FIXTURES) + "/" + name)) << name;
  }
  const TemporaryFolder folder;
  LOWRANK_EXPECT_ERROR(load_script(folder.write("a.pt", "text")), FileError,
                       "Got a file that is not a zip archive.");
}

TEST(ScriptFile, KnowsHowDeeplyCodeNests) {
  EXPECT_EQ(depth_of_code("x = [1, (2, 3)]"), 2U);
  EXPECT_EQ(depth_of_code("if a:\n  if b:\n    c = (1)\n"), 3U);
  EXPECT_EQ(depth_of_code("x = \"[[[[\" # ((((\ny = '\\'(('"), 0U);
  EXPECT_EQ(depth_of_code(std::string(200'000, '[')), 200'000U);
}

TEST(ScriptFile, KnowsHowDeeplyPicklesNest) {
  using namespace std::string_literals;
  EXPECT_EQ(depth_of_pickle("\x80\x02K\x01."s), 0U);
  EXPECT_EQ(depth_of_pickle("\x80\x02]q\x01(K\x01K\x02"
                            "e."s),
            1U);
  EXPECT_EQ(depth_of_pickle("\x80\x02]](K\x01"
                            "ea."s),
            2U)
      << "a list in a list";
  std::string flat = "\x80\x02]"s;
  for (int i = 0; i < 1000; ++i) flat += "]a";
  EXPECT_EQ(depth_of_pickle(flat + "."), 2U) << "a long list is not a deep one";
  EXPECT_EQ(
      depth_of_pickle("\x80\x02"s + std::string(200'000, ']') + std::string(199'999, 'a') + "."),
      200'000U);
  EXPECT_EQ(depth_of_pickle("\x80\x02"s + std::string(1000, '(') + std::string(1000, 't') + "."),
            1000U);
  EXPECT_EQ(depth_of_pickle("aaaa"), 0U) << "what is no pickle is left to LibTorch";
}

}  // namespace
}  // namespace lowrank::app
