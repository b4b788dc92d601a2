#pragma once

#include <lowrank/export.h>

#include <cstdint>
#include <filesystem>
#include <string>

namespace lowrank {

/// What becomes of pipes and devices: a pipe without a writer keeps whoever reads it waiting.
enum class Pipes { kRefused, kRead };

/// The whole content of a file, or of a pipe up to its end.
/// Throws FileError, naming the file, where it is missing, a folder, not readable, a pipe or device
/// that is refused, or longer than `most_bytes`; the size is checked before memory is taken.
LOWRANK_API std::string read_file(const std::filesystem::path& path, uint64_t most_bytes,
                                  Pipes pipes = Pipes::kRefused);

}  // namespace lowrank
