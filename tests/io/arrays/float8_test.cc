#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <lowrank/io/float8.h>
#include <lowrank/io/safetensors.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "support/safetensors_bytes.h"
#include "support/temporary_folder.h"

namespace lowrank {
namespace {

constexpr auto kKinds = {Float8::kE4M3, Float8::kE5M2};

/// The widened numbers of all 256 bytes.
at::Tensor all_numbers(Float8 kind) {
  return widen_float8(at::arange(256, at::kInt).to(at::kByte), kind);
}

TEST(Float8, HasTheNumbersOfThePaper) {
  const auto e4m3 = all_numbers(Float8::kE4M3);  // Table 1 of arXiv 2209.05433
  EXPECT_EQ(e4m3[0x7E].item<float>(), 448);
  EXPECT_EQ(e4m3[0x08].item<float>(), std::ldexp(1, -6));
  EXPECT_EQ(e4m3[0x07].item<float>(), std::ldexp(0.875, -6));
  EXPECT_EQ(e4m3[0x01].item<float>(), std::ldexp(1, -9));
  EXPECT_EQ(e4m3[0x38].item<float>(), 1);
  EXPECT_EQ(e4m3[0xB8].item<float>(), -1);
  EXPECT_TRUE(std::isnan(e4m3[0x7F].item<float>()) && std::isnan(e4m3[0xFF].item<float>()));
  EXPECT_EQ(e4m3.isnan().sum().item<int64_t>(), 2);
  const auto e5m2 = all_numbers(Float8::kE5M2);
  EXPECT_EQ(e5m2[0x7B].item<float>(), 57344);
  EXPECT_EQ(e5m2[0x04].item<float>(), std::ldexp(1, -14));
  EXPECT_EQ(e5m2[0x03].item<float>(), std::ldexp(0.75, -14));
  EXPECT_EQ(e5m2[0x01].item<float>(), std::ldexp(1, -16));
  EXPECT_EQ(e5m2[0x7C].item<float>(), std::numeric_limits<float>::infinity());
  EXPECT_EQ(e5m2.isnan().sum().item<int64_t>(), 6);
}

TEST(Float8, ComesBackFromItsNumbers) {
  for (const auto kind : kKinds) {
    const auto bytes = float8_bytes(all_numbers(kind), kind);
    for (int64_t i = 0; i < 256; ++i) {
      if (std::isnan(all_numbers(kind)[i].item<float>())) continue;
      EXPECT_EQ(bytes[i].item<int64_t>(), i);
    }
  }
  EXPECT_TRUE(
      std::signbit(widen_float8(at::full({1}, 0x80, at::kByte), Float8::kE5M2)[0].item<float>()));
}

/// Against a search among all numbers.
TEST(Float8, RoundsToTheNearest) {
  at::manual_seed(0);
  for (const auto kind : kKinds) {
    const auto numbers = all_numbers(kind);
    const auto finite = numbers.masked_select(numbers.isfinite()).to(at::kDouble);
    const double largest = finite.max().item<double>();
    const auto values =
        at::randn({2000}, at::kDouble) * at::pow(2, at::randn({2000}, at::kDouble) * 6);
    for (int64_t i = 0; i < values.numel(); ++i) {
      const double value = std::clamp(values[i].item<double>(), -largest, largest);
      const double least = (finite - value).abs().min().item<double>();
      EXPECT_EQ(std::abs(round_to_float8(value, kind) - value), least) << value;
    }
  }
}

TEST(Float8, TakesTheEvenOneOfTwoAsNear) {
  EXPECT_EQ(round_to_float8(1.0625, Float8::kE4M3), 1);
  EXPECT_EQ(round_to_float8(1.1875, Float8::kE4M3), 1.25);
  EXPECT_EQ(round_to_float8(std::ldexp(1.5, -9), Float8::kE4M3), std::ldexp(2, -9));
  EXPECT_EQ(round_to_float8(std::ldexp(0.5, -9), Float8::kE4M3), 0);
  EXPECT_EQ(round_to_float8(464, Float8::kE4M3), 448);
  EXPECT_TRUE(std::isnan(round_to_float8(465, Float8::kE4M3)));
  EXPECT_TRUE(std::isnan(round_to_float8(std::numeric_limits<double>::infinity(), Float8::kE4M3)));
  EXPECT_EQ(round_to_float8(-61440, Float8::kE5M2), -std::numeric_limits<float>::infinity());
  EXPECT_EQ(round_to_float8(61439, Float8::kE5M2), 57344);
}

TEST(Float8, IsReadAndWrittenInSafetensors) {
  const TemporaryFolder folder;
  for (const auto& [kind, word] :
       {std::pair(Float8::kE4M3, "F8_E4M3"), std::pair(Float8::kE5M2, "F8_E5M2")}) {
    EXPECT_EQ(float8_kind(word), kind);
    std::string data;
    for (int i = 0; i < 6; ++i) data += static_cast<char>(0x31 + 17 * i);
    const std::string header =
        std::string(R"({"a":{"dtype":")") + word + R"(","shape":[2,3],"data_offsets":[0,6]}})";
    auto bytes = safetensors_bytes(header, 0) + data;
    const auto file = SafetensorsFile::open(folder.write("f.safetensors", bytes));
    EXPECT_EQ(file.format("a"), word);
    EXPECT_EQ(file.shape("a"), (std::vector<int64_t>{2, 3}));
    const auto tensor = file.tensor("a");
    EXPECT_EQ(tensor.scalar_type(), at::kFloat);
    EXPECT_TRUE(at::equal(tensor.view({-1}), all_numbers(kind).slice(0, 0x31, 0x31 + 86, 17)));
    write_safetensors(folder / "g.safetensors", {{"a", tensor, kind}, {"b", at::ones({2})}});
    const auto again = SafetensorsFile::open(folder / "g.safetensors");
    EXPECT_EQ(again.format("a"), word);
    EXPECT_TRUE(at::equal(again.tensor("a"), tensor));
    EXPECT_TRUE(at::equal(again.tensor("b"), at::ones({2})));
  }
  EXPECT_EQ(float8_kind("F32"), std::nullopt);
}

}  // namespace
}  // namespace lowrank
