#include "kernels/lora_linear.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "support/dense_reference.h"

namespace lowrank::kernels {
namespace {

/// The definition in float64, with gradients by autograd.
struct Reference {
  at::Tensor x, weight, bias, a, b, y;

  Reference(const at::Tensor& x32, const at::Tensor& weight32, const at::Tensor& bias32,
            const at::Tensor& a32, const at::Tensor& b32, double scaling) {
    const auto exact = [](const at::Tensor& tensor) {
      return tensor.to(at::kDouble).clone().set_requires_grad(true);
    };
    x = exact(x32), a = exact(a32), b = exact(b32);
    weight = weight32.to(at::kDouble);
    if (bias32.defined()) bias = exact(bias32);
    y = at::linear(x, weight + scaling * at::mm(b, a), bias);
  }
};

void expect_definition(at::ScalarType base, bool has_bias, int64_t rank) {
  const auto x = at::randn({7, 40}).to(base), weight = at::randn({30, 40}).to(base);
  const auto bias = has_bias ? at::randn({30}).to(base) : at::Tensor();
  const auto factors = base == at::kDouble ? at::kDouble : at::kFloat;
  const auto a = at::randn({rank, 40}).to(factors), b = at::randn({30, rank}).to(factors);
  const auto dy = at::randn({7, 30}).to(base);
  const Reference exact(x, weight, bias, a, b, 0.5);
  exact.y.backward(dy.to(at::kDouble));

  const auto [y, down] = lora_linear_forward(x, weight, bias, a, b, 0.5);
  const auto gradients = lora_linear_backward(dy, x, down, weight, a, b, 0.5,
                                              {.x = true, .a = true, .b = true, .bias = has_bias});
  const double tolerance = base == at::kBFloat16 ? 1e-2 : 1e-6;
  EXPECT_EQ(y.scalar_type(), base);
  EXPECT_LE(relative_error(y, exact.y.detach()), tolerance);
  EXPECT_LE(relative_error(gradients.x, exact.x.grad()), tolerance);
  EXPECT_LE(relative_error(gradients.a, exact.a.grad()), tolerance);
  EXPECT_LE(relative_error(gradients.b, exact.b.grad()), tolerance);
  if (has_bias) {
    EXPECT_LE(relative_error(gradients.bias, exact.bias.grad()), tolerance);
  }
}

TEST(LoraLinear, OutputAndGradientsEqualTheDefinitionInFloat64) {
  at::manual_seed(0);
  for (const auto base : {at::kFloat, at::kDouble, at::kBFloat16}) {
    for (const bool has_bias : {true, false}) {
      for (const int64_t rank : {3, 20}) {  // below and above the width of a register
        expect_definition(base, has_bias, rank);
      }
    }
  }
}

TEST(LoraLinear, OutputGoesThroughTheActivation) {
  at::manual_seed(0);
  for (const auto base : {at::kFloat, at::kDouble, at::kBFloat16}) {
    const auto x = at::randn({7, 40}).to(base), weight = at::randn({90, 40}).to(base);
    const auto factors = base == at::kDouble ? at::kDouble : at::kFloat;
    const auto a = at::randn({3, 40}).to(factors), b = at::randn({90, 3}).to(factors);
    const auto [y, down] = lora_linear_forward(x, weight, {}, a, b, 0.5);
    const auto [positive, same] = lora_linear_forward(x, weight, {}, a, b, 0.5, Activation::kRelu);
    EXPECT_LT(y.min().item<double>(), 0);
    EXPECT_TRUE(at::equal(positive, at::relu(y)));
    EXPECT_TRUE(at::equal(same, down));
  }
}

TEST(LoraLinear, ComputesOnlyTheGradientsThatAreWanted) {
  const auto x = at::randn({2, 4}), weight = at::randn({3, 4}), dy = at::randn({2, 3});
  const auto a = at::randn({1, 4}), b = at::randn({3, 1});
  const auto gradients = lora_linear_backward(dy, x, at::mm(x, a.t()), weight, a, b, 1,
                                              {.x = false, .a = false, .b = true, .bias = false});
  EXPECT_TRUE(gradients.b.defined());
  EXPECT_FALSE(gradients.x.defined() || gradients.a.defined() || gradients.bias.defined());
}

}  // namespace
}  // namespace lowrank::kernels
