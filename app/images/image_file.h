#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <string>

namespace lowrank::app {

/// Which channels an image is read with.
enum class ImageChannels : uint8_t {
  kAny,   ///< one if the file is gray, else three
  kGray,  ///< one: colours become luminance
  kRgb,   ///< three, equal ones for a gray file
};

/// Reads an image as 8-bit numbers, where 0 is black: uint8 (H, W) if it has one channel, (3, H, W)
/// if it has three, on the CPU. The format is detected from the content: PNG of any colour type and
/// depth (transparent pixels are put on white, as image viewers show them), JPEG, or PGM, ASCII
/// (P2) or binary (P5), whose values of up to 16 bits are scaled to 0..255. An image may have at
/// most 64 million pixels, which is checked before memory is allocated.
///
/// Throws FileError, naming the file, if it is missing, in another format, too large, truncated or
/// damaged.
at::Tensor read_image(const std::filesystem::path& path, ImageChannels channels);

/// Throws FileError if an image of this size is empty or too large.
void check_image_size(int64_t width, int64_t height, const std::string& name);

/// Returns the luminance of RGB pixels (H, W, 3), ITU-R 601-2 as in Pillow: (H, W).
at::Tensor luminance(const at::Tensor& pixels);

/// Returns a PNG file of an 8-bit image, uint8 (H, W) gray or (3, H, W) RGB, on the CPU.
std::string png_bytes(const at::Tensor& image);

}  // namespace lowrank::app
