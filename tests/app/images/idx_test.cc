#include "app/images/idx.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <lowrank/error.h>

#include <string>

#include "app/images/idx_files.h"
#include "support/expect_error.h"
#include "support/temporary_folder.h"

namespace lowrank::app {
namespace {

const std::string kGood = idx_bytes({2, 1, 3}, std::string("\0\1\2\xff\x80\7", 6));

void expect_file_error(const std::string& bytes, const std::string& message) {
  const TemporaryFolder folder;
  const auto path = folder.write("file", bytes);
  LOWRANK_EXPECT_ERROR(read_idx(path), FileError, "[idx] " + path.string() + message);
}

void expect_good(const std::string& bytes) {
  const TemporaryFolder folder;
  const at::Tensor values = read_idx(folder.write("file", bytes));
  EXPECT_EQ(values.scalar_type(), at::kByte);
  const at::Tensor expected = at::tensor({0, 1, 2, 255, 128, 7}).to(at::kByte).view({2, 1, 3});
  EXPECT_TRUE(at::equal(values, expected));
}

TEST(Idx, ReadsPlainAndGzip) {
  expect_good(kGood);
  expect_good(gzip_bytes(kGood));
}

TEST(Idx, ReadsGzipOfSeveralMembers) {
  expect_good(gzip_bytes(kGood.substr(0, 7)) + gzip_bytes(kGood.substr(7)));
}

TEST(Idx, ReadsContentLargerThanItsBuffers) {
  std::string values(300000, '\0');
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<char>(i * i >> 3 & 0xff);
  const TemporaryFolder folder;
  const auto bytes = idx_bytes({300, 1000}, values);
  const at::Tensor plain = read_idx(folder.write("plain", bytes));
  const at::Tensor inflated = read_idx(folder.write("gzip", gzip_bytes(bytes)));
  EXPECT_TRUE(at::equal(plain, inflated));
  EXPECT_EQ(std::string(plain.data_ptr<uint8_t>(), plain.data_ptr<uint8_t>() + 300000), values);
}

TEST(Idx, ReadsEmptyDimensions) {
  const TemporaryFolder folder;
  const at::Tensor values = read_idx(folder.write("file", idx_bytes({0, 28, 28}, "")));
  EXPECT_EQ(values.sizes(), (at::IntArrayRef{0, 28, 28}));
}

TEST(Idx, RefusesWhatIsNoFile) {
  const TemporaryFolder folder;
  LOWRANK_EXPECT_ERROR(read_idx(folder / "none"), FileError, "none must exist. Got no such file.");
  LOWRANK_EXPECT_ERROR(read_idx(folder.path()), FileError, "must be a file. Got a folder.");
  LOWRANK_EXPECT_ERROR(read_idx("/dev/zero"), FileError, "must be a file. Got something else.");
}

TEST(Idx, RefusesOtherFormats) {
  expect_file_error("\x89PNG....",
                    " must be an IDX file, which begins with the bytes 00 00. Got 89 50.");
  expect_file_error("", " must begin with a complete IDX header. Got a file that ends within it.");
  expect_file_error(kGood.substr(0, 11), " must begin with a complete IDX header. Got a file that");
}

TEST(Idx, RefusesOtherTypesByName) {
  const std::string required = " must hold uint8 values (type code 0x08). Got ";
  expect_file_error(idx_bytes({1}, "....", 0x0d), required + "float32 (type code 0x0d).");
  expect_file_error(idx_bytes({1}, ".", 0x09), required + "int8 (type code 0x09).");
  expect_file_error(idx_bytes({1}, ".", 0x42), required + "the unknown type code 0x42.");
}

TEST(Idx, RefusesDimensionsOutOfRange) {
  expect_file_error(idx_bytes({}, ""), " must have 1 to 8 dimensions. Got 0.");
  expect_file_error(idx_bytes(std::vector<uint32_t>(9, 1), "."),
                    " must have 1 to 8 dimensions. Got 9.");
}

TEST(Idx, RefusesSizesThatOverflow) {
  const uint32_t most = 0xffffffff;
  expect_file_error(
      idx_bytes({most, most, most}, "."),
      " must have sizes that fit into memory. Got 4294967295 x 4294967295 x 4294967295.");
  // The product is 2^64, which is 0 in 64 bits, and no bytes follow.
  expect_file_error(idx_bytes({1u << 31, 1u << 31, 4}, ""),
                    " must have sizes that fit into memory.");
  expect_file_error(idx_bytes({0, most, most, most}, ""), " must have sizes that fit into memory.");
}

TEST(Idx, RefusesWrongLengths) {
  expect_file_error(kGood.substr(0, kGood.size() - 1),
                    " must hold 6 bytes after its header, which says 2 x 1 x 3. Got 5. The file is "
                    "truncated; fetch or copy it again.");
  expect_file_error(
      kGood + "!!",
      " must hold 6 bytes after its header, which says 2 x 1 x 3. Got 8. Something was "
      "added to the file, or its header is damaged.");
  // This is far more than the machine's memory. It is refused because of the file's length, before
  // memory is allocated.
  expect_file_error(idx_bytes({1u << 31, 1u << 20}, "."), " must hold 2251799813685248 bytes");
}

TEST(Idx, RefusesGzipContentOfWrongLength) {
  expect_file_error(gzip_bytes(kGood.substr(0, kGood.size() - 1)),
                    " must hold 6 bytes after its header, which says 2 x 1 x 3. Got 5.");
  expect_file_error(gzip_bytes(kGood + "!"),
                    " must hold 6 bytes after its header, which says 2 x 1 x 3. Got more.");
  expect_file_error(gzip_bytes(idx_bytes({1u << 31, 1u << 20}, ".")),
                    " must hold 2251799813685248 bytes after its header, which says 2147483648 x "
                    "1048576. Got a gzip file too small to hold more than");
}

TEST(Idx, DoesNotInflateABomb) {
  // 64 MiB of zeros after a header that promises 6 bytes: only one byte too many is read.
  const std::string bomb = gzip_bytes(idx_bytes({6}, std::string(size_t{64} << 20, '\0')));
  expect_file_error(bomb, " must hold 6 bytes after its header, which says 6. Got more.");
}

TEST(Idx, RefusesDamagedGzip) {
  const std::string good = gzip_bytes(kGood);
  const std::string required = " must hold an intact gzip stream. Got ";
  expect_file_error(good.substr(0, good.size() - 3), required + "one that ends too early.");
  expect_file_error(good.substr(0, 12), required + "one that ends too early.");
  std::string wrong_sum = good;
  wrong_sum[good.size() - 8] = static_cast<char>(wrong_sum[good.size() - 8] ^ 1);
  expect_file_error(wrong_sum, required + "\"incorrect data check\".");
  std::string wrong_length = good;
  wrong_length[good.size() - 4] = static_cast<char>(wrong_length[good.size() - 4] ^ 1);
  expect_file_error(wrong_length, required + "\"incorrect length check\".");
  expect_file_error(good + "garbage", required + "other bytes after its end.");
}

}  // namespace
}  // namespace lowrank::app
