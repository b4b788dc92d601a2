#pragma once

#include <filesystem>

#include "app/data/source.h"

namespace lowrank::app {

/// Reads examples from a .npy file (with their labels in another one, DataSource::labels) or from
/// the tensors "inputs" and "labels" of a .safetensors file. Inputs (N, ...) of uint8 with three or
/// four dimensions are images: (N, H, W), (N, C, H, W), or (N, H, W, C) if only the last dimension
/// can be that of the channels (1 or 3). Other integers, like token ids, must fit into 2^24, and
/// any numbers must be finite. Throws ArgumentError if a file is not named, and FileError for what
/// does not fit.
Dataset read_arrays(const std::filesystem::path& file, const DataSource& source);

}  // namespace lowrank::app
