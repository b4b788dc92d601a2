#include <gtest/gtest.h>
#include <lowrank/io/json.h>
#include <lowrank/io/printable.h>

namespace lowrank {
namespace {

TEST(Printable, LeavesTextInAnyScript) {
  for (const char* text : {"layer.0.query", "Wärme ≈ B·A", "模型", "🙂", "a b"}) {
    EXPECT_EQ(printable(text), text);
  }
}

TEST(Printable, EscapesControlCharacters) {
  EXPECT_EQ(printable("a\nb\tc\rd"), "a\\nb\\tc\\rd");
  EXPECT_EQ(printable(std::string("\x1b[31m\0\x7f", 7)), "\\x1b[31m\\x00\\x7f");
}

/// In UTF-8 these are two and three bytes, none of which is a control character by itself.
TEST(Printable, EscapesControlCharactersBeyondAscii) {
  EXPECT_EQ(printable("\xc2\x9b"
                      "31m"),
            "\\u009b31m");
  EXPECT_EQ(printable("\xc2\x80\xc2\x9f\xc2\xa0"), "\\u0080\\u009f\xc2\xa0");
  EXPECT_EQ(printable(std::string("a\xe2\x80") + '\xae' + "txt.exe"), "a\\u202etxt.exe");
  EXPECT_EQ(printable("\xe2\x81\xa6\xe2\x81\xa9\xe2\x80\xa8\xd8\x9c"),
            "\\u2066\\u2069\\u2028\\u061c");
}

TEST(Printable, EscapesWhatIsNotUtf8) {
  EXPECT_EQ(printable("\x9b"
                      "31m"),
            "\\x9b31m")
      << "a terminal that is not in UTF-8 obeys it";
  EXPECT_EQ(printable("\xc2"), "\\xc2");
  EXPECT_EQ(printable("\xe2\x80"), "\\xe2\\x80");
  EXPECT_EQ(printable("\xc0\x8a"), "\\xc0\\x8a") << "an overlong line break";
  EXPECT_EQ(printable("\xed\xa0\x80"), "\\xed\\xa0\\x80") << "a surrogate";
  EXPECT_EQ(printable("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80") << "above U+10FFFF";
}

TEST(Printable, EscapesJsonWithoutChangingIt) {
  const auto name = std::string("a\xe2\x80") + '\xae' + "b\xc2\x9b";
  const nlohmann::json json = {{"name", name}, {"list", {1, 2}}};
  const auto text = to_text(json);
  EXPECT_NE(text.find("a\\u202eb\\u009b"), std::string::npos) << text;
  EXPECT_NE(text.find('\n'), std::string::npos);
  EXPECT_EQ(nlohmann::json::parse(text), json);
}

}  // namespace
}  // namespace lowrank
