#include "app/terminal/terminal_image.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <lowrank/error.h>

#include <algorithm>
#include <string_view>
#include <vector>

namespace lowrank::app {
namespace {

constexpr const char* kTerminalImage = "image";
constexpr int64_t kColumnsPerPixel = 2;

void check(const at::Tensor& image, const RenderOptions& options) {
  if (options.most_columns < kColumnsPerPixel) {
    fail<ArgumentError>(kTerminalImage, "an image must be given at least 2 columns",
                        fmt::format("{}", options.most_columns));
  }
  if (!image.defined() || image.scalar_type() != at::kByte || image.dim() != 2 ||
      image.numel() == 0 || !image.device().is_cpu()) {
    fail<TensorError>(
        kTerminalImage, "an image must be uint8 (H, W) on the CPU with at least one pixel",
        image.defined()
            ? fmt::format("{} of {} dimensions", c10::toString(image.scalar_type()), image.dim())
            : "an undefined tensor");
  }
}

/// Returns the rounded mean of each `factor` x `factor` block of pixels. Blocks at the right and
/// at the bottom may be smaller.
std::vector<std::vector<int64_t>> block_means(const at::Tensor& image, int64_t factor) {
  const auto pixels = image.accessor<uint8_t, 2>();
  std::vector<std::vector<int64_t>> means;
  for (int64_t top = 0; top < image.size(0); top += factor) {
    auto& row = means.emplace_back();
    for (int64_t left = 0; left < image.size(1); left += factor) {
      const int64_t bottom = std::min(top + factor, image.size(0));
      const int64_t right = std::min(left + factor, image.size(1));
      int64_t sum = 0;
      for (int64_t y = top; y < bottom; ++y) {
        for (int64_t x = left; x < right; ++x) sum += pixels[y][x];
      }
      const int64_t count = (bottom - top) * (right - left);
      row.push_back((sum + count / 2) / count);
    }
  }
  return means;
}

}  // namespace

std::string render_image(const at::Tensor& image, const RenderOptions& options) {
  check(image, options);
  static const std::vector<std::string_view> blocks = {" ", "░", "▒", "▓", "█"};
  static const std::vector<std::string_view> letters = {" ", ".", ":", "-", "=",
                                                        "+", "*", "#", "%", "@"};
  const auto& ramp = options.ascii ? letters : blocks;
  const auto shades = static_cast<int64_t>(ramp.size());
  const int64_t columns = options.most_columns / kColumnsPerPixel;
  const int64_t factor = (image.size(1) + columns - 1) / columns;
  std::string text;
  for (const auto& row : block_means(image, factor)) {
    size_t end = text.size();
    for (const int64_t value : row) {
      const int64_t shade = value * shades / 256;
      for (int64_t i = 0; i < kColumnsPerPixel; ++i) text += ramp[static_cast<size_t>(shade)];
      if (shade > 0) end = text.size();
    }
    text.resize(end);
    text += '\n';
  }
  return text;
}

}  // namespace lowrank::app
