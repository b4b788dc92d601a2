#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace lowrank::app {

/// Throws FileError if `output` is one of the command's inputs, under any name or link: --force may
/// replace what an earlier run wrote, but never what this one reads. Inputs that do not exist are
/// skipped.
void require_not_an_input(const std::filesystem::path& output,
                          const std::vector<std::filesystem::path>& inputs);

/// Does the same for the files that a command writes into a folder, and for the folder.
void require_no_inputs(const std::filesystem::path& folder, const std::vector<std::string>& names,
                       const std::vector<std::filesystem::path>& inputs);

/// Returns the files of an adapter's folder.
std::vector<std::filesystem::path> adapter_files(const std::filesystem::path& folder);

}  // namespace lowrank::app
