#pragma once

#include <ATen/core/Tensor.h>
#include <lowrank/export.h>

#include <filesystem>
#include <string>

/// NumPy's .npy format, versions 1 to 3 (numpy/lib/format.py). Little and big endian, C and Fortran
/// order, any number of dimensions.
namespace lowrank {

/// Reads an array as a CPU tensor of the same shape. float16, float32, float64, int8 to int64,
/// uint8 and bool keep their dtype. LibTorch 1.13 has no types for the others: uint16 becomes
/// int32, uint32 and uint64 become int64. An array in Fortran order is returned as a view of its
/// transpose.
///
/// Throws FileError, naming the file, for anything else: the whole header is checked against the
/// size of the file before memory is allocated, and the file must end where the array ends. Object
/// arrays, which are Python pickles, are never read.
LOWRANK_API at::Tensor read_npy(const std::filesystem::path& path);

/// Returns the bytes of a version 1 file with this tensor in C order, as numpy.save writes them.
/// Throws TensorError for dtypes that NumPy does not have (bfloat16, quantized) and for complex.
LOWRANK_API std::string serialize_npy(const at::Tensor& tensor);

/// Writes the same to a file, atomically.
LOWRANK_API void write_npy(const std::filesystem::path& path, const at::Tensor& tensor);

}  // namespace lowrank
