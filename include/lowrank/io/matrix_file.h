#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/export.h>

#include <filesystem>
#include <optional>
#include <string>

namespace lowrank {

/// Reads one matrix from a file of the kind its extension names: `.npy` (npy.h), `.safetensors`
/// (safetensors.h), anything else as text (text_matrix.h). `tensor` is the name of a tensor in a
/// safetensors file; without one the file must hold exactly one two-dimensional tensor.
///
/// Throws FileError as those readers do, and for the files of other programs that are known not to
/// be text (NumPy's .npz, PyTorch's pickles); ArgumentError where a tensor has to be named, with
/// the names there are, or is named for a file that has none.
LOWRANK_API at::Tensor read_matrix(const std::filesystem::path& path,
                                   const std::optional<std::string>& tensor = std::nullopt);

}  // namespace lowrank
