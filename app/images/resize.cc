#include "app/images/resize.h"

#include <ATen/ATen.h>

#include <array>

namespace lowrank::app {

at::Tensor resize_image(const at::Tensor& image, int64_t height, int64_t width) {
  if (image.size(-2) == height && image.size(-1) == width) return image;
  const auto batch = image.view({1, -1, image.size(-2), image.size(-1)}).to(at::kFloat);
  const std::array<int64_t, 2> size = {height, width};
  const auto resized = at::_upsample_bilinear2d_aa(batch, size, /*align_corners=*/false);
  auto shape = image.sizes().vec();
  shape[shape.size() - 2] = height;
  shape[shape.size() - 1] = width;
  return resized.round().clamp(0, 255).to(at::kByte).view(shape);
}

}  // namespace lowrank::app
