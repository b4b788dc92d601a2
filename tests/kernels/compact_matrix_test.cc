#include "kernels/compact_matrix.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "kernels/linear.h"
#include "kernels/lora_linear.h"

namespace lowrank::kernels {
namespace {

constexpr CompactFormat kFormats[] = {CompactFormat::kBfloat16, CompactFormat::kFloat16,
                                      CompactFormat::kQ8_0, CompactFormat::kQ4_0,
                                      CompactFormat::kQ4_1};

/// Random bytes as a matrix in a compact format. The scales are small float16 numbers.
struct Bytes {
  std::vector<char> bytes;
  CompactMatrix matrix;

  Bytes(CompactFormat format, int64_t rows, int64_t columns, uint32_t seed = 1) {
    std::mt19937 random(seed);
    const auto block = block_of(format);
    bytes.resize(static_cast<size_t>(rows * columns / block.numbers * block.bytes));
    for (auto& byte : bytes) byte = static_cast<char>(random());
    const auto put = [&](size_t at) {  // 0.008 to 0.03, of either sign
      bytes[at + 1] = static_cast<char>(0x20 + random() % 8 + 128 * (random() % 2));
    };
    const auto scales = block.numbers == 1 ? 1 : format == CompactFormat::kQ4_1 ? 2 : 1;
    for (size_t at = 0; at < bytes.size(); at += static_cast<size_t>(block.bytes)) {
      if (format == CompactFormat::kBfloat16) {
        bytes[at + 1] = static_cast<char>(0x3C + 128 * (random() % 2));
      } else {
        for (int i = 0; i < scales; ++i) put(at + static_cast<size_t>(2 * i));
      }
    }
    matrix = {bytes.data(), format, rows, columns};
  }
};

/// The numbers by LibTorch's own conversion.
at::Tensor reference(const CompactMatrix& matrix) {
  const auto bytes = const_cast<char*>(matrix.bytes);
  if (matrix.format == CompactFormat::kBfloat16) {
    return at::from_blob(bytes, {matrix.rows, matrix.columns}, at::kBFloat16).to(at::kFloat);
  }
  if (matrix.format == CompactFormat::kFloat16) {
    return at::from_blob(bytes, {matrix.rows, matrix.columns}, at::kHalf).to(at::kFloat);
  }
  const auto block = block_of(matrix.format);
  const auto blocks =
      at::from_blob(bytes, {matrix.rows * matrix.columns / 32, block.bytes}, at::kByte);
  const auto half = [&](int64_t at) {
    return blocks.slice(1, at, at + 2).contiguous().view(at::kHalf).to(at::kFloat);
  };
  if (matrix.format == CompactFormat::kQ8_0) {
    const auto q = blocks.slice(1, 2).contiguous().view(at::kChar).to(at::kFloat);
    return (half(0) * q).view({matrix.rows, matrix.columns});
  }
  const bool has_minimum = matrix.format == CompactFormat::kQ4_1;
  const auto both = blocks.slice(1, has_minimum ? 4 : 2);
  const auto q = at::cat({both.bitwise_and(15), both.bitwise_right_shift(4)}, 1).to(at::kFloat);
  const auto numbers = has_minimum ? half(0) * q + half(2) : half(0) * (q - 8);
  return numbers.view({matrix.rows, matrix.columns});
}

std::vector<const KernelTable*> all_kernels() {
  std::vector<const KernelTable*> tables;
  for (const auto set : supported_instruction_sets()) tables.push_back(&kernel_table(set));
  return tables;
}

TEST(CompactMatrix, WidensBitForBit) {
  for (const auto format : kFormats) {
    const Bytes compact(format, 7, 96);
    const auto expected = reference(compact.matrix);
    EXPECT_TRUE(at::equal(widened(compact.matrix), expected)) << static_cast<int>(format);
    for (const auto* kernels : all_kernels()) {
      std::vector<float> row(32);
      widen_row(compact.matrix, 5, 64, 32, row.data(), *kernels);
      EXPECT_TRUE(at::equal(at::from_blob(row.data(), {32}), expected[5].slice(0, 64)));
    }
  }
}

/// Numbers that random bytes do not meet: subnormal, infinite, NaN, and a count that is no multiple
/// of a register.
TEST(CompactMatrix, WidensEveryFloat16) {
  std::vector<uint16_t> all(65536 + 3);
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<uint16_t>(i);
  const auto count = static_cast<int64_t>(all.size());
  const auto expected = at::from_blob(all.data(), {count}, at::kHalf).to(at::kFloat);
  for (const auto* kernels : all_kernels()) {
    at::Tensor found = at::empty({count});
    widen_row({reinterpret_cast<const char*>(all.data()), CompactFormat::kFloat16, 1, count}, 0, 0,
              count, found.data_ptr<float>(), *kernels);
    EXPECT_TRUE(at::allclose(found, expected, 0, 0, /*equal_nan=*/true));
  }
}

struct Layer {
  int64_t n, in, out, rank;
};

/// Sizes around those of the tiles, and of one row and many.
constexpr Layer kLayers[] = {{1, 64, 96, 1},   {3, 576, 192, 8},  {40, 320, 1504, 4},
                             {130, 96, 64, 2}, {17, 2080, 32, 3}, {300, 288, 288, 8}};

TEST(CompactMatrix, LayersAgreeWithFloat64) {
  at::manual_seed(0);
  for (const auto format : kFormats) {
    for (const auto& layer : kLayers) {
      const auto n = layer.n, in = layer.in, out = layer.out, rank = layer.rank;
      const Bytes compact(format, out, in);
      const auto dense = widened(compact.matrix).to(at::kDouble);
      const auto shell = at::empty({out, in});
      const LayerMatrix w(shell, &compact.matrix);
      const auto x = at::randn({n, in}), dy = at::randn({n, out}), bias = at::randn({out});
      const auto a = at::randn({rank, in}), b = at::randn({out, rank});
      const auto close = [&](const at::Tensor& found, const at::Tensor& expected) {
        EXPECT_LT((found.to(at::kDouble) - expected).norm().item<double>(),
                  1e-6 * expected.norm().item<double>())
            << static_cast<int>(format) << " " << n << " " << in << " " << out;
      };
      const auto [y, down] = lora_linear_forward(x, w, bias, a, b, 0.5);
      const auto x64 = x.to(at::kDouble), dy64 = dy.to(at::kDouble), a64 = a.to(at::kDouble),
                 b64 = b.to(at::kDouble);
      const auto effective = dense + 0.5 * at::mm(b64, a64);
      close(y, at::mm(x64, effective.t()) + bias.to(at::kDouble));
      const auto gradients =
          lora_linear_backward(dy, x, down, w, a, b, 0.5, {true, true, true, true});
      close(gradients.x, at::mm(dy64, effective));
      close(gradients.b, 0.5 * at::mm(dy64.t(), at::mm(x64, a64.t())));
      close(linear_forward(x, w, {}), at::mm(x64, dense.t()));
      // A Conv1D keeps W transposed.
      const auto shell_t = at::empty({out, in}).t();
      const LayerMatrix w_t(shell_t, &compact.matrix);
      close(linear_forward(dy, w_t, {}), at::mm(dy64, dense));
      close(linear_backward(x, dy, w_t, {true, false, false}).x, at::mm(x64, dense.t()));
    }
  }
}

TEST(CompactMatrix, ForwardIsBitForBitThatOfTheWidenedMatrix) {
  at::manual_seed(0);
  for (const auto& [n, in, out, rank] : kLayers) {
    const Bytes compact(CompactFormat::kQ8_0, out, in);
    const auto x = at::randn({n, in});
    EXPECT_TRUE(at::equal(linear_forward(x, LayerMatrix(at::empty({out, in}), &compact.matrix), {}),
                          linear_forward(x, widened(compact.matrix), {})))
        << n << " " << in << " " << out;
  }
}

/// A row's result depends neither on the other rows nor on the number of threads.
TEST(CompactMatrix, RowsDoNotDependOnOthers) {
  at::manual_seed(0);
  const Bytes compact(CompactFormat::kQ4_1, 640, 320);
  const LayerMatrix w(at::empty({640, 320}), &compact.matrix);
  const auto x = at::randn({70, 320}), dy = at::randn({70, 640});
  const auto y = linear_forward(x, w, {});
  const auto dx = linear_backward(dy, x, w, {true, false, false}).x;
  const auto threads = at::get_num_threads();
  at::set_num_threads(1);
  EXPECT_TRUE(at::equal(linear_forward(x, w, {}), y));
  EXPECT_TRUE(at::equal(linear_backward(dy, x, w, {true, false, false}).x, dx));
  at::set_num_threads(threads);
  const auto few = linear_backward(dy.slice(0, 3, 5), x.slice(0, 3, 5), w, {true, false, false}).x;
  EXPECT_TRUE(at::equal(few, dx.slice(0, 3, 5)));
  EXPECT_TRUE(at::equal(linear_forward(x.slice(0, 3, 5), w, {}), y.slice(0, 3, 5)));
}

}  // namespace
}  // namespace lowrank::kernels
