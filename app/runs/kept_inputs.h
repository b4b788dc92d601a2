#pragma once

#include <filesystem>
#include <vector>

namespace lowrank::app {

/// Throws FileError where `output` is one of the command's inputs, under whatever name or link:
/// --force replaces what an earlier run wrote, never what this one reads. Inputs that do not exist
/// are passed over.
void require_no_input(const std::filesystem::path& output,
                      const std::vector<std::filesystem::path>& inputs);

}  // namespace lowrank::app
