#pragma once

#include <filesystem>
#include <string>

namespace lowrank::cli {

/// Writes the manual pages of all commands and the completions for bash, zsh and fish below a
/// folder, each where it is to be installed below share/. `description` is what describe() returns.
void write_documents(const std::string& description, const std::filesystem::path& share);

}  // namespace lowrank::cli
