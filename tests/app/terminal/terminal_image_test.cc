#include "app/terminal/terminal_image.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <lowrank/error.h>

#include "support/expect_error.h"

namespace lowrank::app {
namespace {

at::Tensor image(const std::vector<int64_t>& values, at::IntArrayRef sizes) {
  return at::tensor(values).to(at::kByte).view(sizes);
}

TEST(TerminalImage, ShadesEachPixelTwoColumnsWide) {
  const at::Tensor ramp = image({0, 60, 120, 180, 255, 0}, {1, 6});
  EXPECT_EQ(render_image(ramp), "  ░░▒▒▓▓██\n");
  EXPECT_EQ(render_image(ramp, {.ascii = true}), "  ::==##@@\n");
}

TEST(TerminalImage, LeavesOutBlanksAtTheEnd) {
  EXPECT_EQ(render_image(image({255, 0, 0, 0, 0, 255}, {3, 2})), "██\n\n  ██\n");
}

TEST(TerminalImage, ShrinksToTheTerminal) {
  const at::Tensor wide = image({255, 255, 0, 0, 255, 255, 0, 255}, {2, 4});
  EXPECT_EQ(render_image(wide, {.most_columns = 4}), "██░░\n");
  EXPECT_EQ(render_image(wide, {.most_columns = 7, .ascii = true}), "@@::\n");
  EXPECT_EQ(render_image(image({0, 0, 255}, {1, 3}), {.most_columns = 4}), "  ██\n");
}

TEST(TerminalImage, TakesStridedImages) {
  const at::Tensor tall = image({0, 255, 255, 0}, {2, 2});
  EXPECT_EQ(render_image(tall.t()), render_image(tall.t().contiguous()));
}

TEST(TerminalImage, RefusesWhatIsNoImage) {
  LOWRANK_EXPECT_ERROR(
      render_image(at::zeros({2, 2})), TensorError,
      "[image] an image must be uint8 (H, W) on the CPU with at least one pixel. Got "
      "Float of 2 dimensions.");
  LOWRANK_EXPECT_ERROR(render_image(at::zeros({4}, at::kByte)), TensorError, "Got Byte of 1");
  LOWRANK_EXPECT_ERROR(render_image(at::zeros({0, 4}, at::kByte)), TensorError, "one pixel");
  LOWRANK_EXPECT_ERROR(render_image({}), TensorError, "Got an undefined tensor.");
  LOWRANK_EXPECT_ERROR(render_image(at::zeros({2, 2}, at::kByte), {.most_columns = 1}),
                       ArgumentError, "[image] an image must be given at least 2 columns. Got 1.");
}

}  // namespace
}  // namespace lowrank::app
