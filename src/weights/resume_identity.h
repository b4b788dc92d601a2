#pragma once

#include <lowrank/checkpoint/checkpoint.h>

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>

/// What an interrupted command was about, for its journal.
namespace lowrank {

/// Returns the names, sizes and times of a checkpoint's files: their bytes may be too many to read.
nlohmann::ordered_json file_identity(const Checkpoint& checkpoint);

/// Returns the SHA-256 of a file's bytes; that of no bytes if it cannot be read.
std::string sha256_of_file(const std::filesystem::path& path);

}  // namespace lowrank
