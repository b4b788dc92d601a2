#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>

namespace lowrank::app {

/// Reads an IDX file (the format of MNIST: two zero bytes, a type code, the number of dimensions,
/// one big-endian 32-bit size for each dimension, then the values). The file may be compressed with
/// gzip, whatever its name. Returns a contiguous uint8 tensor on the CPU with the file's shape (1
/// to 8 dimensions).
///
/// Header, sizes and length are checked before memory is allocated, and a gzip stream is inflated
/// only as far as the header promises. Throws FileError, naming the file, if it is missing, is not
/// an IDX file, holds anything but unsigned bytes, or is truncated, too long or corrupt.
at::Tensor read_idx(const std::filesystem::path& path);

}  // namespace lowrank::app
