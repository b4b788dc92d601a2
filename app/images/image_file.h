#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>

namespace lowrank::app {

/// Reads an image as 8-bit gray: uint8 (H, W) on the CPU, 0 black. What the file is, is told by its
/// content: PNG of any colour type and depth (colours become luminance; transparent pixels are laid
/// on white, as image viewers show them) or PGM, plain (P2) and binary (P5), with values of up to
/// 16 bits scaled to 0..255. At most 64 million pixels, checked before memory is taken.
///
/// Throws FileError, naming the file, where it is missing, neither PNG nor PGM, too large,
/// truncated or damaged.
at::Tensor read_grayscale_image(const std::filesystem::path& path);

}  // namespace lowrank::app
