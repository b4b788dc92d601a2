#pragma once

#include <torch/csrc/jit/api/module.h>

#include <filesystem>
#include <string_view>

namespace lowrank::app {

/// Loads a TorchScript file on the CPU. Throws FileError if it is none, with the first line of
/// LibTorch's reason, and if its code or its data nest so deeply that LibTorch, which reads them
/// recursively, would run out of stack.
torch::jit::Module load_script(const std::filesystem::path& file);

/// The deepest nesting of brackets, blocks and strings in TorchScript's code.
size_t depth_of_code(std::string_view code);
/// The deepest nesting of lists, tuples, dicts and objects in a pickle, as far as its opcodes are
/// those that TorchScript writes.
size_t depth_of_pickle(std::string_view pickle);

}  // namespace lowrank::app
