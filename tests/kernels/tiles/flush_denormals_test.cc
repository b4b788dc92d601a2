#include "kernels/tiles/flush_denormals.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "kernels/adam_step.h"

#if defined(__SSE2__)

namespace lowrank::kernels {
namespace {

constexpr float kTiny = 1e-39F;  // below the smallest normal number, 1.2e-38

float half(float number) {
  volatile float value = number;
  value = value * 0.5F;
  return value;
}

TEST(FlushDenormals, CountsAsZeroWhatIsTooSmallWhileItLives) {
  {
    const FlushDenormals flush;
    EXPECT_EQ(half(kTiny), 0);
    {
      const FlushDenormals inner;
      EXPECT_EQ(half(kTiny), 0);
    }
    EXPECT_EQ(half(kTiny), 0);
    EXPECT_EQ(half(1), 0.5F);
  }
  EXPECT_GT(half(kTiny), 0);
}

TEST(FlushDenormals, MomentsWhoseGradientIsZeroBecomeZero) {
  const int64_t count = 100000;  // enough for all threads
  auto p = at::ones({count}), m = at::full({count}, kTiny), v = at::full({count}, kTiny);
  const auto g = at::zeros({count});
  adam_step(p.data_ptr<float>(), g.data_ptr<float>(), m.data_ptr<float>(), v.data_ptr<float>(),
            count,
            {.beta1 = 0.9, .beta2 = 0.99, .epsilon = 1e-8, .step_size = 1, .root_correction2 = 1});
  EXPECT_EQ(m.count_nonzero().item<int64_t>(), 0);
  EXPECT_EQ(v.count_nonzero().item<int64_t>(), 0);
  EXPECT_TRUE(at::equal(p, at::ones({count})));
  EXPECT_GT(half(kTiny), 0);
}

}  // namespace
}  // namespace lowrank::kernels

#endif
