#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

namespace lowrank::app {

struct RenderOptions {
  int64_t most_columns = 80;  // of the terminal; larger images are shrunk by a whole factor
  bool ascii = false;         // plain characters instead of Unicode's shaded blocks
};

/// A gray image, uint8 (H, W), as text of shades from blank (0) to full (255): two columns a pixel,
/// which makes pixels square, one line a row, each ended by a newline, blanks at its end left out.
/// Throws TensorError for anything but such an image on the CPU with at least one pixel, and
/// ArgumentError for fewer than two columns.
std::string render_image(const at::Tensor& image, const RenderOptions& options = {});

}  // namespace lowrank::app
