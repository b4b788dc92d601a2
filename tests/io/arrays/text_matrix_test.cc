#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <lowrank/error.h>
#include <lowrank/io/matrix_file.h>
#include <lowrank/io/npy.h>
#include <lowrank/io/safetensors.h>
#include <lowrank/io/text_matrix.h>

#include <limits>
#include <string>

#include "support/expect_error.h"
#include "support/temporary_folder.h"

namespace lowrank {
namespace {

at::Tensor parse(const std::string& text) { return parse_text_matrix(text, "w.txt"); }

const at::Tensor& expected() {
  static const auto matrix = at::tensor({1.0, 2.5, -3.0, 4e3}, at::kDouble).view({2, 2});
  return matrix;
}

TEST(TextMatrix, TakesEverySeparator) {
  for (const char* text :
       {"1 2.5\n-3 4e3\n", "1 2.5\n-3 4e3", "  1\t 2.5 \r\n\r\n-3   4e3\r\n", "1,2.5\n-3, 4e3\n",
        "1;2.5\n-3;+4000\n", "1\t2.5\n-3\t4E3\n", "# a comment\n\n1 2.5 # more\n-3 4e3\n",
        "\xEF\xBB\xBF 1 2.5\n-3 4e3\n", "width,height\n1,2.5\n-3,4e3\n", "a b\n1 2.5\n-3 4000."}) {
    const auto found = parse(text);
    EXPECT_EQ(found.scalar_type(), at::kDouble);
    EXPECT_TRUE(found.equal(expected())) << text << found;
  }
}

TEST(TextMatrix, KeepsEveryDigit) {
  EXPECT_EQ(parse("0.1").item<double>(), 0.1);
  EXPECT_EQ(parse("2.2250738585072014e-308").item<double>(), std::numeric_limits<double>::min());
  EXPECT_EQ(parse("1e-999").item<double>(), 0);
  EXPECT_TRUE(parse("nan inf").isfinite().logical_not().all().item<bool>());
}

TEST(TextMatrix, NamesLineAndColumn) {
  LOWRANK_EXPECT_ERROR(parse("1 2\n\n3 x4\n"), FileError,
                       "[text matrix] line 3, column 2 of w.txt must be a number. Got \"x4\".");
  LOWRANK_EXPECT_ERROR(parse("1,2,\n"), FileError,
                       "line 1, column 3 of w.txt must be a number. Got nothing.");
  LOWRANK_EXPECT_ERROR(parse("1\t\t3\n"), FileError, "line 1, column 2 of w.txt");
  LOWRANK_EXPECT_ERROR(parse("a,1\n"), FileError, "line 1, column 1 of w.txt");
  LOWRANK_EXPECT_ERROR(parse("1;2,5\n"), FileError, "Decimal commas are not read: write a point.");
  LOWRANK_EXPECT_ERROR(parse("1 1e999\n"), FileError, "Got \"1e999\".");
  LOWRANK_EXPECT_ERROR(parse("1 +-2\n"), FileError, "Got \"+-2\".");
}

TEST(TextMatrix, TakesNoNumbersForAHeader) {
  const std::string required = "line 1, column 1 of w.txt must be a number. Got ";
  LOWRANK_EXPECT_ERROR(parse("1,5;2,5\n3;4\n"), FileError,
                       required + "\"1,5\". Decimal commas are not read: write a point.");
  LOWRANK_EXPECT_ERROR(parse("\"1\",\"2\"\n3,4\n"), FileError, required + R"("\"1\"".)");
  LOWRANK_EXPECT_ERROR(parse("1\u00a02\n3\n"), FileError, required + "\"1\u00a02\".");
  LOWRANK_EXPECT_ERROR(parse("-1e999 -.5x\n3 4\n"), FileError, required + "\"-1e999\".");
  LOWRANK_EXPECT_ERROR(parse("'+.5'\n3\n"), FileError, required);
  EXPECT_EQ(parse("x-1,\"y\"\n1,2\n").size(0), 1) << "a header may hold digits and quotes";
}

TEST(TextMatrix, RefusesRowsOfDifferentLengths) {
  LOWRANK_EXPECT_ERROR(parse("1 2\n3 4 5\n"), FileError,
                       "every row of w.txt must have 2 columns, as its first. Got 3 in line 2.");
  LOWRANK_EXPECT_ERROR(parse("1\n2 3\n"), FileError, "must have 1 column, as its first");
}

TEST(TextMatrix, RefusesWhatHoldsNoRowOrIsNotText) {
  for (const char* text : {"", "\n\n", "# only a comment\n", "a,b,c\n"}) {
    LOWRANK_EXPECT_ERROR(parse(text), FileError,
                         "w.txt must hold at least one row of numbers. Got none.");
  }
  LOWRANK_EXPECT_ERROR(parse(std::string("1 2\0 3", 6)), FileError,
                       "w.txt must be text. Got a zero byte at byte 3.");
}

TEST(MatrixFile, ReadsByExtension) {
  const TemporaryFolder folder;
  write_npy(folder / "w.NPY", expected());
  write_safetensors(folder / "w.safetensors", {{"bias", at::zeros({2})}, {"weight", expected()}});
  folder.write("w.csv", "1,2.5\n-3,4000\n");
  for (const char* name : {"w.NPY", "w.safetensors", "w.csv"}) {
    EXPECT_TRUE(read_matrix(folder / name).equal(expected())) << name;
  }
  EXPECT_TRUE(read_matrix(folder / "w.safetensors", "bias").equal(at::zeros({2})));
}

TEST(MatrixFile, AsksForATensorWhereThereAreSeveral) {
  const TemporaryFolder folder;
  const auto path = folder / "m.safetensors";
  write_safetensors(path, {{"linear1.weight", expected()}, {"linear2.weight", expected()}});
  LOWRANK_EXPECT_ERROR(
      read_matrix(path), ArgumentError,
      "Got no name. Name one (the command by --tensor): there are linear1.weight, linear2.weight.");
  LOWRANK_EXPECT_ERROR(read_matrix(path, "linaer2.weight"), FileError,
                       "Did you mean \"linear2.weight\"?");
  write_safetensors(path, {{"bias", at::zeros({2})}});
  LOWRANK_EXPECT_ERROR(
      read_matrix(path), FileError,
      "must hold a two-dimensional tensor. Got only tensors of other shapes: bias.");
  LOWRANK_EXPECT_ERROR(read_matrix(folder / "w.csv", "weight"), ArgumentError,
                       "only a .safetensors file has tensors with names");
}

TEST(MatrixFile, RefusesTheFilesOfOtherPrograms) {
  LOWRANK_EXPECT_ERROR(read_matrix("w.npz"), FileError, "Save its array alone");
  LOWRANK_EXPECT_ERROR(read_matrix("model.pt"), FileError,
                       "Such files may be pickles, which are never executed");
}

/// pandas and R number the rows of what they write, under an empty name or none.
TEST(TextMatrix, RefusesAnIndexOfTheRows) {
  for (const char* text : {",a,b\n0,1,2\n1,3,4\n", ",a,b\n5,1,2\n", "\"\" a b\n0 1.0 2.0\n"}) {
    LOWRANK_EXPECT_ERROR(parse(text), FileError, "Got a first column without a name");
  }
  for (const char* text : {"\ta\tb\n0\t1\t2\n", "   a    b\n0  1  2\n", "a b\n1 1 2\n"}) {
    LOWRANK_EXPECT_ERROR(parse(text), FileError, "Got 2 names and 3 numbers.");
  }
  LOWRANK_EXPECT_ERROR(parse(",0,1\n0,1,2\n"), FileError, "to_csv(index=False, header=False)");
  EXPECT_EQ(parse("a,b\n1,2\n").size(1), 2);
}

}  // namespace
}  // namespace lowrank
