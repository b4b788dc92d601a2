#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>

namespace lowrank::app {

/// Reads an IDX file (the format of MNIST: two zero bytes, a type code, the number of dimensions,
/// one big-endian 32-bit size a dimension, then the values), plain or gzip by its content.
/// Returns a contiguous uint8 tensor on the CPU of the file's own shape (1 to 8 dimensions).
///
/// Header, sizes and length are checked before memory is taken, and a gzip stream is inflated only
/// as far as the header promises. Throws FileError, naming the file, where it is missing, is no
/// IDX file, holds another type than unsigned bytes, or is truncated, over-long or corrupt.
at::Tensor read_idx(const std::filesystem::path& path);

}  // namespace lowrank::app
