#include <ATen/ATen.h>
#include <lowrank/error.h>
#include <lowrank/io/safetensors.h>

#include "support/expect_error.h"
#include "support/safetensors_bytes.h"
#include "support/temporary_folder.h"

// Each file is corrupted by hand and refused with its own message; a valid file is the control.
namespace lowrank {
namespace {

class SafetensorsHeader : public ::testing::Test {
 protected:
  SafetensorsFile open(const std::string& bytes) const {
    return SafetensorsFile::open(folder_.write("f.safetensors", bytes));
  }
  SafetensorsFile open(const std::string& header, size_t data_size) const {
    return open(safetensors_bytes(header, data_size));
  }

  TemporaryFolder folder_;
};

/// Returns the header of one tensor "a" with these fields.
std::string one(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"({"a":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets +
         "}}";
}

/// Returns the header of two float32 vectors of two elements at these offsets.
std::string two(const std::string& first, const std::string& second) {
  return R"({"a":{"dtype":"F32","shape":[2],"data_offsets":)" + first +
         R"(},"b":{"dtype":"F32","shape":[2],"data_offsets":)" + second + "}}";
}

TEST_F(SafetensorsHeader, GoodControls) {
  EXPECT_EQ(open(one("F32", "[2,3]", "[0,24]"), 24).tensor("a").numel(), 6);
  EXPECT_EQ(open(one("F32", "[2,3]", "[0,24]") + "   ", 24).tensor("a").numel(), 6);
  EXPECT_EQ(open(one("F32", "[]", "[0,4]"), 4).tensor("a").dim(), 0);
  EXPECT_EQ(open(one("F32", "[0,3]", "[0,0]"), 0).tensor("a").sizes(), at::IntArrayRef({0, 3}));
  EXPECT_EQ(open(two("[8,16]", "[0,8]"), 16).names(), (std::vector<std::string>{"b", "a"}));
  EXPECT_TRUE(open("{}", 0).names().empty());
  EXPECT_TRUE(open(R"({"__metadata__":null})", 0).metadata().empty());
  EXPECT_EQ(open(R"({"__metadata__":{"k":"v"}})", 0).metadata().at("k"), "v");
  // Unknown fields are ignored, as in the reference implementation.
  EXPECT_TRUE(
      open(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"more":[1]}})", 1).contains("a"));
}

TEST_F(SafetensorsHeader, TheFileItself) {
  LOWRANK_EXPECT_ERROR(SafetensorsFile::open(folder_ / "missing file"), FileError,
                       "missing file\" must exist. Got \"No such file or directory\".");
  LOWRANK_EXPECT_ERROR(SafetensorsFile::open(folder_.path()), FileError,
                       "must be a file. Got a folder.");
  LOWRANK_EXPECT_ERROR(SafetensorsFile::open("/dev/null"), FileError,
                       "[safetensors] \"/dev/null\" must be a file. Got something else.");
  LOWRANK_EXPECT_ERROR(open(""), FileError,
                       "f.safetensors\" must be at least 8 bytes long. Got 0 bytes.");
  LOWRANK_EXPECT_ERROR(open("1234567"), FileError, "must be at least 8 bytes long. Got 7 bytes.");
}

TEST_F(SafetensorsHeader, TheHeadersLength) {
  LOWRANK_EXPECT_ERROR(open(safetensors_bytes("{}", 0, 3)), FileError,
                       "f.safetensors\" must be at most 2 bytes long. Got a header length of 3.");
  LOWRANK_EXPECT_ERROR(open(std::string(16, '\xff')), FileError,
                       "Got a header length of 18446744073709551615.");
  LOWRANK_EXPECT_ERROR(open(safetensors_bytes("", 0)), FileError,
                       "must be a JSON object. Got nothing.");
  LOWRANK_EXPECT_ERROR(open("PK\x03\x04 and so on"), FileError, "looks like a file of torch.save");
  LOWRANK_EXPECT_ERROR(open("version https://git-lfs.github.com/spec/v1"), FileError,
                       "is a Git LFS pointer");

  // A sparse file of 200 MB: the header fits into the file, but is longer than the format allows.
  const auto path = folder_.write("large", safetensors_bytes("{}", 0, 100'000'001));
  std::filesystem::resize_file(path, 200'000'000);
  LOWRANK_EXPECT_ERROR(SafetensorsFile::open(path), FileError,
                       "at most 100000000 bytes long. Got a header length of 100000001.");
}

TEST_F(SafetensorsHeader, TheJson) {
  LOWRANK_EXPECT_ERROR(
      open("{\"a\":}", 0), FileError,
      "f.safetensors\" must be valid JSON. Got wrong syntax at byte 6: unexpected '}'");
  LOWRANK_EXPECT_ERROR(open("{\"\xff\":1}", 0), FileError, "[safetensors] the header of");
  LOWRANK_EXPECT_ERROR(open("[]", 0), FileError, "must be a JSON object. Got another first byte.");
  LOWRANK_EXPECT_ERROR(open("{\"a\":" + std::string(100, '[') + std::string(100, ']') + "}", 0),
                       FileError, "must nest at most 64 levels deep. Got deeper nesting.");
  LOWRANK_EXPECT_ERROR(open("{\"a\":" + std::string(1'000'000, '['), 0), FileError,
                       "must nest at most 64 levels deep");
  LOWRANK_EXPECT_ERROR(open(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                            R"("a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
                            1),
                       FileError, "must differ. Got the key \"a\" twice.");
  LOWRANK_EXPECT_ERROR(
      open(R"({"a":{"dtype":"U8","shape":[1],"shape":[1],"data_offsets":[0,1]}})", 1), FileError,
      "must differ. Got the key \"shape\" twice.");
}

TEST_F(SafetensorsHeader, Metadata) {
  LOWRANK_EXPECT_ERROR(open(R"({"__metadata__":[]})", 0), FileError,
                       "must be an object. Got array.");
  LOWRANK_EXPECT_ERROR(open(R"({"__metadata__":{"k":1}})", 0), FileError,
                       "must hold only strings. Got number for the key \"k\".");
}

TEST_F(SafetensorsHeader, MissingFields) {
  LOWRANK_EXPECT_ERROR(open(R"({"a":{"shape":[1],"data_offsets":[0,1]}})", 1), FileError,
                       "f.safetensors\" must have a \"dtype\". Got none.");
  LOWRANK_EXPECT_ERROR(open(R"({"a":{"dtype":"U8","data_offsets":[0,1]}})", 1), FileError,
                       "must have a \"shape\". Got none.");
  LOWRANK_EXPECT_ERROR(open(R"({"a":{"dtype":"U8","shape":[1]}})", 1), FileError,
                       "must have a \"data_offsets\". Got none.");
}

TEST_F(SafetensorsHeader, WrongTypes) {
  LOWRANK_EXPECT_ERROR(open(R"({"a":1})", 0), FileError, "must be an object. Got number.");
  LOWRANK_EXPECT_ERROR(open(R"({"a":{"dtype":8,"shape":[1],"data_offsets":[0,1]}})", 1), FileError,
                       "must be a string. Got number.");
  LOWRANK_EXPECT_ERROR(
      open(one("F4", "[1]", "[0,1]"), 1), FileError,
      "must be one of I64, F64, F32, I32, BF16, F16, I16, F8_E4M3, F8_E5M2, I8, U8, BOOL. "
      "Got \"F4\".");
  LOWRANK_EXPECT_ERROR(open(one("U8", "1", "[0,1]"), 1), FileError, "must be a list. Got number.");
  for (const char* length : {"-1", "1.0", "null", "[1]", "9223372036854775808", "1e2"}) {
    SCOPED_TRACE(length);
    LOWRANK_EXPECT_ERROR(open(one("U8", std::string("[") + length + "]", "[0,1]"), 1), FileError,
                         "must hold non-negative integers. Got ");
  }
  for (const char* offsets : {"1", "[0]", "[0,1,2]", "[-1,1]", "[0,1.5]", "[0,\"1\"]", "{}",
                              "[0,18446744073709551616]"}) {
    SCOPED_TRACE(offsets);
    LOWRANK_EXPECT_ERROR(open(one("U8", "[1]", offsets), 1), FileError,
                         "must be two non-negative integers. Got ");
  }
}

TEST_F(SafetensorsHeader, Sizes) {
  const std::string too_large = "must fit into 63 bits. Got [";
  LOWRANK_EXPECT_ERROR(open(one("U8", "[4294967296,4294967296]", "[0,0]"), 0), FileError,
                       too_large);
  LOWRANK_EXPECT_ERROR(open(one("F64", "[2305843009213693952]", "[0,0]"), 0), FileError, too_large);
  // The tensor is empty, but its strides overflow.
  LOWRANK_EXPECT_ERROR(open(one("U8", "[0,4294967296,4294967296]", "[0,0]"), 0), FileError,
                       too_large);
  std::string ones = "1";
  for (int i = 0; i < 64; ++i) ones += ",1";
  LOWRANK_EXPECT_ERROR(open(one("U8", "[" + ones + "]", "[0,1]"), 1), FileError,
                       "must have at most 64 dimensions. Got 65.");
  LOWRANK_EXPECT_ERROR(open(one("F32", "[2,3]", "[0,20]"), 20), FileError,
                       "must take 24 bytes, as its shape [2, 3] and dtype ask for. Got 20 bytes.");
}

TEST_F(SafetensorsHeader, Offsets) {
  const std::string outside = "must lie, in order, within the 16 bytes of data. Got ";
  LOWRANK_EXPECT_ERROR(open(two("[0,8]", "[8,17]"), 16), FileError, outside + "[8, 17].");
  LOWRANK_EXPECT_ERROR(open(two("[0,8]", "[16,8]"), 16), FileError, outside + "[16, 8].");
  LOWRANK_EXPECT_ERROR(open(two("[0,8]", "[0,18446744073709551615]"), 16), FileError, outside);
  LOWRANK_EXPECT_ERROR(open(two("[0,8]", "[4,12]"), 16), FileError, "tensor \"b\" of");
  LOWRANK_EXPECT_ERROR(open(two("[0,8]", "[4,12]"), 16), FileError,
                       "Got 4, which leaves an overlap.");
  LOWRANK_EXPECT_ERROR(open(two("[0,8]", "[0,8]"), 8), FileError,
                       "Got 0, which leaves an overlap.");
  LOWRANK_EXPECT_ERROR(open(two("[0,8]", "[9,17]"), 17), FileError, "Got 9, which leaves a hole.");
  LOWRANK_EXPECT_ERROR(open(two("[1,9]", "[9,17]"), 17), FileError,
                       "must begin at byte 0 of the data, where the one before it ends. Got 1");
  LOWRANK_EXPECT_ERROR(open(two("[0,8]", "[8,16]"), 17), FileError,
                       "must cover its 17 bytes of data. Got 1 byte that belongs to none.");
  LOWRANK_EXPECT_ERROR(open("{}", 5), FileError,
                       "must cover its 5 bytes of data. Got 5 bytes that belong to none.");
}

TEST_F(SafetensorsHeader, ATruncatedFile) {
  const std::string good = serialize_safetensors({{"a", at::ones({4})}});
  ASSERT_TRUE(open(good).contains("a"));
  LOWRANK_EXPECT_ERROR(open(good.substr(0, good.size() - 1)), FileError,
                       "must lie, in order, within the 15 bytes of data. Got [0, 16].");
  for (size_t length = 0; length < good.size(); ++length) {
    EXPECT_THROW(open(good.substr(0, length)), FileError) << length;
  }
}

TEST_F(SafetensorsHeader, NamesWithControlCharactersStayOneLine) {
  LOWRANK_EXPECT_ERROR(open(R"({"a\nb":1})", 0), FileError, R"(tensor "a\nb" of)");
}

TEST_F(SafetensorsHeader, BooleansAreZeroOrOne) {
  std::string bytes = safetensors_bytes(one("BOOL", "[2]", "[0,2]"), 2);
  EXPECT_TRUE(open(bytes).tensor("a").all().item<bool>());
  bytes.back() = '\2';
  LOWRANK_EXPECT_ERROR(open(bytes).tensor("a"), FileError,
                       "must hold bytes 0 and 1, as its dtype BOOL asks for. Got 2 at element 1.");
}

}  // namespace
}  // namespace lowrank
