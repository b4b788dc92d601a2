#pragma once

#include <ATen/core/Tensor.h>
#include <fmt/ranges.h>

#include <string>

namespace lowrank {

/// Returns a shape for messages: "(3, 4)".
inline std::string shape_text(at::IntArrayRef shape) {
  return fmt::format("({})", fmt::join(shape, ", "));
}

}  // namespace lowrank
