#pragma once

#include <lowrank/checkpoint/checkpoint.h>

#include <filesystem>

namespace lowrank::app {

/// Returns whether a file is a zip archive, as those that TorchScript and LibTorch write.
bool is_archive(const std::filesystem::path& file);

/// Opens the weights of a model in any format: those of Checkpoint::open(), and TorchScript files,
/// which are loaded whole. Throws what the two throw.
Checkpoint open_weights(const std::filesystem::path& place);

}  // namespace lowrank::app
