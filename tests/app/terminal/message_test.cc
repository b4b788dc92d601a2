#include "app/terminal/message.h"

#include <gtest/gtest.h>

namespace lowrank::app {
namespace {

TEST(Message, WrapsAtSpaces) {
  EXPECT_EQ(wrapped("one two three", 7), "one two\nthree");
  EXPECT_EQ(wrapped("one two three", 8), "one two\nthree");
  EXPECT_EQ(wrapped("one two three", 6), "one\ntwo\nthree");
  EXPECT_EQ(wrapped("one two three", 13), "one two three");
  EXPECT_EQ(wrapped("", 5), "");
}

TEST(Message, KeepsLinesAndIndentationThatFit) {
  EXPECT_EQ(wrapped("a  b\n  c d\n", 80), "a  b\n  c d\n");
}

TEST(Message, IndentsWhatFollows) {
  EXPECT_EQ(wrapped("ok   one two three\nnext line of it", 15),
            "ok   one two\n     three\nnext line of it");
  EXPECT_EQ(wrapped("  one two three", 9), "  one two\n  three");
  EXPECT_EQ(wrapped("a name   value", 10), "a name\nvalue");  // the column is too far to the right
}

TEST(Message, KeepsWordsThatAreTooLongWhole) {
  EXPECT_EQ(wrapped("a /tmp/a/long/path b", 6), "a\n/tmp/a/long/path\nb");
}

TEST(Message, CountsColumnsAndNotBytes) {
  EXPECT_EQ(wrapped("éé éé", 5), "éé éé");
  EXPECT_EQ(wrapped("éé éé", 4), "éé\néé");
}

TEST(Message, WithoutATerminalNothingIsWrapped) {
  EXPECT_EQ(wrapped("one two three", 0), "one two three");
}

}  // namespace
}  // namespace lowrank::app
