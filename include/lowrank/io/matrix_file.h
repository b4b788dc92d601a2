#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/export.h>

#include <filesystem>
#include <optional>
#include <string>

namespace lowrank {

/// Reads one matrix from a file, whose extension names its format: `.npy` (npy.h), `.safetensors`
/// (safetensors.h), anything else is text (text_matrix.h). `tensor` is the name of a tensor in a
/// safetensors file; without it the file must hold exactly one two-dimensional tensor.
///
/// Throws FileError as those readers do, and for files of other programs that are known not to be
/// text (NumPy's .npz, PyTorch's pickles). Throws ArgumentError if a tensor has to be named (the
/// message lists the names in the file), or if one is named for a format without named tensors.
LOWRANK_API at::Tensor read_matrix(const std::filesystem::path& path,
                                   const std::optional<std::string>& tensor = std::nullopt);

}  // namespace lowrank
