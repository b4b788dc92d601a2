#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <string>

namespace lowrank::app {

/// Reads an image as 8-bit gray: uint8 (H, W) on the CPU, where 0 is black. The format is detected
/// from the content: PNG of any colour type and depth (colours become luminance; transparent pixels
/// are put on white, as image viewers show them) or PGM, ASCII (P2) or binary (P5), whose values of
/// up to 16 bits are scaled to 0..255. An image may have at most 64 million pixels, which is
/// checked before memory is allocated.
///
/// Throws FileError, naming the file, if it is missing, neither PNG nor PGM, too large, truncated
/// or damaged.
at::Tensor read_grayscale_image(const std::filesystem::path& path);

/// Returns a PNG file of an 8-bit gray image, uint8 (H, W) on the CPU.
std::string png_bytes(const at::Tensor& image);

}  // namespace lowrank::app
