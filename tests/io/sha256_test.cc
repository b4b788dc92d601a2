#include <ATen/ATen.h>
#include <lowrank/error.h>
#include <lowrank/io/sha256.h>

#include "support/expect_error.h"

namespace lowrank {
namespace {

TEST(Sha256, GivesTheStandardsExamples) {
  // The examples of FIPS 180-4, and the empty message.
  EXPECT_EQ(sha256_hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_hex(std::string(1'000'000, 'a')),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256, TakesBytesPieceByPiece) {
  Sha256 sum;
  EXPECT_EQ(sum.hex(), sha256_hex(""));
  sum.update("a", 1);
  EXPECT_EQ(sum.hex(), sha256_hex("a"));
  sum.update("bc", 2);
  sum.update(nullptr, 0);
  EXPECT_EQ(sum.hex(), sha256_hex("abc"));
  Sha256 moved = std::move(sum);
  moved.update("d", 1);
  EXPECT_EQ(moved.hex(), sha256_hex("abcd"));
}

TEST(Sha256, OfATensorIsOfItsElementsInOrder) {
  const at::Tensor bytes = at::tensor({97, 98, 99}, at::kByte);
  EXPECT_EQ(sha256_hex(bytes), sha256_hex("abc"));
  const at::Tensor square = at::arange(16, at::kFloat).view({4, 4});
  EXPECT_EQ(sha256_hex(square.t()), sha256_hex(square.t().contiguous()));
  EXPECT_NE(sha256_hex(square.t()), sha256_hex(square));
  EXPECT_EQ(sha256_hex(square.slice(1, 1, 2)), sha256_hex(square.slice(1, 1, 2).clone()));
  EXPECT_EQ(sha256_hex(at::empty({0, 3})), sha256_hex(""));
  EXPECT_EQ(sha256_hex(at::ones({2}).requires_grad_()), sha256_hex(at::ones({2})));
}

TEST(Sha256, RefusesTensorsWithoutData) {
  LOWRANK_EXPECT_ERROR(
      sha256_hex(at::Tensor()), TensorError,
      "[sha256] the input must be a dense tensor with data. Got an undefined tensor.");
  LOWRANK_EXPECT_ERROR(sha256_hex(at::ones({2}, at::kMeta)), TensorError, "on the meta device");
}

}  // namespace
}  // namespace lowrank
