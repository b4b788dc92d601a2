#pragma once

#include <lowrank/export.h>

#include <cstdint>
#include <filesystem>
#include <string>

namespace lowrank {

/// The whole content of a file (or of a pipe, up to its end).
/// Throws FileError, naming the file, where it is missing, a folder, not readable, or longer than
/// `most_bytes`; the size is checked before memory is taken.
LOWRANK_API std::string read_file(const std::filesystem::path& path, uint64_t most_bytes);

}  // namespace lowrank
