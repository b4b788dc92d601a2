#include "app/data/csv_file.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <lowrank/error.h>

#include <string>

#include "support/expect_error.h"
#include "support/temporary_folder.h"

namespace lowrank::app {
namespace {

class CsvFile : public ::testing::Test {
 protected:
  Dataset read(const std::string& text, const DataSource& source = {}) {
    return read_csv(folder_.write("some.csv", text), source);
  }

  TemporaryFolder folder_;
};

TEST_F(CsvFile, TakesNumbersAndClassesByName) {
  const auto data = read(
      "\xef\xbb\xbfwidth,\"label\",\"height, cm\"\r\n"
      "1,rose,-2.5e1\r\n"
      " +3 ,\"a \"\"tulip\"\"\",4\r\n"
      "\r\n"
      "5,rose,6\r\n");
  EXPECT_EQ(data.name, "some.csv");
  EXPECT_EQ(data.columns, (std::vector<std::string>{"width", "height, cm"}));
  EXPECT_TRUE(at::equal(data.inputs,
                        at::tensor({1.0, -25.0, 3.0, 4.0, 5.0, 6.0}, at::kFloat).view({3, 2})));
  EXPECT_EQ(data.class_names, (std::vector<std::string>{"a \"tulip\"", "rose"}));
  EXPECT_TRUE(at::equal(data.labels, at::tensor({1, 0, 1}, at::kLong)));
  EXPECT_EQ(data.classes, 2);
  EXPECT_FALSE(data.holds_images());
}

TEST_F(CsvFile, TellsClassesFromNumbersToPredict) {
  const auto classes = read("x,label\n1,2\n2,0\n3,4.0\n");
  EXPECT_EQ(classes.classes, 5);
  EXPECT_TRUE(classes.class_names.empty());
  EXPECT_TRUE(at::equal(classes.labels, at::tensor({2, 0, 4}, at::kLong)));

  const auto numbers = read("x,label\n1,2\n2,0.5\n");
  EXPECT_EQ(numbers.classes, 0);
  EXPECT_TRUE(at::equal(numbers.labels, at::tensor({2.0, 0.5}, at::kDouble).view({2, 1})));

  const auto whole = read("x,label\n1,20\n2,30\n", {.predicts_numbers = true});
  EXPECT_EQ(whole.classes, 0);
  EXPECT_EQ(whole.labels.sizes(), (at::IntArrayRef{2, 1}));
}

TEST_F(CsvFile, ReadsTheColumnsAndClassesThatAModelKnows) {
  const DataSource known = {
      .label_column = "kind", .class_names = {"cat", "dog", "fox"}, .columns = {"b", "a"}};
  const auto data = read("a,id,kind,b\n1,x,fox,2\n3,y,cat,4\n", known);
  EXPECT_TRUE(at::equal(data.inputs, at::tensor({2.0, 1.0, 4.0, 3.0}, at::kFloat).view({2, 2})));
  EXPECT_TRUE(at::equal(data.labels, at::tensor({2, 0}, at::kLong)));
  EXPECT_EQ(data.classes, 3);
  LOWRANK_EXPECT_ERROR(
      read("a,kind\n1,fox\n", known), FileError,
      "some.csv\" must hold the column \"b\", which the model knows. Got a, kind.");
  LOWRANK_EXPECT_ERROR(read("a,b,kind\n1,2,wolf\n", known), FileError,
                       "must be classes that the model knows: cat, dog, fox. Got \"wolf\" for "
                       "example 0.");
}

TEST_F(CsvFile, TakesTheSeparatorsThatSpreadsheetsWrite) {
  for (const char* text : {"a;label;b,c\n1;0;2\n3;1;4\n", "a\tlabel\tb,c\n1\t0\t2\n3\t1\t4\n"}) {
    const auto data = read(text);
    EXPECT_EQ(data.columns, (std::vector<std::string>{"a", "b,c"}));
    EXPECT_TRUE(at::equal(data.inputs, at::tensor({1.0, 2.0, 3.0, 4.0}, at::kFloat).view({2, 2})));
  }
}

TEST_F(CsvFile, TakesQuotedNames) {
  for (const char* text : {"\xef\xbb\xbf\"a\",b,label\n1,2,0\n", "\"a;;;\",b,label\n1,2,0\n",
                           "\"L, cm\";\"B, cm\";label\n1;2;0\n"}) {
    EXPECT_EQ(read(text).columns.size(), 2) << text;
  }
}

TEST_F(CsvFile, RefusesDecimalCommas) {
  LOWRANK_EXPECT_ERROR(read("x;label\n1,5;0\n"), FileError,
                       "Got \"1,5\". Decimal commas are not read: write points.");
  LOWRANK_EXPECT_ERROR(read("x;label\n1;1,5\n2;2,5\n"), FileError,
                       "must be names, or numbers with points. Got \"1,5\".");
  EXPECT_EQ(read("x;label\n1;a,b\n2;c\n").class_names.size(), 2);
}

TEST_F(CsvFile, RefusesWhatIsNotUtf8) {
  LOWRANK_EXPECT_ERROR(read("x\xe9,label\n1,0\n"), FileError, "must be UTF-8. Got");
  LOWRANK_EXPECT_ERROR(read("x,label\n1,\xe9\n"), FileError, "must be UTF-8. Got");
}

TEST_F(CsvFile, DropsColumns) {
  const std::string text = "id,a,label,name,b\nx1,1,0,ann,2\nx2,3,1,bob,4\n";
  const auto data = read(text, {.dropped_columns = {"name", "id"}});
  EXPECT_EQ(data.columns, (std::vector<std::string>{"a", "b"}));
  EXPECT_TRUE(at::equal(data.inputs, at::tensor({1.0, 2.0, 3.0, 4.0}, at::kFloat).view({2, 2})));
  LOWRANK_EXPECT_ERROR(read(text), FileError,
                       "in column \"id\". Got \"x1\". Leave a column that is no input out with "
                       "--drop-columns NAME.");
  LOWRANK_EXPECT_ERROR(read(text, {.dropped_columns = {"nmae"}}), ArgumentError,
                       "Got \"nmae\". Did you mean \"name\"?");
  LOWRANK_EXPECT_ERROR(read(text, {.dropped_columns = {"label"}}), ArgumentError,
                       "without labels. Got \"label\".");
}

TEST_F(CsvFile, TakesNumbersTooSmallForFloatAsZero) {
  const auto data = read("a,label\n1e-400,0\n-1e-50,1\n");
  EXPECT_EQ(data.inputs.abs().sum().item<float>(), 0);
}

TEST_F(CsvFile, NamesTheLineAndTheColumnOfWhatIsWrong) {
  LOWRANK_EXPECT_ERROR(read("a,b\n1,2\n"), ArgumentError, "--label-column must name a column of");
  LOWRANK_EXPECT_ERROR(read("a,lable\n1,2\n"), ArgumentError, "Got \"label\", which is none of");
  LOWRANK_EXPECT_ERROR(read("a,label\n1,0\nx,1\n"), FileError, "[data] line 3 of");
  LOWRANK_EXPECT_ERROR(read("a,label\r\n\r\n\r\n1,0\r\nx,1\r\n"), FileError, "[data] line 5 of");
  LOWRANK_EXPECT_ERROR(read("a,label\r1,0\rx,1\r"), FileError, "[data] line 3 of");
  LOWRANK_EXPECT_ERROR(read("a,label\n,0\n"), FileError, "Got nothing. Fill the cell, remove the");
  LOWRANK_EXPECT_ERROR(read("a,label\n1\n"), FileError, "Got 1. Complete the line, or remove it.");
  LOWRANK_EXPECT_ERROR(read("a,label\n1,0\nx,1\n"), FileError,
                       "must hold a finite number in column \"a\". Got \"x\".");
  LOWRANK_EXPECT_ERROR(read("a,label\n,0\n"), FileError, "in column \"a\". Got nothing.");
  LOWRANK_EXPECT_ERROR(read("a,label\nnan,0\n"), FileError, "in column \"a\". Got \"nan\".");
  LOWRANK_EXPECT_ERROR(read("a,label\n+-5,0\n"), FileError, "in column \"a\". Got \"+-5\".");
  LOWRANK_EXPECT_ERROR(read("a,label\n1e99,0\n"), FileError, "in column \"a\". Got \"1e99\".");
  LOWRANK_EXPECT_ERROR(read("a,label\n1,0,2\n"), FileError,
                       "must hold 2 columns, as its first line. Got 3.");
  LOWRANK_EXPECT_ERROR(read("a,label\n1\n"), FileError, "Got 1.");
  LOWRANK_EXPECT_ERROR(read("a,label\n1,\n"), FileError, "Got none for example 0.");
  LOWRANK_EXPECT_ERROR(read("a,label\n1,-1\n"), FileError,
                       "must be classes of 0 to 999999. Got -1.");
  LOWRANK_EXPECT_ERROR(read("a,label\n1,123456789012345678901\n"), FileError,
                       "must be classes of 0 to 999999. Got 1000000000000000. Pass --loss mse");
  LOWRANK_EXPECT_ERROR(read("a,label\n1,inf\n"), FileError,
                       "must be finite and in the range of float32.");
  LOWRANK_EXPECT_ERROR(read("a,label\n1,x\n", {.predicts_numbers = true}), FileError,
                       "must be numbers, because the loss is mse. Got a text that is no number.");
  LOWRANK_EXPECT_ERROR(read("a,a,label\n1,2,0\n"), FileError, "different column names");
  LOWRANK_EXPECT_ERROR(read("label\n1\n"), FileError,
                       "a column to learn from beside that of the labels");
  LOWRANK_EXPECT_ERROR(read("a,label\n"), FileError, "Got column names alone.");
  LOWRANK_EXPECT_ERROR(read(""), FileError, "Got nothing.");
  LOWRANK_EXPECT_ERROR(read("a,label\n\"1,0\n"), FileError, "must be a CSV file (RFC 4180)");
}

}  // namespace
}  // namespace lowrank::app
