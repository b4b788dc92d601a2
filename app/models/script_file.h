#pragma once

#include <torch/csrc/jit/api/module.h>

#include <filesystem>
#include <string>

namespace lowrank::app {

/// Loads a TorchScript file on the CPU. Throws FileError if the file is not TorchScript (with the
/// first line of LibTorch's reason) or if its compressed parts would unpack to more than 256 MiB.
///
/// LibTorch reads recursively, and a file can nest more deeply than any stack: keep a StackGuard
/// with too_deep_message() for as long as the module is used.
torch::jit::Module load_script(const std::filesystem::path& file);

/// What a StackGuard should say about this file.
std::string too_deep_message(const std::filesystem::path& file);

}  // namespace lowrank::app
