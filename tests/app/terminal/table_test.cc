#include "app/terminal/table.h"

#include <gtest/gtest.h>
#include <lowrank/error.h>

#include <limits>

#include "support/expect_error.h"

namespace lowrank::app {
namespace {

TEST(Table, AlignsItsColumns) {
  Table table({"layer", "base", "LoRA"});
  table.add({"linear1", "785,000", "1,784"});
  table.add({"l2", "10", ""});
  table.rule();
  table.add({"total", "785,010", "1,784"});
  EXPECT_EQ(table.text(),
            "layer       base   LoRA\n"
            "linear1  785,000  1,784\n"
            "l2            10\n"
            "-----------------------\n"
            "total    785,010  1,784\n");
}

TEST(Table, GivesLongNamesALineOfTheirOwnWhereTheTerminalIsNarrow) {
  Table table({"layer", "base", "LoRA"});
  table.add({"linear1", "785,000", "1,784"});
  table.rule();
  table.add({"total", "785,010", ""});
  EXPECT_EQ(table.text(23), table.text());
  EXPECT_EQ(table.text(22),
            "layer\n"
            "     base   LoRA\n"
            "linear1\n"
            "  785,000  1,784\n"
            "----------------\n"
            "total\n"
            "  785,010\n");
}

TEST(Table, CountsCharactersAndNotBytes) {
  Table table({"α", "x"});
  table.add({"ab", "·"});
  table.add({"c", "é·"});
  EXPECT_EQ(table.text(), "α    x\nab   ·\nc   é·\n");
}

TEST(Table, ShowsControlCharactersOfNames) {
  Table table({"layer", "x"});
  table.add({"a\x1b[2J\nb\x7f", "é\t"});
  EXPECT_EQ(table.text(), "layer              x\na\\x1b[2J\\nb\\x7f  é\\t\n");
}

TEST(Table, RefusesARowOfAnotherLength) {
  Table table({"a", "b"});
  LOWRANK_EXPECT_ERROR(table.add({"1"}), ArgumentError, "[table] a row must have 2 cells. Got 1.");
  EXPECT_EQ(table.text(), "a  b\n");
}

TEST(WithThousands, GroupsByThree) {
  EXPECT_EQ(with_thousands(0), "0");
  EXPECT_EQ(with_thousands(999), "999");
  EXPECT_EQ(with_thousands(1000), "1,000");
  EXPECT_EQ(with_thousands(2807010), "2,807,010");
  EXPECT_EQ(with_thousands(-999), "-999");
  EXPECT_EQ(with_thousands(-123456), "-123,456");
  EXPECT_EQ(with_thousands(std::numeric_limits<int64_t>::min()), "-9,223,372,036,854,775,808");
}

}  // namespace
}  // namespace lowrank::app
