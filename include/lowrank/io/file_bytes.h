#pragma once

#include <lowrank/export.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

namespace lowrank {

/// Whether pipes and devices are read or refused. Reading a pipe that has no writer waits forever.
enum class Pipes { kRefused, kRead };

/// Returns the whole content of a file, or of a pipe up to its end. Throws FileError, naming the
/// file, if it is missing, a folder, not readable, a refused pipe or device, or longer than
/// `most_bytes`; the size is checked before memory is allocated. `check` is called with all that
/// has been read so far whenever more has arrived, and may throw, so that a device without an end
/// is not read in vain.
LOWRANK_API std::string read_file(const std::filesystem::path& path, uint64_t most_bytes,
                                  Pipes pipes = Pipes::kRefused,
                                  const std::function<void(std::string_view)>& check = {});

}  // namespace lowrank
