#pragma once

#include <lowrank/export.h>

// The version of these headers (semantic versioning). CMakeLists.txt reads it here.
#define LOWRANK_VERSION_MAJOR 0
#define LOWRANK_VERSION_MINOR 1
#define LOWRANK_VERSION_PATCH 0

namespace lowrank {

/// The version of the library that is loaded, "major.minor.patch".
LOWRANK_API const char* version();

/// The version of LibTorch that this library was built with, as LibTorch's own headers state it,
/// for example "2.10.0". (The headers in Debian's package of 1.13.1 state "1.13.0".)
LOWRANK_API const char* libtorch_version();

}  // namespace lowrank
