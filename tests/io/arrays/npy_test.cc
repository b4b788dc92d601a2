#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <lowrank/error.h>
#include <lowrank/io/npy.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "support/expect_error.h"
#include "support/temporary_folder.h"

namespace lowrank {
namespace {

/// Composes a file: magic, version, length of the header, header, data.
std::string npy(const std::string& header, const std::string& data, int version = 1) {
  std::string bytes = "\x93NUMPY";
  bytes += static_cast<char>(version);
  bytes += '\0';
  for (int i = 0; i < (version == 1 ? 2 : 4); ++i) {
    bytes += static_cast<char>(header.size() >> (8 * i) & 0xFF);
  }
  return bytes + header + data;
}

std::string dict(const std::string& descr, const std::string& shape, bool fortran = false) {
  return "{'descr': '" + descr + "', 'fortran_order': " + (fortran ? "True" : "False") +
         ", 'shape': " + shape + ", }\n";
}

template <class T>
std::string raw(std::vector<T> values, bool big_endian = false) {
  std::string bytes;
  for (const T value : values) {
    std::string one(sizeof(T), '\0');
    std::memcpy(one.data(), &value, sizeof(T));
    bytes += big_endian ? std::string(one.rbegin(), one.rend()) : one;
  }
  return bytes;
}

class Npy : public testing::Test {
 protected:
  at::Tensor read(const std::string& bytes) const {
    return read_npy(folder_.write("w.npy", bytes));
  }

