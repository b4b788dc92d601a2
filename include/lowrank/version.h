#pragma once

#include <lowrank/export.h>

namespace lowrank {

/// The library's version, "major.minor.patch" (semantic versioning).
LOWRANK_API const char* version();

/// The version of the LibTorch this library was built with, as its own headers say: for example
/// "2.10.0"; those of Debian's package of 1.13.1 say "1.13.0".
LOWRANK_API const char* libtorch_version();

}  // namespace lowrank
