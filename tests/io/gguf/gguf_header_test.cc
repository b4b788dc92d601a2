#include "io/gguf/gguf_header.h"

#include <lowrank/error.h>

#include <string>

#include "support/expect_error.h"
#include "support/gguf_bytes.h"

// Each file is damaged in one place and refused with its own message; a whole file is the control.
namespace lowrank {
namespace {

io::GgufHeader parse_header(const std::string& bytes) {
  return io::parse_gguf_header(bytes, "x.gguf");
}

void expect_header_refused(const std::string& bytes, const std::string& message) {
  LOWRANK_EXPECT_ERROR(parse_header(bytes), FileError, message);
}
void expect_header_refused(const GgufBytes& file, const std::string& message) {
  expect_header_refused(file.bytes(), message);
}

const std::string kFourNumbers(16, '\1');

TEST(GgufHeader, HasTensorsAndScalars) {
  GgufBytes file;
  file.entry("general.architecture", "llama").entry("heads", 9);
  file.raw_entry("small", 1, "\xff").raw_entry("true", 7, "\1");
  file.raw_entry("half", 6, std::string("\0\0\0\x3f", 4));
  file.raw_entry("words", 9,
                 GgufBytes::number(8, 4) + GgufBytes::number(2, 8) + GgufBytes::text("a") +
                     GgufBytes::text(""));
  file.raw_entry("numbers", 9, GgufBytes::number(4, 4) + GgufBytes::number(2, 8) + "12345678");
  file.tensor("x", {2, 2}, 0, kFourNumbers).tensor("none", {0, 32}, 8, "");
  const auto bytes = file.bytes();
  const auto header = parse_header(bytes);
  EXPECT_EQ(std::get<std::string>(header.metadata.at("general.architecture")), "llama");
  EXPECT_EQ(std::get<int64_t>(header.metadata.at("heads")), 9);
  EXPECT_EQ(std::get<int64_t>(header.metadata.at("small")), -1);
  EXPECT_EQ(std::get<int64_t>(header.metadata.at("true")), 1);
  EXPECT_EQ(std::get<double>(header.metadata.at("half")), 0.5);
  EXPECT_FALSE(header.metadata.contains("words"));
  ASSERT_EQ(header.tensors.size(), 2);
  EXPECT_EQ(header.tensors[0].name, "x");
  EXPECT_EQ(header.tensors[0].shape, (std::vector<int64_t>{2, 2}));
  EXPECT_EQ(bytes.substr(header.tensors[0].begin, 16), kFourNumbers);
  EXPECT_EQ(header.tensors[1].end, header.tensors[1].begin);
}

TEST(GgufHeader, IsOfAVersionThatIsRead) {
  expect_header_refused("GGML" + std::string(20, '\0'), "must begin with \"GGUF\"");
  expect_header_refused(GgufBytes().version(1), "version 2 or 3. Got version 1");
  expect_header_refused(GgufBytes().version(0x03000000), "Got a big-endian file");
  EXPECT_NO_THROW(parse_header(GgufBytes().version(2).bytes()));
}

TEST(GgufHeader, IsWhole) {
  GgufBytes file;
  file.entry("name", "text")
      .raw_entry("numbers", 9, GgufBytes::number(4, 4) + GgufBytes::number(1, 8) + "1234");
  file.tensor("x", {2, 2}, 0, kFourNumbers);
  const auto bytes = file.bytes();
  const auto end = parse_header(bytes).tensors[0].end;
  for (size_t size = 0; size < end; ++size) {
    EXPECT_THROW(parse_header(bytes.substr(0, size)), FileError) << size;
  }
}

TEST(GgufHeader, ClaimsNoMoreThanTheFileHolds) {
  const auto huge = GgufBytes::number(uint64_t{1} << 62, 8);
  expect_header_refused(GgufBytes().raw_entry("s", 8, huge), "must have at most");
  expect_header_refused(GgufBytes().raw_entry("a", 9, GgufBytes::number(4, 4) + huge),
                        "must hold its whole header");
  expect_header_refused(GgufBytes().raw_entry("a", 9, GgufBytes::number(8, 4) + huge),
                        "must hold its whole header");
  expect_header_refused("GGUF" + GgufBytes::number(3, 4) + huge + huge,
                        "must hold its whole header");
  constexpr uint64_t kMany = uint64_t{1} << 40;
  expect_header_refused(GgufBytes().raw_tensor("x", {kMany}, 0, 0), "tensor \"x\"");
  expect_header_refused(GgufBytes().raw_tensor("x", {kMany, kMany, 0}, 0, 0), "tensor \"x\"");
  expect_header_refused(GgufBytes().raw_tensor("x", {1}, 0, kMany), "tensor \"x\"");
  expect_header_refused(GgufBytes().raw_tensor("x", {~uint64_t{0}}, 0, 0), "must fit into 63 bits");
}

TEST(GgufHeader, HasOneNameForEachThing) {
  expect_header_refused(GgufBytes().entry("k", 1).entry("k", 2),
                        "the keys of \"x.gguf\" must differ");
  expect_header_refused(
      GgufBytes().tensor("x", {4}, 0, kFourNumbers).tensor("x", {4}, 0, kFourNumbers),
      "must have different names");
}

TEST(GgufHeader, HasNamesInUtf8) {
  expect_header_refused(GgufBytes().tensor("\xff\xfe", {4}, 0, kFourNumbers), "must be UTF-8");
}

TEST(GgufHeader, HasTypesThatAreRead) {
  expect_header_refused(GgufBytes().raw_entry("k", 13, ""), "types 0 to 12. Got 13");
  expect_header_refused(
      GgufBytes().raw_entry("k", 9, GgufBytes::number(9, 4) + GgufBytes::number(1, 8)),
      "must be an array of numbers or strings");
  expect_header_refused(GgufBytes().tensor("x", {4}, 14, kFourNumbers), "Got Q6_K");
  expect_header_refused(GgufBytes().tensor("x", {4}, 99, kFourNumbers), "Got type 99");
  expect_header_refused(GgufBytes().tensor("x", {2, 16}, 8, kFourNumbers),
                        "whole blocks of 32 numbers");
  expect_header_refused(GgufBytes().raw_tensor("x", {1, 1, 1, 1, 1}, 0, 0), "at most 4 dimensions");
}

TEST(GgufHeader, PlacesTensorsApart) {
  GgufBytes file;
  file.tensor("x", {16}, 0, std::string(64, '\1')).raw_tensor("y", {8}, 0, 32);
  expect_header_refused(file, "must not overlap");
  expect_header_refused(GgufBytes().raw_tensor("x", {1}, 0, 4),
                        "must begin at a multiple of 32 bytes");
  expect_header_refused(
      GgufBytes().entry("general.alignment", 24).tensor("x", {4}, 0, kFourNumbers),
      "a power of two");
  expect_header_refused(GgufBytes().entry("general.alignment", "8"), "Got no whole number");
}

}  // namespace
}  // namespace lowrank
