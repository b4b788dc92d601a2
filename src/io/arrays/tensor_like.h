#pragma once

#include <lowrank/io/safetensors.h>

#include <string>
#include <string_view>

namespace lowrank::io {

/// Returns a tensor of the file that must have the shape and dtype of `like`. Throws a FileError
/// with `operation` otherwise, and as SafetensorsFile::tensor() does.
at::Tensor tensor_like(const SafetensorsFile& file, const std::string& name, const at::Tensor& like,
                       std::string_view operation);

}  // namespace lowrank::io
