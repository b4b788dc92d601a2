#pragma once

#include <lowrank/export.h>

namespace lowrank {

/// The library's version, "major.minor.patch" (semantic versioning).
LOWRANK_API const char* version();

/// The version of the LibTorch this library was built with, for example "1.13.1".
LOWRANK_API const char* libtorch_version();

}  // namespace lowrank
