#pragma once

#include <filesystem>
#include <vector>

namespace lowrank::app {

/// Throws FileError if `output` is one of the command's inputs, under any name or link: --force may
/// replace what an earlier run wrote, but never what this one reads. Inputs that do not exist are
/// skipped.
void require_not_an_input(const std::filesystem::path& output,
                          const std::vector<std::filesystem::path>& inputs);

}  // namespace lowrank::app