  TemporaryFolder folder_;
};

using NpyErrors = Npy;

TEST_F(Npy, ReadsEveryVersionOrderAndByteOrder) {
  const auto expected = at::arange(6, at::kDouble).view({2, 3});
  const std::vector<double> rows = {0, 1, 2, 3, 4, 5};
  const std::vector<double> columns = {0, 3, 1, 4, 2, 5};
  for (const int version : {1, 2, 3}) {
    EXPECT_TRUE(read(npy(dict("<f8", "(2, 3)"), raw(rows), version)).equal(expected));
  }
  EXPECT_TRUE(read(npy(dict(">f8", "(2, 3)"), raw(rows, true))).equal(expected));
  EXPECT_TRUE(read(npy(dict("<f8", "(2, 3)", true), raw(columns))).equal(expected));
  EXPECT_TRUE(read(npy(dict(">f8", "(2, 3)", true), raw(columns, true))).equal(expected));
  EXPECT_TRUE(read(npy("{\"shape\":(2L,3L),\"fortran_order\":False,\"descr\":\"<f8\"}", raw(rows)))
                  .equal(expected));
}

TEST_F(Npy, ReadsEveryDtype) {
  const auto check = [&](const std::string& descr, const std::string& data,
                         const at::Tensor& expected) {
    const auto found = read(npy(dict(descr, "(2,)"), data));
    EXPECT_EQ(found.scalar_type(), expected.scalar_type()) << descr;
    EXPECT_TRUE(found.equal(expected)) << descr << ": " << found;
  };
  const auto pair = [](double a, double b, at::ScalarType dtype) {
    return at::tensor({a, b}, at::kDouble).to(dtype);
  };
  check("<f2", raw<uint16_t>({0x3C00, 0xC000}), pair(1, -2, at::kHalf));
  check(">f2", raw<uint16_t>({0x3C00, 0xC000}, true), pair(1, -2, at::kHalf));
  check("<f4", raw<float>({1.5F, -2}), pair(1.5, -2, at::kFloat));
  check("|i1", raw<int8_t>({-1, 7}), pair(-1, 7, at::kChar));
  check(">i2", raw<int16_t>({-2, 300}, true), pair(-2, 300, at::kShort));
  check("<i4", raw<int32_t>({-2, 70000}), pair(-2, 70000, at::kInt));
  check("<i8", raw<int64_t>({-2, 5'000'000'000}), pair(-2, 5e9, at::kLong));
  check("|u1", raw<uint8_t>({0, 255}), pair(0, 255, at::kByte));
  check("<u2", raw<uint16_t>({1, 65535}), pair(1, 65535, at::kInt));
  check(">u4", raw<uint32_t>({1, 4294967295U}, true), pair(1, 4294967295.0, at::kLong));
  check("<u8", raw<uint64_t>({1, 9}), pair(1, 9, at::kLong));
  check("|b1", raw<uint8_t>({0, 1}), pair(0, 1, at::kBool));
}

TEST_F(Npy, ReadsScalarsAndEmptyArrays) {
  EXPECT_TRUE(read(npy(dict("<f4", "()"), raw<float>({3}))).equal(at::scalar_tensor(3)));
  EXPECT_EQ(read(npy(dict("<f4", "(0, 5)"), "")).sizes(), (std::vector<int64_t>{0, 5}));
  EXPECT_EQ(read(npy(dict("<f4", "(0, 5)", true), "")).sizes(), (std::vector<int64_t>{0, 5}));
}

TEST_F(Npy, ReadsWhatItWrote) {
  at::manual_seed(0);
  for (const auto dtype : {at::kHalf, at::kFloat, at::kDouble, at::kChar, at::kShort, at::kInt,
                           at::kLong, at::kByte, at::kBool}) {
    for (const auto& shape : {std::vector<int64_t>{}, {3}, {4, 5}, {0, 2}, {2, 3, 4}}) {
      const auto tensor = (at::rand(shape) * 100).to(dtype);
      write_npy(folder_ / "t.npy", tensor);
      const auto found = read_npy(folder_ / "t.npy");
      EXPECT_EQ(found.scalar_type(), dtype);
      EXPECT_TRUE(found.equal(tensor));
    }
  }
  const auto transposed = at::rand({3, 4}).t();
  write_npy(folder_ / "t.npy", transposed);
  EXPECT_TRUE(read_npy(folder_ / "t.npy").equal(transposed));
}

TEST_F(Npy, WritesTheBytesOfNumPySave) {
  // numpy.save(f, numpy.ones(3, 'f4')), NumPy 1.24
  std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }";
  header += std::string(117 - header.size(), ' ') + "\n";
  EXPECT_EQ(serialize_npy(at::ones({3})), npy(header, raw<float>({1, 1, 1})));
  LOWRANK_EXPECT_ERROR(serialize_npy(at::ones({3}, at::kBFloat16)), TensorError, "Got BFloat16.");
}

TEST_F(NpyErrors, NamesWhatIsNoNumPyArray) {
  LOWRANK_EXPECT_ERROR(read_npy(folder_ / "none.npy"), FileError, "none.npy\" must exist");
  LOWRANK_EXPECT_ERROR(read(""), FileError, "must begin as a NumPy array does. Got an empty file.");
  LOWRANK_EXPECT_ERROR(read("PK\x03\x04 and so on"), FileError,
                       "must begin as a NumPy array does. Got \"PK");
  LOWRANK_EXPECT_ERROR(read("\x93NUMPY\x01"), FileError, "must hold a whole header. Got 7 bytes.");
  LOWRANK_EXPECT_ERROR(read(npy(dict("<f4", "(1,)"), "1234", 4)), FileError,
                       "must be of format version 1, 2 or 3. Got version 4.");
}

TEST_F(NpyErrors, NeverReadsAPickle) {
  LOWRANK_EXPECT_ERROR(read(npy(dict("|O", "(1,)"), "cos\nsystem\n")), FileError,
                       "Got an array of Python objects (a pickle). Pickles are never executed.");
  LOWRANK_EXPECT_ERROR(
      read(npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': ()}", "1234")),
      FileError, "Got a structured dtype.");
}

TEST_F(NpyErrors, ChecksTheSizeBeforeItTakesMemory) {
  const auto data = raw<float>({1, 2, 3, 4});
  LOWRANK_EXPECT_ERROR(read(npy(dict("<f4", "(2, 3)"), data)), FileError, "The file is cut short.");
  LOWRANK_EXPECT_ERROR(read(npy(dict("<f4", "(3,)"), data)), FileError,
                       "Something follows the array");
  LOWRANK_EXPECT_ERROR(read(npy(dict("<f4", "(1000000000000, 1000)"), data)), FileError,
                       "The file is cut short.");
  LOWRANK_EXPECT_ERROR(read(npy(dict("<f4", "(4611686018427387904, 4)"), data)), FileError,
                       "must hold a shape whose size fits 64 bits");
  LOWRANK_EXPECT_ERROR(read(npy(dict("<f4", "(0, 4611686018427387904, 4)"), "")), FileError,
                       "must hold a shape whose size fits 64 bits");
  LOWRANK_EXPECT_ERROR(read(npy(dict("<f4", "(99999999999999999999,)"), data)), FileError,
                       "must hold whole dimensions that fit 64 bits");
  std::string many = "(";
  for (int i = 0; i < 100; ++i) many += "1,";
  LOWRANK_EXPECT_ERROR(read(npy(dict("<f4", many + ")"), data)), FileError,
                       "must hold at most 64 dimensions. Got more.");
  auto huge = npy(dict("<f4", "(4,)"), data, 2);
  huge[11] = '\x7F';  // a header of 2 GB
  LOWRANK_EXPECT_ERROR(read(huge), FileError, "must be at most 65536 bytes long. Got 2130706");
  auto torn = npy(dict("<f4", "(4,)"), "");
  torn.resize(30);
  LOWRANK_EXPECT_ERROR(read(torn), FileError, "The file is cut short.");
}

TEST_F(NpyErrors, NamesWhatIsWrongInTheHeader) {
  const auto header = [&](const std::string& text) { return read(npy(text, "1234")); };
  LOWRANK_EXPECT_ERROR(header(""), FileError, "Got its end.");
  LOWRANK_EXPECT_ERROR(header("{'descr': '<f4', 'fortran_order': False}"), FileError,
                       "must hold the keys descr, fortran_order and shape");
  LOWRANK_EXPECT_ERROR(header("{'descr': '<f4', 'descr': '<f4'}"), FileError,
                       "must hold each key once. Got \"descr\" twice.");
  LOWRANK_EXPECT_ERROR(header("{'color': 1}"), FileError, "Got \"color\".");
  LOWRANK_EXPECT_ERROR(header("{'descr': '<f4"), FileError, "must hold the end of a string");
  LOWRANK_EXPECT_ERROR(header("{'fortran_order': Maybe}"), FileError,
                       "must hold True or False there. Got \"Maybe}\" at byte 18.");
  LOWRANK_EXPECT_ERROR(header(dict("<f4", "(-1,)")), FileError, "must hold whole dimensions");
  LOWRANK_EXPECT_ERROR(header(dict("<f4", "(1)")), FileError, "must hold a tuple as its shape");
  LOWRANK_EXPECT_ERROR(header(dict("<f4", "1")), FileError, "must hold \"(\" there");
  LOWRANK_EXPECT_ERROR(header(dict("<f4", "(1,)") + "x"), FileError,
                       "must hold nothing after the closing brace");
  LOWRANK_EXPECT_ERROR(header(dict("<c8", "(1,)")), FileError, "Got \"<c8\".");
  LOWRANK_EXPECT_ERROR(header(dict("<U1", "(1,)")), FileError, "Got \"<U1\".");
  LOWRANK_EXPECT_ERROR(header(dict("f4", "(1,)")), FileError, "must hold a byte order");
}

TEST_F(NpyErrors, RefusesUnsignedNumbersThatInt64CannotHold) {
  LOWRANK_EXPECT_ERROR(read(npy(dict("<u8", "(1,)"), raw<uint64_t>({1ULL << 63}))), FileError,
                       "must fit int64");
}

}  // namespace
}  // namespace lowrank
