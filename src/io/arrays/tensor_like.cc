#include "io/arrays/tensor_like.h"

#include <ATen/ATen.h>
#include <fmt/ranges.h>
#include <lowrank/error.h>

namespace lowrank::io {

at::Tensor tensor_like(const SafetensorsFile& file, const std::string& name, const at::Tensor& like,
                       std::string_view operation) {
  auto tensor = file.tensor(name);
  if (tensor.sizes() == like.sizes() && tensor.scalar_type() == like.scalar_type()) return tensor;
  fail<FileError>(
      operation,
      fmt::format("\"{}\" in \"{}\" must be {} of shape ({})", name, file.path().string(),
                  c10::toString(like.scalar_type()), fmt::join(like.sizes(), ", ")),
      fmt::format("{} of shape ({})", c10::toString(tensor.scalar_type()),
                  fmt::join(tensor.sizes(), ", ")));
}

}  // namespace lowrank::io
