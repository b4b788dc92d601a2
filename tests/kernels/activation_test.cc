#include "kernels/activation.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "kernels/isa/kernel_table.h"

namespace lowrank::kernels {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

TEST(Activation, GradientOfReluIsZeroWhereItsOutputIs) {
  const auto y = at::tensor({0.0F, -0.0F, 1.0F, kNaN, 1e-40F, -1.0F});
  const auto dy = at::tensor({1.0F, 2.0F, 3.0F, 4.0F, 5.0F, kNaN});
  const at::NoGradGuard no_grad;
  EXPECT_TRUE(at::equal(relu_gradient(dy, y), at::tensor({0.0F, 0.0F, 3.0F, 4.0F, 5.0F, 0.0F})));
}

TEST(Activation, GradientOfReluIsLibTorchsHoweverTensorsLie) {
  at::manual_seed(0);
  for (const bool grad_mode : {true, false}) {
    const at::AutoGradMode mode(grad_mode);
    for (const auto dtype : {at::kFloat, at::kDouble, at::kBFloat16}) {
      for (const int64_t columns : {0, 1, 40, 3000}) {  // 33 x 3000 is split among threads
        const auto y = at::relu(at::randn({33, columns})).to(dtype);
        const auto dy = at::randn({33, columns}).to(dtype), turned = dy.t().contiguous().t();
        const auto expected = at::threshold_backward(dy, y, 0);
        EXPECT_TRUE(at::equal(relu_gradient(dy, y), expected));
        EXPECT_TRUE(at::equal(relu_gradient(turned, y), expected));
      }
    }
  }
}

TEST(Activation, LoopIsTheSameInEveryInstructionSet) {
  at::manual_seed(1);
  const auto y = at::randn({101}), dy = at::randn({101});
  for (int64_t count = 0; count < 101; ++count) {
    const auto expected = at::where(y > 0, dy, at::zeros({})).narrow(0, 0, count);
    for (const auto set : supported_instruction_sets()) {
      const auto found = at::full({101}, kNaN);
      kernel_table(set).where_positive_loop(found.data_ptr<float>(), dy.data_ptr<float>(),
                                            y.data_ptr<float>(), count);
      EXPECT_TRUE(at::equal(found.narrow(0, 0, count), expected)) << name_of(set) << ' ' << count;
      EXPECT_TRUE(at::isnan(found.narrow(0, count, 101 - count)).all().item<bool>());
    }
  }
}

}  // namespace
}  // namespace lowrank::kernels
