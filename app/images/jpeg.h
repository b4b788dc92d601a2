#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "app/images/image_file.h"

namespace lowrank::app {

/// Returns whether these bytes begin as a JPEG file does.
bool is_jpeg(const std::string& bytes);

/// Reads a JPEG image: uint8 (H, W) for one channel, (3, H, W) for three. `name` is what messages
/// call it. Throws FileError if it is damaged or truncated, too large, or in a colour space that is
/// neither gray nor RGB (CMYK).
at::Tensor read_jpeg(const std::string& bytes, ImageChannels channels, const std::string& name);

}  // namespace lowrank::app
