#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace lowrank::app {

/// Returns an image, uint8 (H, W) or (C, H, W), in another size, as torchvision's resize does for
/// tensors: bilinear with antialiasing, in float32, then rounded and clamped to 0..255. An image of
/// that size is returned as it is.
at::Tensor resize_image(const at::Tensor& image, int64_t height, int64_t width);

}  // namespace lowrank::app
