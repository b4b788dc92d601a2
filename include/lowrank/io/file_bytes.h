#pragma once

#include <lowrank/export.h>

#include <cstdint>
#include <filesystem>
#include <string>

namespace lowrank {

/// Whether pipes and devices are read or refused. Reading a pipe that has no writer waits forever.
enum class Pipes { kRefused, kRead };

/// Returns the whole content of a file, or of a pipe up to its end. Throws FileError, naming the
/// file, if it is missing, a folder, not readable, a refused pipe or device, or longer than
/// `most_bytes`; the size is checked before memory is allocated.
LOWRANK_API std::string read_file(const std::filesystem::path& path, uint64_t most_bytes,
                                  Pipes pipes = Pipes::kRefused);

}  // namespace lowrank
