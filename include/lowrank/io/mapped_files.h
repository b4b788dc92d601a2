#pragma once

#include <lowrank/export.h>

namespace lowrank {

/// Returns the name of the file that is mapped into memory at this address, for example by
/// SafetensorsFile, or nullptr. If a file is cut short while it is mapped, the next access beyond
/// its end raises SIGBUS; a handler can say which file it was. Async-signal-safe. The name is
/// printable(), and cut at 1023 bytes.
LOWRANK_API const char* mapped_file_at(const void* address) noexcept;

}  // namespace lowrank
