#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

namespace lowrank::app {

struct RenderOptions {
  int64_t most_columns = 80;  // of the terminal; wider images are shrunk by an integer factor
  bool ascii = false;         // ASCII characters instead of Unicode's shaded blocks
};

/// Draws a gray image, uint8 (H, W), as text in shades from blank (0) to full (255). A pixel takes
/// two columns, which makes it about square. Each row of pixels is one line, which ends with a
/// newline and has no trailing spaces. Throws TensorError unless the image is uint8 (H, W) on the
/// CPU with at least one pixel, and ArgumentError for fewer than two columns.
std::string render_image(const at::Tensor& image, const RenderOptions& options = {});

}  // namespace lowrank::app
